"""Whether there is memory for a stage: what it takes, what there is, and what must stay free."""

import time
from pathlib import Path

from agent.runner.jobs import StageError
from agent.runner.worker import Setting
from agent.sensors.memory import MemoryMeter
from agent.sensors.tree import Tree

RETRY_S = 5.0
"""After a load has failed, the next try waits that long."""


class NoRoomError(StageError):
    """Loading it would leave too little memory now; a moment later it may not."""


class Room:
    """What a load may take of the memory that the machine and our control groups have.

    It is read at the moment of loading: the supervisor's last sample may be a second old, and
    another model may have come since.

    Args:
        sysroot: the folder that has `proc` and `sys`.
    """

    def __init__(self, sysroot: Path = Path("/")) -> None:
        self._meter = MemoryMeter(Tree(sysroot))

    def holds(self, need_mib: float, floor_percent: float) -> bool:
        """Whether so much more would leave that share available; yes where nothing is known."""
        left_percent = self._meter.left_percent(need_mib)
        return left_percent is None or left_percent >= floor_percent


class Berth:
    """What one stage takes of a room.

    Args:
        title: cascade and stage, for errors.
        declared_mib: what loading it took where it was added.
        room: where it has to go.
    """

    def __init__(self, title: str, declared_mib: float, room: Room) -> None:
        self._title, self._declared_mib, self._room = title, declared_mib, room
        self._worker_mib = 0.0
        self.loaded_mib: float | None = None
        """What loading it added the last time; None: it has not been loaded here."""
        self.due_s: float | None = None
        """When to look again whether there is room; None: it was not lacking the last time."""

    def need_mib(self, setting: Setting) -> float:
        """Return what loading it takes: as measured here, else as declared."""
        return (self._worker_mib or self._declared_mib) * len(setting.workers())

    def check(self, setting: Setting, floor_percent: float, returning_mib: float = 0.0) -> None:
        """Check that a load would leave enough.

        Args:
            setting: how it would run.
            floor_percent: of all memory, what must be left.
            returning_mib: what others give back before.

        Raises:
            NoRoomError: it would not.
        """
        need_mib = self.need_mib(setting)
        if self._room.holds(need_mib - returning_mib, floor_percent):
            self.due_s = None
            return
        self.due_s = time.monotonic() + RETRY_S
        raise NoRoomError(
            f"cannot load {self._title}: it needs {need_mib:.0f} MiB, which would leave less than "
            f"{floor_percent:g} % of the memory; it is tried again"
        )

    def measured(self, loaded_mib: float, setting: Setting) -> None:
        """Note what a load has added."""
        self.loaded_mib = loaded_mib
        self._worker_mib = loaded_mib / len(setting.workers())
