"""What supervisor and runner say to each other over their socketpair."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, TypeAdapter

from protocols.bundle import Bundle
from protocols.device import CascadeStats
from protocols.message import Message, Name, Part
from protocols.schedule import Layout

Residence = Literal["resident", "on_demand", "out"]


class StageTarget(Part):
    """What one stage should be now."""

    name: Name
    residence: Residence
    layout: Layout = "intra-op"
    threads: int = Field(1, ge=1)
    cpus: tuple[int, ...] | None = None
    nice: int = Field(0, ge=0, le=19)


class CascadePlan(Part):
    """What one cascade should do now: a rung of both ladders, pins and limits already folded in."""

    name: Name
    stages: tuple[StageTarget, ...]
    paused: str | None = Field(None, description="why requests get 503; null: they are answered")
    idle_unload_s: float | None = None
    one_at_a_time: bool = False
    memory_floor_percent: float = Field(0.0, ge=0, description="what any load leaves available")
    threshold_index: int = Field(0, ge=0, description="into the certificate's ladder")
    certified: bool = True
    escalations_per_s: float | None = None
    request_interval_s: float = Field(0.0, ge=0)
    retry_after_s: int = Field(5, ge=1)


class Assignment(Part):
    """A cascade that a runner executes for its whole life."""

    bundle: Bundle
    variants: dict[Name, Name]
    dropped: tuple[Name, ...] = ()
    folder: str = Field(description="holds the artifacts, each named by its SHA-256")


class Assign(Message):
    """First message to a runner: what it is for. It loads, checks the golden samples, answers."""

    KIND: ClassVar[str] = "assign"
    type: Literal["assign"] = "assign"
    assignments: tuple[Assignment, ...]
    plans: tuple[CascadePlan, ...]
    mask: tuple[int, ...] | None = Field(
        None, description="the CPUs that the supervisor itself may use; null: not known"
    )


class Apply(Message):
    """New targets for the cascades it has."""

    type: Literal["apply"] = "apply"
    plans: tuple[CascadePlan, ...]
    cause: str
    mask: tuple[int, ...] | None = None


class Take(Message):
    """Begin to accept on the listening sockets (and on connections handed over with this)."""

    type: Literal["take"] = "take"


class Drain(Message):
    """Stop accepting, finish what is under way, hand idle connections back, then exit."""

    type: Literal["drain"] = "drain"


class AskStats(Message):
    """Answer with Stats."""

    type: Literal["ask-stats"] = "ask-stats"


class Ready(Message):
    """Every cascade is loaded as its plan says and has answered its golden samples."""

    type: Literal["ready"] = "ready"


class Rejected(Message):
    """A cascade that cannot serve: its model does not load, fit or answer as it should."""

    type: Literal["rejected"] = "rejected"
    cascade: Name
    message: str


class StageChanged(Message):
    """A stage was loaded, unloaded, or given other threads."""

    type: Literal["stage-changed"] = "stage-changed"
    change: Literal["loaded", "unloaded", "threads", "failed"]
    cascade: Name
    stage: Name
    variant: Name
    cause: str
    threads: int | None = None
    cpus: tuple[int, ...] | None = None
    took_ms: float = 0.0
    rss_mib: float = Field(description="of the runner afterwards")
    returned_bytes: int | None = None
    loaded_mib: float | None = None


class Stats(Message):
    """What every cascade did since the runner started."""

    type: Literal["stats"] = "stats"
    cascades: tuple[CascadeStats, ...]
    rss_mib: float
    cpu_s: float


class HandOver(Message):
    """An idle connection's file descriptor travels with this; the next runner goes on with it."""

    type: Literal["hand-over"] = "hand-over"


class Drained(Message):
    """Nothing is under way any more; the runner exits."""

    type: Literal["drained"] = "drained"


ToRunner = Annotated[
    Assign | Apply | Take | Drain | AskStats | HandOver, Field(discriminator="type")
]
FromRunner = Annotated[
    Ready | Rejected | StageChanged | Stats | HandOver | Drained, Field(discriminator="type")
]
TO_RUNNER: TypeAdapter[ToRunner] = TypeAdapter(ToRunner)
FROM_RUNNER: TypeAdapter[FromRunner] = TypeAdapter(FromRunner)
