"""The device itself: who gets which CPU, how warm it is, what memory and battery are left."""

import math

from protocols.device import Sample
from tests.plant.pictures import Battery, Picture

OWN_MIB = 85.0
"""Supervisor and runner without a model: what `protocols.memory` counts for them."""
KILL_SHARE = 0.01
"""So little memory left, and the kernel kills."""

_WEIGHT_0, _WEIGHT_STEP = 1024.0, 1.25
"""The scheduler's weight of nice 0, and by how much each step of nice divides it."""
_SLOWEST, _SLOWER_PER_C = 0.5, 0.1
_STALL_BELOW, _STALL_PERCENT = 0.08, 60.0
_FULL_BELOW, _FULL_PERCENT = 0.03, 40.0
"""Memory stalls begin below these shares of memory, and grow to so many percent: assumptions."""
_AVERAGED_S = 10.0
_BATTERY_WARM_UP_S = 900.0
_THROTTLED, _SOFT_LIMIT = 0b0100, 0b1000
_SOFT_BAND_C = 2.0


def _share_left(left: float, stalls_below: float) -> float:
    return min(1.0, max(0.0, 1 - left / stalls_below))


class Body:
    """A device's state; `pass_second` carries it on."""

    def __init__(self, picture: Picture, hour: float = 0.0) -> None:
        self.picture = picture
        self.temperature_c = picture.ambient_c + picture.kelvin_per_w * picture.idle_w
        self.battery_c = picture.ambient_c
        self.charge_wh = picture.battery.wh if picture.battery else math.inf
        self.used_wh = self.denied_core_s = 0.0
        self.others_cores = 0.0
        self.others_mib = 0.0
        self._hour = hour
        self._count = len(picture.cpus)
        self._some = self._full = 0.0
        self._own_cores = 0.0
        self._others_had = 0.0

    @property
    def on(self) -> bool:
        """Whether there is any charge left."""
        return self.charge_wh > 0

    @property
    def slowdown(self) -> float:
        """Clock relative to the full one."""
        above_c = self.temperature_c - self.picture.slow_at_c
        return min(1.0, max(_SLOWEST, 1 - _SLOWER_PER_C * above_c))

    def left_mib(self, models_mib: float) -> float:
        """Return what is available beside these models."""
        taken = self.picture.system_mib + self.others_mib + OWN_MIB + models_mib
        return max(0.0, self.picture.memory_mib - taken)

    def share(self, threads: int, cpus: tuple[int, ...] | None, nice: int) -> float:
        """Return how much of its CPU each of our busy threads gets, as a fair scheduler has it."""
        count, others = self._there(cpus)
        if threads + others <= count:
            return 1.0
        weight = _WEIGHT_0 / _WEIGHT_STEP**nice
        fair = count * weight / (weight * threads + _WEIGHT_0 * others)
        return min(1.0, max(fair, (count - others) / threads, 0.01))

    def _there(self, cpus: tuple[int, ...] | None) -> tuple[int, float]:
        """Return how many CPUs a set has, and how many cores others keep busy there."""
        if cpus is None:
            return self._count, self.others_cores
        left, there = self.others_cores, 0.0
        for group in self.picture.cores:  # others are put on the fastest first
            busy = min(left, len(group.cpus))
            left -= busy
            there += busy * sum(cpu in cpus for cpu in group.cpus) / len(group.cpus)
        return len(cpus), there

    def sample(self, now_s: float, models_mib: float) -> Sample:
        """Return what the sensors would read."""
        picture = self.picture
        left_mib = self.left_mib(models_mib)
        battery = picture.battery
        own = 100 * self._own_cores / self._count
        others = 100 * self._others_had / self._count
        # Values of our own making need no validation, which would take half the time of a day.
        return Sample.model_construct(
            time_s=now_s,
            cpu_percent=min(100.0, own + others),
            own_cpu_percent=own,
            foreign_cpu_percent=others,
            memory_total_mib=picture.memory_mib,
            memory_available_mib=left_mib,
            memory_available_percent=100 * left_mib / picture.memory_mib,
            psi_memory_some_avg10=self._some,
            psi_memory_full_avg10=self._full,
            temperature_c=self.temperature_c,
            throttled=self._bits() if picture.has_bits else None,
            battery_percent=100 * self.charge_wh / battery.wh if battery else None,
            battery_plugged=self._plugged(battery) if battery else None,
            battery_temperature_c=self.battery_c if battery else None,
        )

    def _bits(self) -> int:
        above_c = self.temperature_c - self.picture.slow_at_c
        return (_SOFT_LIMIT * (above_c >= 0)) | (_THROTTLED * (above_c >= _SOFT_BAND_C))

    def _plugged(self, battery: Battery) -> bool:
        begin, end = battery.plugged
        return (self._hour - begin) % 24 < (end - begin) % 24

    def pass_second(self, own_cores: float, models_mib: float, cpus: tuple[int, ...]) -> None:
        """Let a second pass in which we kept so many cores busy, on these CPUs."""
        picture = self.picture
        self._own_cores = min(own_cores, self._count)
        self._others_had = min(self.others_cores, self._count - self._own_cores)
        self.denied_core_s += min(self.others_cores, self._count) - self._others_had
        power_w = self._power_w(cpus)
        goal_c = picture.ambient_c + picture.kelvin_per_w * power_w
        self.temperature_c += (goal_c - self.temperature_c) / picture.warm_up_s
        left = self.left_mib(models_mib) / picture.memory_mib
        some = _STALL_PERCENT * _share_left(left, _STALL_BELOW)
        full = _FULL_PERCENT * _share_left(left, _FULL_BELOW)
        self._some += (some - self._some) / _AVERAGED_S
        self._full += (full - self._full) / _AVERAGED_S
        self.used_wh += power_w / 3600
        if picture.battery:
            self._charge(picture.battery, power_w)
        self._hour = (self._hour + 1 / 3600) % 24

    def _power_w(self, cpus: tuple[int, ...]) -> float:
        """Others run on the fastest cores first; we where the plan says."""
        left, busy_w = self._others_had, 0.0
        for group, core_w in zip(self.picture.cores, self.picture.core_w, strict=True):
            busy = min(left, len(group.cpus))
            left -= busy
            mine = sum(cpu in cpus for cpu in group.cpus) / max(1, len(cpus))
            busy_w += core_w * min(len(group.cpus), busy + self._own_cores * mine)
        return self.picture.idle_w + busy_w * self.slowdown**2

    def _charge(self, battery: Battery, power_w: float) -> None:
        net_w = (battery.charge_w if self._plugged(battery) else 0.0) - power_w
        self.charge_wh = min(battery.wh, max(0.0, self.charge_wh + net_w / 3600))
        goal_c = self.picture.ambient_c + battery.kelvin_per_w * power_w
        self.battery_c += (goal_c - self.battery_c) / _BATTERY_WARM_UP_S
