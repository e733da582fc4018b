"""Which CPUs may be used now: a person's `taskset`, a control group's cpuset, a CPU that goes."""

from pathlib import Path

from agent.affinity import get_cpus
from agent.sensors.cores import Cores, Measure, allowed_cpus, read_cores
from agent.sensors.tree import Tree


class MaskWatch:
    """Notices that the CPUs are not those of before. The calling thread's mask counts.

    Children inherit a mask and keep it when their parent's changes, so whoever looks after them
    must hand it on (`mask`).

    Args:
        sysroot: the folder that has `proc` and `sys`.
        recall: the speeds of CPUs as they were measured earlier; measuring takes too long here.
    """

    def __init__(self, sysroot: Path, recall: Measure) -> None:
        self._tree, self._recall = Tree(sysroot), recall
        self._seen = self._now()
        self.cores: Cores = read_cores(self._tree, recall if self._tree.is_real else None)

    @property
    def cpus(self) -> tuple[int, ...]:
        """The CPUs that stages may be planned on, those of the fastest class first."""
        return tuple(cpu for group in self.cores.classes for cpu in group.cpus)

    @property
    def mask(self) -> tuple[int, ...] | None:
        """Our own mask; None: this platform has none. A scripted machine's CPUs may be others."""
        return self._seen[1]

    def look(self) -> str:
        """Look again; return what has changed, for a person, empty: nothing."""
        before, now = self._seen, self._now()
        if now == before:
            return ""
        self._seen = now
        self.cores = read_cores(self._tree, self._recall if self._tree.is_real else None)
        planned = before[0] != now[0]
        old, new = (before[0], now[0]) if planned else (before[1], now[1])
        return f"CPUs {_listed(new)} may be used, before {_listed(old)}"

    def _now(self) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
        return allowed_cpus(self._tree), get_cpus()


def _listed(cpus: tuple[int, ...] | None) -> str:
    return ",".join(map(str, cpus or ())) or "none"
