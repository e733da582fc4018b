"""What the tuner's process is asked, on its standard input, and what it answers, line by line."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, TypeAdapter

from protocols.device import CoreClass
from protocols.message import Message, Part, Sha256
from protocols.profile import StageProfile


class TuneModel(Part):
    """One artifact to be measured."""

    artifact: Sha256
    path: str
    sample_shape: tuple[int, ...] | None = Field(None, description="see `open_model`")


class TuneRequest(Message):
    """Everything that one run of the tuner measures, and what it notes beside the figures."""

    KIND: ClassVar[str] = "tune request"

    models: tuple[TuneModel, ...]
    chains: tuple[tuple[Sha256, ...], ...] = Field(
        (), description="parts of split models, in order: also measured as pipelines"
    )
    cores: tuple[CoreClass, ...]
    runtime: str
    kernel: str | None = None
    watts_per_cpu: float | None = Field(None, gt=0)
    sysroot: str = Field("/", description="where the device's power is read")
    providers: tuple[str, ...] = Field((), description="of the user's, that may tell its power")


class Begun(Part):
    """It is inside this artifact now: whom to blame should it die."""

    type: Literal["begun"] = "begun"
    artifact: Sha256


class Measured(Part):
    """One artifact is done."""

    type: Literal["measured"] = "measured"
    profile: StageProfile


class Failed(Part):
    """One artifact cannot be measured."""

    type: Literal["failed"] = "failed"
    artifact: Sha256
    message: str


Line = Annotated[Begun | Measured | Failed, Field(discriminator="type")]
LINE: TypeAdapter[Line] = TypeAdapter(Line)
