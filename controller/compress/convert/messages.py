"""What is said between the command and the child that converts."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from controller.compress.convert.kinds import Kind
from protocols.message import Part

MODEL = "model.tflite"


class Job(Part):
    """Convert a source, and write down how it answers."""

    kind: Kind
    source: str
    name: str = Field(description="for messages")
    folder: str = Field(
        description="takes the file, and for every end `in_<i>.npy` and `out_<i>.npy`, "
        "[rows, *shape], in the file's layout"
    )
    random_rows: int
    seed: int
    samples: str | None = Field(None, description="`.npz` with an array for each input")
    x_key: str | None = Field(None, description="where there is one input; null: x")
    sample_rows: int = Field(0, description="at most so many of them")
    shape: tuple[int, ...] | None = Field(None, description="of one sample, for open axes")
    signature: str | None = Field(None, description="of a SavedModel that has several")
    channels_last: bool = True


class End(Part):
    """An input or output of the source, and what it is in the file.

    `moved`: the file has it channels last, [n, h, w, c], and the source [n, c, h, w].
    """

    name: str
    shape: tuple[int, ...] = Field(description="in the source, with a batch of 1 where it is open")
    dtype: str
    is_open: bool = Field(description="the source leaves its batch axis open; of inputs")
    moved: bool
    key: str = Field(description="in the file's signature")

    @property
    def file_shape(self) -> tuple[int, ...]:
        """The shape in the file."""
        if not self.moved:
            return self.shape
        batch, channels, *rest = self.shape
        return (batch, *rest, channels)


class Step(Part):
    """What is done now."""

    say: Literal["step"] = "step"
    title: str


class Converted(Part):
    """The file and the answers are written."""

    say: Literal["converted"] = "converted"
    inputs: tuple[End, ...]
    outputs: tuple[End, ...]
    sample_rows: int
    tools: str = Field(description="what converted it, with versions")


class Refused(Part):
    """It cannot be done."""

    say: Literal["refused"] = "refused"
    why: str
    is_whole: bool = Field(description="`why` is a sentence of its own: cannot X: why")


Said = Step | Converted | Refused
SAID: TypeAdapter[Said] = TypeAdapter(Annotated[Said, Field(discriminator="say")])
Say = Callable[[Said], None]
