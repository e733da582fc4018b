"""What every Linux tells: load, memory, pressure, heat, batteries; a phone's and a board's too."""

import os
from collections.abc import Callable, Iterable

from agent.sensors.cpu import CpuMeter, boottime_s
from agent.sensors.heat import HeatMeter
from agent.sensors.memory import MemoryMeter
from agent.sensors.power import PowerMeter
from agent.sensors.pressure import read_pressure
from agent.sensors.provider import Quiet
from agent.sensors.rails import InputMeter
from agent.sensors.reading import Reading
from agent.sensors.tree import Tree


class Linux(Quiet):
    """Reads `/proc` and `/sys`. In a proot they are made up in part, which is told apart.

    Args:
        tree: the machine.
        own_pids: the runners' processes, whose CPU time is not foreign.
    """

    def __init__(self, tree: Tree, own_pids: Callable[[], Iterable[int]]) -> None:
        self._tree = tree
        clock = boottime_s if tree.is_real else None
        self._cpu = CpuMeter(tree, lambda: {os.getpid(), *own_pids()}, clock)
        self._memory = MemoryMeter(tree)
        self._heat = HeatMeter(tree)
        self._power = PowerMeter(tree)
        self._input = InputMeter(tree)

    def discover(self) -> None:
        """Look for zones, batteries and meters again, and whether `/proc` is made up."""
        self._cpu.discover()
        self._heat.discover()
        self._power.discover()
        self._input.discover()

    def read(self, now_s: float) -> Reading:
        """Read all files; CPU use is that since the reading before."""
        cpu_pressure = read_pressure(self._tree, "cpu")
        cpu = self._cpu.read(now_s, cpu_pressure.some_s)
        memory = self._memory.read()
        memory_pressure = read_pressure(self._tree, "memory")
        power = self._power.read()
        input_w = self._input.watts()
        watts = power.watts if input_w is None else input_w
        return Reading(
            cpu_percent=cpu.percent,
            own_cpu_percent=cpu.own_percent,
            foreign_cpu_percent=cpu.foreign_percent,
            memory_total_mib=memory.total_mib,
            memory_available_mib=memory.available_mib,
            memory_available_percent=memory.available_percent,
            psi_cpu_some_avg10=cpu_pressure.some_avg10,
            psi_memory_some_avg10=memory_pressure.some_avg10,
            psi_memory_full_avg10=memory_pressure.full_avg10,
            temperature_c=self._heat.temperature_c(),
            battery_percent=power.percent,
            battery_plugged=power.plugged,
            battery_temperature_c=power.temperature_c,
            power_w=watts,
            power_method=None if watts is None else "battery" if input_w is None else "rail",
        )
