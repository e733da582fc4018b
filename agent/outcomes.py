"""What the runners did, as the swap tells the reconciler."""

from dataclasses import dataclass

from agent.runner.control import StageChanged, Stats
from protocols.desired import DesiredCascade


@dataclass(frozen=True, slots=True)
class Serving:
    """A runner has taken over."""

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
    """A stage of the serving or the starting runner changed."""

    change: StageChanged


@dataclass(frozen=True, slots=True)
class Counted:
    """The serving runner's statistics."""

    stats: Stats


Outcome = Serving | TurnedDown | Died | Moved | Counted
