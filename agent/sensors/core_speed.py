"""How fast each CPU is, measured: for machines whose files say nothing of their CPUs.

Every CPU does the same work in turn, again and again, so that what changes meanwhile (a clock that
rises, heat, a neighbour) meets all of them; the best of each counts. The clock is the thread's own
CPU time: waiting for others is not in it. Some 50 ms find CPUs that are alike. Where they seem not
to be, more turns must confirm it, and the machine must have been ours: on a CPU whose sibling works
for somebody else, or whose host does, the same work takes longer.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.affinity import set_cpus
from agent.placement import alike
from agent.sensors.cpu import busy_s
from agent.sensors.tree import Tree

_ENOUGH_S = 0.05
_SURE_S = 0.2
_FEWEST_TURNS = 3
_QUIET_CPUS = 0.3
"""Others may use so much of one CPU: the counters tick in hundredths of a second."""

_BASE, _EXPONENT, _MODULUS = 3, (1 << 63) + 1, (1 << 607) - 1
"""A modular power is multiply-adds, as inference is: 0.1 ms on a server, 1 ms on a small board."""


@dataclass(slots=True)
class Turns:
    """The best time of each CPU so far."""

    best_s: dict[int, float] = field(default_factory=dict)
    turns: int = 0

    def note(self, times_s: Mapping[int, float]) -> None:
        """Take the times of one turn."""
        self.turns += 1
        for cpu, time_s in times_s.items():
            self.best_s[cpu] = min(time_s, self.best_s.get(cpu, time_s))

    @property
    def speeds(self) -> dict[int, float]:
        """Turns of work in a second, by CPU."""
        return {cpu: 1 / time_s for cpu, time_s in self.best_s.items() if time_s > 0}

    @property
    def all_alike(self) -> bool:
        """Whether the slowest is in one class with the fastest."""
        speeds = self.speeds.values()
        return not speeds or min(speeds) >= alike("measured") * max(speeds)


def measure_speeds(cpus: Sequence[int]) -> dict[int, float]:
    """Return the speed of each CPU in a unit of its own; empty: it cannot be told now.

    Takes 50 ms as a rule, 0.2 s where the CPUs differ, more on many slow ones. Works on a thread
    that ends with it, so nobody else's mask changes.

    Args:
        cpus: CPU numbers that this process may use.
    """
    found: list[dict[int, float]] = []
    thread = threading.Thread(target=lambda: found.append(_measured(cpus)), name="core-speed")
    try:
        thread.start()
    except RuntimeError:  # no more threads
        return {}
    thread.join()
    return found[0] if found else {}


def _measured(cpus: Sequence[int]) -> dict[int, float]:
    turns, tree = Turns(), Tree(Path("/"))
    begun_s, busy_before_s, own_before_s = time.monotonic(), busy_s(tree), time.process_time()
    while _goes_on(turns, time.monotonic() - begun_s):
        times_s = {cpu: _work_s(cpu) for cpu in cpus}
        turns.note({cpu: time_s for cpu, time_s in times_s.items() if time_s is not None})
        if len(turns.best_s) < len(cpus):
            return {}  # one has gone offline, or we may not use it
    if turns.all_alike:
        return turns.speeds
    after_s, took_s = busy_s(tree), time.monotonic() - begun_s
    if busy_before_s is None or after_s is None:
        return {}
    others_s = after_s - busy_before_s - (time.process_time() - own_before_s)
    return turns.speeds if others_s <= _QUIET_CPUS * took_s else {}


def _goes_on(turns: Turns, passed_s: float) -> bool:
    if turns.turns < _FEWEST_TURNS or passed_s < _ENOUGH_S:
        return True
    return passed_s < _SURE_S and not turns.all_alike


def _work_s(cpu: int) -> float | None:
    """Return the CPU time of the work on one CPU; None: it could not be done there."""
    if set_cpus((cpu,)) != (cpu,):
        return None
    pow(_BASE, _EXPONENT, _MODULUS)  # its caches and its clock get ready
    begun_s = time.thread_time()
    pow(_BASE, _EXPONENT, _MODULUS)
    return time.thread_time() - begun_s
