"""Memory: of the machine, and what our own control group leaves of it."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from agent.sensors import portable
from agent.sensors.tree import Tree

_MIB = 1 << 20
_UNLIMITED = 1 << 60
"""cgroup v1 says "no limit" with a number near 2**63."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What there is. With a limit on our control group, the tighter of the two counts."""

    total_mib: float | None = None
    available_mib: float | None = None
    available_percent: float | None = None


@dataclass(frozen=True, slots=True)
class _Version:
    """The words of one version of control groups."""

    base: str
    limits: tuple[str, ...]
    usage: str
    inactive: re.Pattern[str]


_V1 = _Version(
    "sys/fs/cgroup/memory",
    ("memory.limit_in_bytes",),
    "memory.usage_in_bytes",
    re.compile(r"^total_inactive_file (\d{1,18})$", re.MULTILINE),
)
_V2 = _Version(
    "sys/fs/cgroup",
    # Above `high` the kernel does not kill but takes memory away until nothing moves (MemoryHigh=).
    ("memory.max", "memory.high"),
    "memory.current",
    re.compile(r"^inactive_file (\d{1,18})$", re.MULTILINE),
)


_GROUP = re.compile(r"^\d+:([^:]*):(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Room:
    """Bytes of one place that memory comes from."""

    total: float
    available: float


class MemoryMeter:
    """Reads the machine's memory and that of every control group that we are in."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._groups = _own_groups(tree)

    def read(self) -> Memory:
        """Return what is available: MemAvailable, or less where a control group leaves less.

        A group's files that are not in use are given up before anything is killed, so they count
        as available, as in MemAvailable.
        """
        rooms = self._rooms()
        if not rooms:
            return Memory()
        return Memory(
            total_mib=min(room.total for room in rooms) / _MIB,
            available_mib=min(room.available for room in rooms) / _MIB,
            available_percent=min(100 * room.available / room.total for room in rooms),
        )

    def left_percent(self, need_mib: float) -> float | None:
        """Return what would be available, in percent, if so much more were taken; None: unknown.

        Where several places limit us, each loses as much; the one that has the least left counts.
        """
        need = need_mib * _MIB
        left = (100 * (room.available - need) / room.total for room in self._rooms())
        return min(left, default=None)

    def limit_mib(self) -> float | None:
        """Return the tightest limit on our control group; None: there is none."""
        limits = (self._limit(version, folder) for version, folder in self._groups)
        tightest = min((limit for limit in limits if limit is not None), default=None)
        return None if tightest is None else tightest / _MIB

    def _rooms(self) -> list[_Room]:
        groups = (self._group(version, folder) for version, folder in self._groups)
        return [room for room in (self._machine(), *groups) if room is not None]

    def _machine(self) -> _Room | None:
        info = read_meminfo_mib(self._tree)
        total, available = info.get("MemTotal"), info.get("MemAvailable")
        if total and available is not None:
            return _Room(total * _MIB, min(available, total) * _MIB)
        known = portable.memory_bytes() if self._tree.is_real and not info else None
        return _Room(*known) if known else None

    def _group(self, version: _Version, folder: str) -> _Room | None:
        limit = self._limit(version, folder)
        usage = self._tree.number(f"{folder}/{version.usage}") if limit else None
        if limit is None or usage is None:
            return None
        match = version.inactive.search(self._tree.text(f"{folder}/memory.stat") or "")
        inactive = int(match[1]) if match else 0
        return _Room(limit, min(limit, max(0.0, limit - usage + inactive)))

    def _limit(self, version: _Version, folder: str) -> float | None:
        """Return a group's limit; "max" is no number, and v1's is beyond all memory."""
        limits = (self._tree.number(f"{folder}/{name}") for name in version.limits)
        return min((x for x in limits if x is not None and 0 < x < _UNLIMITED), default=None)


def read_meminfo_mib(tree: Tree) -> dict[str, float]:
    """Return the lines of `/proc/meminfo`, in MiB (its "kB" are KiB)."""
    lines = re.findall(r"^(\w+): +(\d{1,18}) kB$", tree.text("proc/meminfo") or "", re.MULTILINE)
    return {name: int(kib) / 1024 for name, kib in lines}


def _own_groups(tree: Tree) -> tuple[tuple[_Version, str], ...]:
    """Find the folders of our control group and of all above it: each may have the limit."""
    return tuple(
        (version, folder)
        for controllers, path in _GROUP.findall(tree.text("proc/self/cgroup") or "")
        if (version := _version(controllers)) is not None
        for folder in _upwards(version.base, path)
        if any(tree.text(f"{folder}/{name}") is not None for name in version.limits)
    )


def _version(controllers: str) -> _Version | None:
    if not controllers:
        return _V2
    return _V1 if "memory" in controllers.split(",") else None


def _upwards(base: str, path: str) -> list[str]:
    """List a group's folder and its parents'; in a container they may be out of sight."""
    group = PurePosixPath(path.lstrip("/"))
    if ".." in group.parts:
        return [base]
    return [f"{base}/{folder}" for folder in (group, *group.parents)]
