"""CPU time: of the whole machine, of our own processes, and what others therefore use."""

import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.sensors import portable
from agent.sensors.cores import read_cpus
from agent.sensors.tree import Tree, as_number

_SHORTEST_SPAN_S = 0.2
"""Counters tick 100 times a second: over a shorter span a percentage is noise, the last one holds.
So a sample that is taken again before an unload does not spoil the next one."""

_FROZEN_S = 3.0
"""Counters of a real machine always move. Ones that stood still for so long are made up, as
proot-distro does it for phones."""

_UPTIME_OFF_S = 30.0
"""`/proc/uptime` and the kernel's own clock differ by less, unless somebody makes `/proc` up."""

_FEWEST_FIELDS = 4
"""Every kernel tells user, nice, system and idle time; the oldest ones no more."""


@dataclass(frozen=True, slots=True)
class CpuUse:
    """Percent of all CPUs together, 0 to 100. None: not known.

    `foreign_percent`: what others use, and what they would use if we did not. A process that spins
    on one CPU and meets us there gets half of it: its use alone would fall as ours grows.
    """

    percent: float | None = None
    own_percent: float | None = None
    foreign_percent: float | None = None


@dataclass(frozen=True, slots=True)
class _Counters:
    time_s: float
    machine: "_Machine | None"
    own_s: float | None
    waited_s: float | None


@dataclass(frozen=True, slots=True)
class _Machine:
    """Time since boot, in any unit."""

    busy: float
    total: float
    cpus: int


class CpuMeter:
    """Differences of counters from one reading to the next.

    Args:
        tree: the machine.
        own_pids: the processes that are ours.
        boottime_s: the kernel's time since boot; None where the tree is not that of this kernel.
    """

    def __init__(
        self,
        tree: Tree,
        own_pids: Callable[[], Iterable[int]],
        boottime_s: Callable[[], float] | None = None,
    ) -> None:
        self._tree = tree
        self._boottime_s = boottime_s
        self._made_up = False
        self._own_pids = own_pids
        self._cpus = len(read_cpus(tree))
        self._before: _Counters | None = None
        self._use = CpuUse()

    def discover(self) -> None:
        """Find out whether `/proc` is made up, as proot-distro does it: then nothing is known.

        lxcfs tells a container its own uptime, and its own true counters with it.
        """
        uptime_s = as_number((self._tree.text("proc/uptime") or "").partition(" ")[0])
        self._made_up = (
            self._boottime_s is not None
            and uptime_s is not None
            and abs(uptime_s - self._boottime_s()) > _UPTIME_OFF_S
            and "lxcfs" not in (self._tree.text("proc/self/mountinfo") or "")
        )

    def read(self, now_s: float, waited_s: float | None = None) -> CpuUse:
        """Return the use since the reading before; nothing is known at the first one.

        Args:
            now_s: monotonic clock.
            waited_s: how long, since the boot, some task had to wait for a CPU; None: not known.
        """
        after = _Counters(now_s, self._machine(), read_own_s(self._own_pids()), waited_s)
        if self._before is None:
            self._before = after
        elif not _too_soon(self._before, after):
            self._use = self._between(self._before, after)
            self._before = after
        return self._use

    def _machine(self) -> _Machine | None:
        if self._made_up:
            return None
        text = self._tree.text("proc/stat")
        if text is not None:
            return _parse_stat(text)
        times = portable.cpu_times() if self._tree.is_real else None
        return _Machine(*times, self._cpus) if times else None

    def _between(self, before: _Counters, after: _Counters) -> CpuUse:
        cpus = after.machine.cpus if after.machine else self._cpus
        percent = _busy_percent(before.machine, after.machine)
        own_percent = _own_percent(before, after, cpus)
        if percent is None or own_percent is None:
            return CpuUse(percent, own_percent)
        foreign = max(0.0, percent - own_percent)
        # Others want no more than as much again: it may be that we wait for ourselves.
        withheld = min(foreign, own_percent, _waited_percent(before, after, cpus))
        return CpuUse(percent, own_percent, foreign + withheld)


def boottime_s() -> float:
    """Return the time since this machine's boot, sleep included, as the kernel itself tells it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def busy_s(tree: Tree) -> float | None:
    """Return what all CPUs together have worked since the boot, in seconds; None: not told."""
    machine = _parse_stat(tree.text("proc/stat") or "")
    return machine.busy / os.sysconf("SC_CLK_TCK") if machine else None


def read_own_s(pids: Iterable[int]) -> float | None:
    """Return the CPU seconds of processes of ours and of their children that have ended.

    Always from the machine's own `/proc`: a scripted machine runs our processes on the real one.
    None: no process could be read.
    """
    times = [seconds for pid in pids if (seconds := _process_s(pid)) is not None]
    return sum(times) if times else None


def _process_s(pid: int) -> float | None:
    """Sum utime, stime, cutime and cstime: fields 14 to 17 of proc(5)'s stat."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        ticks = sum(map(int, stat.rpartition(b")")[2].split()[11:15]))
    except (OSError, ValueError):
        return None
    return ticks / os.sysconf("SC_CLK_TCK")


def _parse_stat(text: str) -> _Machine | None:
    """Read the first line of `/proc/stat`: user nice system idle iowait irq softirq steal guest...

    Guest time is already in user and nice (proc(5)), so it is left out.
    """
    fields = text.partition("\n")[0].split()
    try:
        ticks = [max(0, int(field)) for field in fields[1:9]]
    except ValueError:
        return None
    if fields[:1] != ["cpu"] or len(ticks) < _FEWEST_FIELDS:
        return None
    idle = sum(ticks[3:5])
    cpus = len(re.findall(r"^cpu\d", text, re.MULTILINE))
    return _Machine(sum(ticks) - idle, sum(ticks), cpus or 1)


def _too_soon(before: _Counters, after: _Counters) -> bool:
    span_s = after.time_s - before.time_s
    stands_still = (
        before.machine is not None
        and after.machine is not None
        and before.machine.total == after.machine.total
    )
    return span_s < (_FROZEN_S if stands_still else _SHORTEST_SPAN_S)


def _busy_percent(before: _Machine | None, after: _Machine | None) -> float | None:
    if before is None or after is None or after.total <= before.total:
        return None
    return _percent(after.busy - before.busy, after.total - before.total)


def _own_percent(before: _Counters, after: _Counters, cpus: int) -> float | None:
    if before.own_s is None or after.own_s is None or not cpus:
        return None
    return _percent(after.own_s - before.own_s, (after.time_s - before.time_s) * cpus)


def _waited_percent(before: _Counters, after: _Counters, cpus: int) -> float:
    """Return what others had to wait for: of two that share a CPU each waits half of the time."""
    if before.waited_s is None or after.waited_s is None:
        return 0.0
    waited_s = (after.waited_s - before.waited_s) / 2
    return _percent(waited_s, (after.time_s - before.time_s) * cpus)


def _percent(part: float, whole: float) -> float:
    return min(100.0, max(0.0, 100.0 * part / whole))
