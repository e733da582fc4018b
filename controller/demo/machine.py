"""A scripted machine: a /proc and /sys tree below a folder, kept alive while a demo plays.

What other programs do is scripted; what the agent and its runner do is real, and is added: their
CPU time moves `/proc/stat` and their memory is taken from MemAvailable, so that a stage that leaves
is felt as on a board.
"""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from controller.demo.pictures import Picture

TICK_S = 0.2
RUNNER = "agent.runner"
"""How a runner's command line is known. Other children of the agent come and go in a moment."""

_HZ = 100
_MIB_KIB = 1024


@dataclass
class Foreign:
    """What is not ours on the machine, as the script has it at this moment."""

    cpu_percent: float
    memory_mib: float
    temperature_c: float
    battery_percent: float = 100.0
    plugged: bool = False
    stall_percent: float = 0.0


class ScriptedMachine:
    """Writes the tree of one device and moves its counters until it is stopped."""

    def __init__(self, picture: Picture, root: Path) -> None:
        self.picture = picture
        self.root = root
        self.foreign = Foreign(
            cpu_percent=6.0,
            memory_mib=picture.used_mib,
            temperature_c=picture.temperature_c,
            battery_percent=82.0,
        )
        self._busy_ticks = 0.0
        self._idle_ticks = 0.0
        self._agent: psutil.Process | None = None
        self._own_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=picture.name, daemon=True)

    def start(self) -> None:
        """Write the whole tree, then keep it moving."""
        self._write_facts()
        self._tick(TICK_S)
        self._thread.start()

    def stop(self) -> None:
        """Freeze it."""
        self._stop.set()
        self._thread.join()

    def host(self, agent_pid: int) -> None:
        """Count this process and its runners as running on this machine."""
        self._agent = psutil.Process(agent_pid)

    def leave_available(self, percent: float) -> None:
        """Let others take memory until this much is available, as much as ours leaves."""
        own_mib = sum(_rss_mib(p) for p in self._own())
        self.foreign.memory_mib = self.picture.memory_mib * (1 - percent / 100) - own_mib

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stop.wait(TICK_S):
            now = time.monotonic()
            self._tick(now - before)
            before = now

    def _tick(self, span_s: float) -> None:
        own = self._own()
        own_s = sum(_cpu_s(p) for p in own)
        spent_s, self._own_s = max(0.0, own_s - self._own_s), own_s
        cpus = len(self.picture.cpus)
        foreign_s = self.foreign.cpu_percent / 100 * cpus * span_s
        busy_s = min(cpus * span_s, foreign_s + spent_s)
        self._busy_ticks += busy_s * _HZ
        self._idle_ticks += (cpus * span_s - busy_s) * _HZ
        self._write_load(sum(_rss_mib(p) for p in own))

    def _own(self) -> list[psutil.Process]:
        if self._agent is None:
            return []
        try:
            children = self._agent.children()
            return [self._agent, *(c for c in children if RUNNER in c.cmdline())]
        except psutil.Error:
            return []

    def _write_facts(self) -> None:
        picture = self.picture
        self._put("proc/device-tree/model", picture.title)
        self._put("proc/sys/kernel/osrelease", "6.6.51")
        self._put("proc/sys/kernel/arch", "aarch64")
        cpus = "sys/devices/system/cpu"
        self._put(f"{cpus}/online", f"0-{len(picture.cpus) - 1}")
        for number, cpu in enumerate(picture.cpus):
            self._put(f"{cpus}/cpu{number}/cpufreq/cpuinfo_max_freq", cpu.max_khz)
            if cpu.capacity is not None:
                self._put(f"{cpus}/cpu{number}/cpu_capacity", cpu.capacity)
        self._put("sys/class/thermal/thermal_zone0/type", picture.zone)
        if picture.battery:
            self._put("sys/class/power_supply/battery/type", "Battery")

    def _write_load(self, own_mib: float) -> None:
        foreign, picture = self.foreign, self.picture
        self._put("proc/stat", "\n".join(self._stat()))
        available_mib = max(0.0, picture.memory_mib - foreign.memory_mib - own_mib)
        self._put("proc/meminfo", "\n".join(_meminfo(picture.memory_mib, available_mib)))
        for kind, some in (("memory", foreign.stall_percent), ("cpu", foreign.cpu_percent / 4)):
            self._put(f"proc/pressure/{kind}", f"{_psi('some', some)}\n{_psi('full', some / 4)}")
        self._put("sys/class/thermal/thermal_zone0/temp", round(foreign.temperature_c * 1000))
        if picture.throttling:
            self._put("sys/devices/platform/soc/soc:firmware/get_throttled", "0")
        if picture.battery:
            battery = "sys/class/power_supply/battery"
            self._put(f"{battery}/capacity", round(foreign.battery_percent))
            self._put(f"{battery}/status", "Charging" if foreign.plugged else "Discharging")
            self._put(f"{battery}/temp", 310)

    def _stat(self) -> Iterable[str]:
        count = len(self.picture.cpus)
        yield _cpu_line("cpu", self._busy_ticks, self._idle_ticks)
        for number in range(count):
            yield _cpu_line(f"cpu{number}", self._busy_ticks / count, self._idle_ticks / count)

    def _put(self, name: str, value: object) -> None:
        """Write a file as a whole: a reader never sees half of it."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}")
        fresh.write_text(f"{value}\n")
        fresh.replace(path)


def _cpu_line(name: str, busy: float, idle: float) -> str:
    return f"{name} {round(busy)} 0 0 {round(idle)} 0 0 0 0 0 0"


def _meminfo(total_mib: float, available_mib: float) -> Iterable[str]:
    for name, mib in (
        ("MemTotal", total_mib),
        ("MemFree", available_mib * 0.6),
        ("MemAvailable", available_mib),
        ("SwapTotal", 0.0),
        ("SwapFree", 0.0),
    ):
        yield f"{name + ':':15} {round(mib * _MIB_KIB):8} kB"


def _psi(kind: str, percent: float) -> str:
    return f"{kind} avg10={percent:.2f} avg60={percent:.2f} avg300={percent:.2f} total=0"


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def _rss_mib(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / (1 << 20)
    except psutil.Error:
        return 0.0
