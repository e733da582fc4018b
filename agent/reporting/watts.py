"""What one busy CPU takes on this device, from the power of the whole device. Pure.

Power is of the whole device, and no sensor tells whose it is. What can be said: a device that idles
takes so much, and what it takes beyond that, while its CPUs work, is shared among the CPU seconds
that were spent meanwhile, ours and others' alike:

    watts of a busy CPU = sum of (power - idle power) x time / sum of busy CPU seconds

Readings are weighed by the minute: a board's rails are read every ten seconds, a battery's gauge
moves more slowly still, and over a minute what a reading lags behind evens out.

* A minute with at most a tenth of the CPU busy tells the idle power: the least of such minutes,
  which rises towards later ones in about an hour, so that a new disk or a brighter screen is
  followed. (Up to a tenth of the CPU counts as idling: what comes out is low by that at most.)
* A busier minute tells the watts; older minutes fade within a quarter of an hour.
* A gap in the readings, or one without power (a battery that is charged says nothing of what is
  used), ends the minute: nothing is made of it. Another method begins everything anew.
"""

import math
from dataclasses import dataclass

from protocols.device import Sample
from protocols.profile import EnergyMethod

LONGEST_GAP_S = 10.0
"""Samples come twice a second, five seconds apart at most."""

_MINUTE_S = 60.0
_IDLE_BUSY = 0.1
_IDLE_RISES_S = 3600.0
_FADES_S = 900.0
_FEWEST_CPU_S = 10.0
"""Of busy CPU time, before anything is said."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a busy CPU takes, by one method, which has held without a break since `since_s`."""

    watts_per_cpu: float
    method: EnergyMethod
    since_s: float


@dataclass(slots=True)
class _Sum:
    """What has been added up: seconds, joules of the whole device, busy CPU seconds."""

    span_s: float = 0.0
    joules: float = 0.0
    busy_s: float = 0.0


class BusyPower:
    """Learns from samples, in the order in which they were taken.

    Args:
        cpus: how many `cpu_percent` is of.
    """

    def __init__(self, cpus: int) -> None:
        self._cpus = cpus
        self._method: EnergyMethod | None = None
        self._idle_w: float | None = None
        self._above, self._minute = _Sum(), _Sum()
        self._since_s, self._last_s = math.inf, -math.inf

    @property
    def rate(self) -> Rate | None:
        """What is known now; None: nothing, or power cannot be read at this moment."""
        known = self._above.busy_s >= _FEWEST_CPU_S and self._above.joules > 0
        if not known or self._method is None or math.isinf(self._since_s):
            return None
        return Rate(self._above.joules / self._above.busy_s, self._method, self._since_s)

    def look(self, sample: Sample) -> None:
        """Take a sample in: its power and CPU use are of the time since the one before."""
        span_s, self._last_s = sample.time_s - self._last_s, sample.time_s
        if sample.power_w is None or sample.power_method is None or sample.cpu_percent is None:
            self._interrupt()
            return
        if sample.power_method != self._method:
            self._begin(sample.power_method)
        if not 0 <= span_s <= LONGEST_GAP_S:
            self._interrupt()
            self._since_s = sample.time_s
            return
        self._since_s = min(self._since_s, sample.time_s)
        minute = self._minute
        minute.span_s += span_s
        minute.joules += sample.power_w * span_s
        minute.busy_s += self._cpus * sample.cpu_percent / 100 * span_s
        if minute.span_s >= _MINUTE_S:
            self._minute = _Sum()
            self._learn(minute)

    def _begin(self, method: EnergyMethod) -> None:
        self._method, self._idle_w = method, None
        self._above = _Sum()
        self._interrupt()

    def _interrupt(self) -> None:
        self._minute = _Sum()
        self._since_s = math.inf

    def _learn(self, minute: _Sum) -> None:
        mean_w = minute.joules / minute.span_s
        if minute.busy_s <= _IDLE_BUSY * self._cpus * minute.span_s:
            idle_w = mean_w if self._idle_w is None else self._idle_w
            risen_w = idle_w + (mean_w - idle_w) * minute.span_s / _IDLE_RISES_S
            self._idle_w = min(mean_w, risen_w)
        elif self._idle_w is not None:
            kept = math.exp(-minute.span_s / _FADES_S)
            self._above = _Sum(
                joules=kept * self._above.joules + minute.joules - self._idle_w * minute.span_s,
                busy_s=kept * self._above.busy_s + minute.busy_s,
            )
