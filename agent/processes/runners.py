"""A runner as the supervisor sees it: what it is for, how far it is, and what it did. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from agent.runner.control import Assign, CascadePlan, Rejected, StageChanged, Stats, ToRunner
from protocols.desired import DesiredCascade


class Child(Protocol):
    """A runner's process, as `agent.processes.child` spawns it."""

    @property
    def id(self) -> int:
        """Tells it from every other that this supervisor has had."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def send(self, message: ToRunner, fds: tuple[int, ...] = ()) -> None:
        """Say something; a child that is gone does not hear it."""

    def kill(self) -> None:
        """End it at once."""


@dataclass(frozen=True, slots=True)
class Lineup:
    """What a runner is started for."""

    cascades: tuple[DesiredCascade, ...]
    assign: Assign


@dataclass(slots=True)
class Runner:
    """A runner and how far it is. Times are of the monotonic clock, in seconds."""

    child: Child
    cascades: tuple[DesiredCascade, ...]
    plans: tuple[CascadePlan, ...]
    deadline_s: float
    mask: tuple[int, ...] | None = None
    since_s: float = 0.0
    ready: bool = False
    drained: bool = False
    late: bool = False
    rejected: list[Rejected] = field(default_factory=list)
    asked_s: float | None = None
    """Since when it owes us its statistics."""

    def executes(self, cascades: Iterable[DesiredCascade]) -> bool:
        """Whether it is for exactly these."""
        return {c.identity for c in self.cascades} == {c.identity for c in cascades}


@dataclass(frozen=True, slots=True)
class Serving:
    """A runner has taken over: the first of the outcomes, which the swap tells."""

    cascades: tuple[DesiredCascade, ...]


@dataclass(frozen=True, slots=True)
class TurnedDown:
    """A runner says that a cascade cannot serve."""

    cascade: DesiredCascade
    message: str


@dataclass(frozen=True, slots=True)
class Died:
    """A runner ended by itself; `late`: we ended it because it did not get ready in time."""

    code: int
    ready: bool
    late: bool
    suspects: tuple[DesiredCascade, ...]
    cascades: tuple[DesiredCascade, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """A stage of the serving or the starting runner, which is for `cascades`, changed."""

    change: StageChanged
    cascades: tuple[DesiredCascade, ...]


@dataclass(frozen=True, slots=True)
class Counted:
    """The serving runner's statistics."""

    stats: Stats


Outcome = Serving | TurnedDown | Died | Moved | Counted
