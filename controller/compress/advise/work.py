"""Work on models in a process that is ended when its time is over, with all that it started."""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, TypeAdapter

from controller.compress.advise.recipes import Step
from controller.compress.errors import CompressError
from controller.compress.measure import Clocked, Pace
from protocols.bundle import ScoreKind
from protocols.message import Part

_MODULE = "controller.compress.advise.work_process"
_READ_BYTES = 1 << 16
_REASON_CHARACTERS = 300

OnStep = Callable[[str, int, int], None]


class WorkStoppedError(CompressError):
    """A step was ended because its time was over."""


class Data(Part):
    """Labelled samples in a file."""

    path: str
    x_key: str = "x"
    y_key: str = "y"
    scores: int = Field(0, description="number of the output that holds the class scores")


class Make(Part):
    """Do one step to a model, write what comes of it, and measure that."""

    task: Literal["make"] = "make"
    model: str
    out: str
    name: str
    step: Step | None = Field(None, description="null: measure the model as it is")
    data: Data
    kind: ScoreKind | None = Field(None, description="of the original's scores; null: find out")
    module: str | None = Field(None, description="that channels are cut with")
    weigh: bool = Field(default=False, description="whether memory is measured too")


class Time(Part):
    """Time models in turns."""

    task: Literal["time"] = "time"
    paths: tuple[str, ...]
    pace: Pace
    sample_shape: tuple[int, ...]


class Probe(Part):
    """Find out how long it takes to teach a module's network after cuts."""

    task: Literal["probe"] = "probe"
    module: str
    seconds: float = Field(5.0, description="of trying")


class At(Part):
    """How far it is."""

    say: Literal["at"] = "at"
    title: str
    done: int
    total: int


class Made(Part):
    """What a step made."""

    say: Literal["made"] = "made"
    sha256: str
    file_bytes: int
    wire_bytes: int
    parameters: int
    nonzero: int
    accuracy: float
    held_out: float
    halves: tuple[int, int]
    kind: ScoreKind
    layers: int
    why_narrow: str = Field(description="why it cannot be quantized; empty: it can")
    sample_shape: tuple[int, ...]
    memory_bytes: float | None
    measure_s: float
    half_s: float


class Probed(Part):
    """How long teaching takes in all, and the input that the network takes."""

    say: Literal["probed"] = "probed"
    training_s: float
    sample_shape: tuple[int, ...]


class Failed(Part):
    """It could not be done."""

    say: Literal["failed"] = "failed"
    why: str


Said = At | Made | Clocked | Probed | Failed
_SAID: TypeAdapter[Said] = TypeAdapter(Annotated[Said, Field(discriminator="say")])
JOB: TypeAdapter[Make | Time | Probe] = TypeAdapter(
    Annotated[Make | Time | Probe, Field(discriminator="task")]
)

_Found = TypeVar("_Found", Made, Clocked, Probed)


def do(
    job: Make | Time | Probe,
    found: type[_Found],
    limit_s: float,
    scratch: Path,
    on_step: OnStep = lambda *_: None,
) -> _Found:
    """Have a job done in a process of its own.

    Args:
        job: its paths are absolute.
        found: the kind of answer that it has.
        limit_s: then the process and all that it started are killed.
        scratch: a folder for its temporary files, which a killed process leaves behind.
        on_step: told how far it is.

    Raises:
        WorkStoppedError: its time was over.
        CompressError: it could not be done.
    """
    log = scratch / "errors.log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(  # noqa: S603 - a module of ours
            [sys.executable, "-P", "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **_QUIET, "PYTHONPATH": _python_path(), "TMPDIR": str(scratch)},
            start_new_session=True,  # so that Ctrl-C is ours alone, and all of it can be killed
        ) as process,
    ):
        try:
            for line in _lines(process, job, time.monotonic() + limit_s):
                match _SAID.validate_json(line):
                    case At(title=title, done=done, total=total):
                        on_step(title, done, total)
                    case Failed(why=why):
                        raise CompressError(why)
                    case said if isinstance(said, found):
                        return said
        finally:
            _kill(process)
    raise CompressError(f"cannot do it: the process {_ended(process.returncode, log)}")


def _ended(code: int, log: Path) -> str:
    if code == -signal.SIGKILL:
        return "was killed by SIGKILL; is there enough memory for it?"
    last = log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["without a word"]
    return f"ended with code {code}: {last[0][:_REASON_CHARACTERS]}"


def _python_path() -> str:
    """Return where modules are: ours first, then a person's, beside where they are."""
    known = os.environ.get("PYTHONPATH")
    return os.pathsep.join(
        [str(Path(__file__).parents[3]), str(Path.cwd()), *filter(None, [known])]
    )


_QUIET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}


def _lines(process: subprocess.Popen[bytes], job: Part, deadline_s: float) -> Iterator[bytes]:
    """Send the job and yield what the process says.

    Raises:
        WorkStoppedError: the time is over.
    """
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:  # both are pipes
        return
    try:
        stdin.write(job.model_dump_json().encode() + b"\n")
        stdin.flush()  # and it stays open: when it closes, we have died, and the child's group ends
    except BrokenPipeError:  # it ended at once; its log says why
        return
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline_s - time.monotonic())):
            block = os.read(stdout.fileno(), _READ_BYTES)
            if not block:
                return
            *whole, rest = (rest + block).split(b"\n")
            yield from whole
    raise WorkStoppedError("cannot do it: its time was over")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it started: they are one group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # all have ended by themselves
        return
