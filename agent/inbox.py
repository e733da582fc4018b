"""Everything that can happen to the supervisor, as messages of its one inbox."""

import queue
from dataclasses import dataclass
from typing import Literal

from agent.runner.control import FromRunner
from agent.tuner.request import Line
from protocols.bundle import ArtifactRef


@dataclass(frozen=True, slots=True)
class Received:
    """A message came from the broker."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker has accepted us."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The broker is gone, or has refused us."""

    reason: str


@dataclass(frozen=True, slots=True)
class FetchDone:
    """An artifact is in the store, verified."""

    ref: ArtifactRef


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """An artifact did not come; None: it is asked for again, else this is what to report."""

    ref: ArtifactRef
    message: str
    phase: Literal["rejected", "refused"] | None = None


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """Some more of an artifact is in the store."""

    ref: ArtifactRef


@dataclass(frozen=True, slots=True)
class FetchWaits:
    """An artifact must wait, and goes on by itself: what it waits for, to report."""

    ref: ArtifactRef
    message: str


@dataclass(frozen=True, slots=True)
class RunnerSaid:
    """A runner's message, with the file descriptors that came with it."""

    child: int
    message: FromRunner
    fds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RunnerExited:
    """A runner has ended; `code` as `subprocess` has it: a negative one is a signal."""

    child: int
    code: int
    suspects: tuple[str, ...] = ()
    """Names of the cascades that were at work."""


@dataclass(frozen=True, slots=True)
class TunerSaid:
    """A line of the tuner's process."""

    pid: int
    line: Line


@dataclass(frozen=True, slots=True)
class TunerExited:
    """The tuner's process has ended."""

    pid: int
    code: int


@dataclass(frozen=True, slots=True)
class Stop:
    """A signal asks us to end."""

    signal: str


Message = (
    Received
    | Connected
    | Disconnected
    | FetchDone
    | FetchFailed
    | FetchProgress
    | FetchWaits
    | RunnerSaid
    | RunnerExited
    | TunerSaid
    | TunerExited
    | Stop
)
Inbox = queue.SimpleQueue[Message]
