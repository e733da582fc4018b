"""What a device should be: desired documents, pins, deployments, and who controls."""

from typing import ClassVar, Literal

from pydantic import Field

from protocols.bundle import BundleRef
from protocols.enrolment import Enrolment
from protocols.message import Message, Name, Part
from protocols.rollout import Selector, Strategy
from protocols.schedule import Schedule, Threads, Wishes
from protocols.sources import Sources


class DesiredCascade(Part):
    """A cascade that should run, and which form of each stage's model."""

    bundle: BundleRef
    variants: dict[Name, Name] = Field(description="stage -> variant")
    dropped: tuple[Name, ...] = Field((), description="stages the planner keeps away: not fetched")
    sources: Sources = Field((), description="URLs of its artifacts, tried before the broker")

    @property
    def identity(self) -> str:
        """A key that two cascades share if and only if a device executes both alike."""
        variants = ",".join(f"{stage}={name}" for stage, name in sorted(self.variants.items()))
        return f"{self.bundle.artifact.sha256} {variants} -{','.join(sorted(self.dropped))}"

    @property
    def stages(self) -> tuple[Name, ...]:
        """The stages that are on the device."""
        return tuple(stage for stage in self.variants if stage not in self.dropped)


class StagePin(Part):
    """What a person has fixed for a stage; it overrides planner and governor.

    A pin never overrides a hard limit of the device: a hard signal still unloads.
    """

    cascade: Name
    stage: Name
    loaded: bool | None = Field(None, description="true: stays loaded, false: stays unloaded")
    threads: Threads | None = None


class Pins(Message):
    """`devices/<id>/pins`: retained envelope, signed by the release role; a person's wishes."""

    KIND: ClassVar[str] = "pins"

    fleet: Name
    device: Name
    pins: tuple[StagePin, ...] = ()
    by: str = Field("", max_length=128, description="who set them")
    ts: float = 0.0


class Desired(Message):
    """`devices/<id>/desired`: retained envelope, signed by the controller role.

    Bound to fleet and device; the generation rises strictly, and the device remembers it.
    """

    KIND: ClassVar[str] = "desired document"

    fleet: Name
    device: Name
    generation: int = Field(ge=1)
    cascades: tuple[DesiredCascade, ...] = Field((), max_length=64)
    schedule: Schedule
    pins: tuple[StagePin, ...] = ()
    shed: int = Field(0, ge=0, description="steps of C0 taken back by the planner: fewer threads")
    reason: str = Field("", max_length=512, description="why the planner wrote this generation")
    ts: float = 0.0
    forms_ts: float = Field(0.0, description="when the cascades were last others; 0: not known")
    pins_ts: float = Field(0.0, description="of the pins document that is in it; 0: of none")
    expires_ts: float | None = Field(
        None, description="not to be accepted from then on, by a synchronized clock; null: never"
    )
    enrolment: Enrolment | None = Field(
        None, description="the one machine of this name that it is for, null: any"
    )


class Deployment(Message):
    """`deployments/<id>`: retained envelope, signed by the release role.

    Per device and cascade name the matching deployment with the highest `order` rules.
    """

    KIND: ClassVar[str] = "deployment"

    id: Name
    fleet: Name
    bundle: BundleRef
    devices: tuple[Name, ...] = Field((), description="by name; empty: by selector alone")
    selector: Selector = {}
    variants: dict[Name, Name] = Field({}, description="stage -> variant that a person insists on")
    schedule: Schedule | None = Field(None, description="thresholds, dwell and windows to use")
    wishes: Wishes | None = Field(None, description="for the schedule compiler")
    sources: Sources = Field((), description="URLs of its artifacts, tried before the broker")
    strategy: Strategy | None = Field(None, description="null: all devices at once")
    paused: bool = Field(default=False, description="a person holds its rollout where it is")
    promoted: int = Field(0, ge=0, description="waves that a person has opened without waiting")
    order: int = Field(ge=1, description="rises with every deployment of a fleet")
    aborted: bool = False
    by: str = Field("", max_length=128)
    created_ts: float


ControllerMode = Literal["serve", "deploy"]


class ControllerStatus(Message):
    """`controllers/<id>/status`: retained, with a last will."""

    KIND: ClassVar[str] = "controller status"

    controller: Name
    online: bool
    mode: ControllerMode = "serve"
    version: str
    public_key_id: str = ""
    rivals: tuple[Name, ...] = Field(
        (), max_length=64, description="devices whose names it has seen others use"
    )
