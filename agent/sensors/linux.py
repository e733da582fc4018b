"""One reading of everything that a Linux machine tells of its load."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from agent.sensors.cpu import CpuMeter
from agent.sensors.heat import HeatMeter
from agent.sensors.memory import MemoryMeter
from agent.sensors.power import PowerMeter
from agent.sensors.pressure import read_pressure
from agent.sensors.tree import Tree
from protocols.device import Sample

_DISCOVER_EVERY_S = 60.0


def no_runners() -> tuple[int, ...]:
    """Return no pid: an agent that has no runners yet."""
    return ()


class Sensors:
    """The sensors of the machine below `sysroot`; one thread at a time may use them.

    Args:
        sysroot: the folder that has `proc` and `sys`.
        own_pids: the runners' processes, whose CPU time is not foreign. That of the process that
            samples never is, and children that have ended are found in their parent's.
    """

    def __init__(
        self,
        sysroot: Path = Path("/"),
        own_pids: Callable[[], Iterable[int]] = no_runners,
    ) -> None:
        self._tree = Tree(sysroot)
        self._cpu = CpuMeter(self._tree, lambda: {os.getpid(), *own_pids()})
        self._memory = MemoryMeter(self._tree)
        self._heat = HeatMeter(self._tree)
        self._power = PowerMeter(self._tree)
        self._discovered_s: float | None = None

    def sample(self, now_s: float) -> Sample:
        """Read all sensors; None for what the machine has not, hides, or tells nonsense about.

        CPU use is that since the sample before, so the first sample has none. A sample that
        follows within 0.2 s repeats it and reads everything else afresh.

        Args:
            now_s: monotonic clock, which becomes the sample's time.
        """
        self._discover(now_s)
        cpu = self._cpu.read(now_s)
        memory = self._memory.read()
        memory_pressure = read_pressure(self._tree, "memory")
        power = self._power.read()
        return Sample(
            time_s=now_s,
            cpu_percent=_short(cpu.percent),
            own_cpu_percent=_short(cpu.own_percent),
            foreign_cpu_percent=_short(cpu.foreign_percent),
            memory_total_mib=_short(memory.total_mib),
            memory_available_mib=_short(memory.available_mib),
            memory_available_percent=_short(memory.available_percent),
            psi_cpu_some_avg10=read_pressure(self._tree, "cpu").some_avg10,
            psi_memory_some_avg10=memory_pressure.some_avg10,
            psi_memory_full_avg10=memory_pressure.full_avg10,
            temperature_c=_short(self._heat.temperature_c()),
            throttled=self._heat.throttled(),
            battery_percent=_short(power.percent),
            battery_plugged=power.plugged,
            battery_temperature_c=_short(power.temperature_c),
        )

    def _discover(self, now_s: float) -> None:
        last = self._discovered_s
        if last is None or not 0 <= now_s - last < _DISCOVER_EVERY_S:
            self._heat.discover()
            self._power.discover()
            self._discovered_s = now_s


def _short(value: float | None) -> float | None:
    """Two digits are more than any of these sensors has, and telemetry stays small."""
    return None if value is None else round(value, 2)
