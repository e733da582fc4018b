"""Trials: work on a model file in a process of its own, because a wrong file can kill it.

A schema-valid but wrong `.tflite` was measured to end the interpreter's process with SIGSEGV. The
parent sends one job on standard input; the child (`controller.trial_process`) answers with JSON
lines on standard output: how far it is, and at the end what it found or why not.
"""

import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Annotated, Literal, TypeVar

from pydantic import Field, TypeAdapter

from controller.errors import BuildError
from protocols.bundle import Needs, TensorSpec
from protocols.message import Part

QUIET_S = 120.0
"""A child that says nothing for so long is ended."""

_REASON_CHARACTERS = 300
_READ_BYTES = 1 << 16


class TrialError(BuildError):
    """A model does not pass its trial. `why` is the text without its beginning."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"cannot run {name}: {why}")
        self.why = why


class Examine(Part):
    """Find out what a model takes and gives, whether it runs, and what it needs."""

    task: Literal["examine"] = "examine"
    path: str
    sample_shape: tuple[int, ...] | None = None


class Source(Part):
    """An array on disk, [n, ...], and what one row of it is."""

    path: str
    spec: TensorSpec
    is_request: bool = Field(description="rows are samples of a user, not outputs of a stage")


class Answer(Part):
    """Run a model over samples: one file of rows for every input and output tensor."""

    task: Literal["answer"] = "answer"
    path: str
    inputs: tuple[TensorSpec, ...] = Field((), description="as added; empty: whatever they are")
    outputs: tuple[TensorSpec, ...] = ()
    sources: tuple[Source, ...]
    folder: str = Field(description="takes `<i>.npy`, [n, *shape of output i], in its dtype")


class Progress(Part):
    """How many samples are done."""

    say: Literal["progress"] = "progress"
    done: int


class Facts(Part):
    """What examining a model found."""

    say: Literal["facts"] = "facts"
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    needs: Needs
    runtime: str


class Answered(Part):
    """Every sample is answered, by a model with these outputs."""

    say: Literal["answered"] = "answered"
    outputs: tuple[TensorSpec, ...]


class Failed(Part):
    """The interpreter refused, and survived."""

    say: Literal["failed"] = "failed"
    why: str


Job = Annotated[Examine | Answer, Field(discriminator="task")]
JOB: TypeAdapter[Examine | Answer] = TypeAdapter(Job)
Said = Progress | Facts | Answered | Failed
_SAID: TypeAdapter[Said] = TypeAdapter(Annotated[Said, Field(discriminator="say")])

Found = TypeVar("Found", Facts, Answered)


def run_trial(
    job: Examine | Answer,
    name: str,
    found: type[Found],
    on_progress: Callable[[int], None] = lambda _: None,
    quiet_s: float = QUIET_S,
) -> Found:
    """Have a job done in a child process.

    Args:
        job: what to do; its paths are absolute.
        name: the model's, for messages.
        found: the kind of answer that this job has.
        on_progress: takes the number of samples that are done.
        quiet_s: the child is ended when it has said nothing for so long.

    Raises:
        TrialError: the interpreter refused, was killed, or took too long.
    """
    with closing(run_child("controller.trial_process", job, name, quiet_s)) as lines:
        for line in lines:
            match _SAID.validate_json(line):
                case Progress(done=done):
                    on_progress(done)
                case Failed(why=why):
                    raise TrialError(name, why)
                case said if isinstance(said, found):
                    return said
    raise TrialError(name, "it gave no answer")


def run_child(
    module: str, job: Part, name: str, quiet_s: float = QUIET_S
) -> Generator[bytes, None, None]:
    """Start a module that does one job on a model; yield the lines that it says. Close it after.

    Args:
        module: takes the job as JSON on standard input, answers with lines on standard output.
        job: what to do.
        name: the model's, for messages.
        quiet_s: the child is ended when it has said nothing for so long.

    Raises:
        TrialError: the child has ended, and who reads here still waits for an answer.
    """
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(  # noqa: S603 - a module of ours
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=Path(__file__).parents[1],  # -m looks there first
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        ) as process:
            try:
                yield from _conversation(process, job, name, quiet_s)
                process.wait(quiet_s)
            except subprocess.TimeoutExpired as error:
                raise TrialError(name, f"it did not end within {quiet_s:g} s") from error
            finally:
                process.kill()
        raise TrialError(name, _ended(process.returncode, errors))


def _conversation(
    process: subprocess.Popen[bytes], job: Part, name: str, quiet_s: float
) -> Iterator[bytes]:
    """Send the job and yield the lines that the child says, until it ends."""
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:  # both are pipes
        return
    try:
        stdin.write(job.model_dump_json().encode())
        stdin.close()
    except BrokenPipeError:
        return
    yield from _lines(stdout, name, quiet_s)


def _lines(pipe: IO[bytes], name: str, quiet_s: float) -> Iterator[bytes]:
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while selector.select(quiet_s):
            block = os.read(pipe.fileno(), _READ_BYTES)
            if not block:
                return
            *whole, rest = (rest + block).split(b"\n")
            yield from whole
    raise TrialError(name, f"it gave no answer within {quiet_s:g} s")


def _ended(code: int, errors: IO[bytes]) -> str:
    """Say how a child ended that gave no answer."""
    errors.seek(0)
    last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
    said = f" ({last[0][:_REASON_CHARACTERS]})" if last else ""
    if code >= 0:
        return f"the process that ran it ended with code {code}{said}"
    killer = signal.Signals(-code)
    if killer is signal.SIGKILL:
        return "the interpreter was killed by SIGKILL; is there enough memory for it?"
    detail = said if killer is signal.SIGABRT else ""
    return (
        f"the interpreter was killed by {killer.name}{detail}; "
        "the file is damaged or not for this runtime"
    )
