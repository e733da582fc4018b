"""What a model costs while it runs: time, CPU seconds, memory, and what the delegate takes of it.

All of it is measured in a child process (`controller.compress.measure_process`), with the
interpreter alone: the inputs lie ready, a run is one `invoke()`. The habits are those of TFLite's
`benchmark_model`: warm up with at least one run and half a second, then time at least 50 runs and
one second, and stop at 150 s.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, TypeAdapter

from controller.compress.errors import CompressError
from controller.compress.timings import Timings
from controller.inspect import check_file
from controller.trial import QUIET_S, TrialError, run_child
from protocols.message import Part

_MODULE = "controller.compress.measure_process"

OnRuns = Callable[[float], None]
"""Takes the share of the work that is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model on disk, and what it is called in messages."""

    name: str
    path: Path


class Pace(Part):
    """How often and how long models run."""

    warm_runs: int = Field(1, ge=1)
    warm_s: float = Field(0.5, ge=0)
    runs: int = Field(50, ge=1, description="at least so many runs of each model,")
    seconds: float = Field(1.0, ge=0, description="and at least so long, summed over all models")
    limit_s: float = Field(150.0, gt=0, description="no longer, even where runs are missing")
    turn: int = Field(
        1,
        ge=1,
        description="runs of one model before it is the next one's turn; where there are several, "
        "one more comes first that is not timed: the others have left the caches full of theirs",
    )


class Place(Part):
    """Where models run."""

    threads: int = Field(1, ge=1, description="of the interpreter's own pool")
    cpus: tuple[int, ...] = Field((), description="the process keeps to these; empty: to any")


class Weigh(Part):
    """Load a model, run it a few times, and find out what that takes."""

    task: Literal["weigh"] = "weigh"
    path: str
    place: Place
    sample_shape: tuple[int, ...] | None = None


class Clock(Part):
    """Run models in turns, one run each, and time every run."""

    task: Literal["clock"] = "clock"
    paths: tuple[str, ...]
    place: Place
    pace: Pace
    sample_shape: tuple[int, ...] | None = None


class Partition(Part):
    """Find out which operators a delegate takes."""

    task: Literal["partition"] = "partition"
    path: str


Job = Annotated[Weigh | Clock | Partition, Field(discriminator="task")]
JOB: TypeAdapter[Weigh | Clock | Partition] = TypeAdapter(Job)


class Share(Part):
    """How far it is."""

    say: Literal["share"] = "share"
    done: float


class Weighed(Part):
    """What loading a model took."""

    say: Literal["weighed"] = "weighed"
    runtime: str
    load_ms: float = Field(description="reading the file and allocating its tensors")
    first_us: float = Field(description="the first run")
    load_mib: float = Field(description="resident memory that loading added")
    peak_mib: float | None = Field(
        description="the most that resident memory was above what it was before loading, while "
        "loading and over the first runs; null: this system does not tell"
    )


class Clocked(Part):
    """What the runs of models took; one entry for each model."""

    say: Literal["clocked"] = "clocked"
    timings: tuple[Timings, ...]
    cpu_s: tuple[float, ...] = Field(description="CPU seconds of one run, all threads together")


class Region(Part):
    """What a delegate replaced by one node of its own: the tensors that go in and come out."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Partitioned(Part):
    """The nodes that the interpreter runs beside the model's own operators."""

    say: Literal["partitioned"] = "partitioned"
    runtime: str
    operators: int = Field(description="nodes that the interpreter has without any delegate")
    regions: tuple[Region, ...]


class Failed(Part):
    """The interpreter refused, and survived."""

    say: Literal["failed"] = "failed"
    why: str


Said = Share | Weighed | Clocked | Partitioned | Failed
_SAID: TypeAdapter[Said] = TypeAdapter(Annotated[Said, Field(discriminator="say")])

_Found = TypeVar("_Found", Weighed, Clocked, Partitioned)


def weigh(
    model: ModelFile, place: Place | None = None, sample_shape: tuple[int, ...] | None = None
) -> Weighed:
    """Load a model in a process of its own and measure what that takes.

    Args:
        model: a `.tflite` file.
        place: threads and CPUs; None: one thread, any CPU.
        sample_shape: of one sample, for a model that leaves more than its batch axis open.

    Raises:
        CompressError: it does not run.
    """
    path = str(model.path.absolute())
    job = Weigh(path=path, place=place or Place(), sample_shape=sample_shape)
    return _measure(job, (model,), Weighed)


def clock(
    models: Sequence[ModelFile],
    place: Place | None = None,
    pace: Pace | None = None,
    sample_shape: tuple[int, ...] | None = None,
    on_runs: OnRuns = lambda _: None,
) -> Clocked:
    """Time models in one process, taking turns run by run, so that whatever disturbs meets all.

    Args:
        models: `.tflite` files, at least one.
        place: threads and CPUs; None: one thread, any CPU.
        pace: how often and how long; None: as `benchmark_model` does.
        sample_shape: of one sample, for models that leave more than their batch axis open.
        on_runs: told how far it is.

    Raises:
        CompressError: one of them does not run.
    """
    pace = pace or Pace()
    job = Clock(
        paths=tuple(str(model.path.absolute()) for model in models),
        place=place or Place(),
        pace=pace,
        sample_shape=sample_shape,
    )
    return _measure(job, models, Clocked, on_runs, QUIET_S + pace.limit_s)


def partition(model: ModelFile) -> Partitioned:
    """Ask the interpreter what its default delegate, XNNPACK, takes of a model.

    Raises:
        CompressError: it does not run.
    """
    return _measure(Partition(path=str(model.path.absolute())), (model,), Partitioned)


def _measure(
    job: Weigh | Clock | Partition,
    models: Sequence[ModelFile],
    found: type[_Found],
    on_runs: OnRuns = lambda _: None,
    quiet_s: float = QUIET_S,
) -> _Found:
    name = " and ".join(dict.fromkeys(model.name for model in models))
    try:
        for model in models:
            check_file(model.path)
        return _answer(job, name, found, on_runs, quiet_s)
    except TrialError as error:
        why = error.why.replace("give samples", "give the shape of one sample")
        raise CompressError(f"cannot measure {name}: {why}") from error


def _answer(
    job: Weigh | Clock | Partition,
    name: str,
    found: type[_Found],
    on_runs: OnRuns,
    quiet_s: float,
) -> _Found:
    with closing(run_child(_MODULE, job, name, quiet_s)) as lines:
        for line in lines:
            match _SAID.validate_json(line):
                case Share(done=done):
                    on_runs(done)
                case Failed(why=why):
                    raise TrialError(name, why)
                case said if isinstance(said, found):
                    return said
    raise TrialError(name, "the process that ran it gave no answer")
