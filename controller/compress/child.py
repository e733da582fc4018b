"""A library in a process of its own, for as long as it takes: a job in, lines of JSON out.

A library that prints, takes memory for good, or dies must do it elsewhere. For a model's own trial,
which may hang, see `controller.trial`.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TypeVar

from controller.compress.errors import CompressError
from protocols.message import Part

REASON_CHARACTERS = 400

Answer = TypeVar("Answer")


def run_job(
    module: str,
    job: Part,
    hear: Callable[[bytes], Answer | None],
    *,
    doing: str,
    who: str,
    environ: Mapping[str, str],
) -> Answer:
    """Have a module do a job. An interrupt ends it as well.

    Args:
        module: takes the job as JSON on standard input, answers with lines on standard output.
        job: what to do; its paths are absolute.
        hear: takes each line, until it returns something else than None.
        doing: how messages begin, after "cannot".
        who: what the child is, for messages.
        environ: what its environment has beside ours.

    Raises:
        CompressError: the child has ended without an answer; or whatever `hear` raises.
    """
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(  # noqa: S603 - a module of ours
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=Path(__file__).parents[2],  # -m looks there first
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environ},
        ) as process:
            try:
                _send(process.stdin, job)
                for line in process.stdout or ():
                    if (answer := hear(line)) is not None:
                        return answer
                process.wait()
            finally:
                process.kill()
        raise CompressError(f"cannot {doing}: {_ended(who, process.returncode, errors)}")


def _send(pipe: IO[bytes] | None, job: Part) -> None:
    if pipe is None:  # it is one
        return
    try:
        pipe.write(job.model_dump_json().encode())
        pipe.close()
    except BrokenPipeError:  # it ended at once; its code says why
        return


def _ended(who: str, code: int, errors: IO[bytes]) -> str:
    if code < 0:
        killer = signal.Signals(-code)
        hint = "; is there enough memory for it?" if killer is signal.SIGKILL else ""
        return f"{who} was killed by {killer.name}{hint}"
    errors.seek(0)
    last = errors.read().decode(errors="replace").strip().splitlines()[-1:] or [f"code {code}"]
    return f"{who} ended: {last[0][:REASON_CHARACTERS]}"
