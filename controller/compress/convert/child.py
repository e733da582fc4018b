"""The child that converts, from outside: a job in, what it says out."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from controller.compress.convert.messages import SAID, Converted, Job, Refused, Step
from controller.compress.errors import CompressError

_REASON_CHARACTERS = 400
_QUIET = {
    "CUDA_VISIBLE_DEVICES": "-1",  # a conversion needs no GPU, and looking for one takes seconds
    "KERAS_BACKEND": "tensorflow",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
}


def run_converter(
    job: Job,
    on_step: Callable[[str], None] = lambda _: None,
    module: str = "controller.compress.convert.process",
) -> Converted:
    """Have a source converted. There is no limit of time: an interrupt ends the child as well.

    Args:
        job: what to do; its paths are absolute.
        on_step: takes what is done next.
        module: the child.

    Raises:
        CompressError: the converter refused, or died.
    """
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(  # noqa: S603 - a module of ours
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=Path(__file__).parents[3],  # -m looks there first
            env={**os.environ, **_QUIET},
        ) as process:
            try:
                _send(process.stdin, job)
                for line in process.stdout or ():
                    match SAID.validate_json(line):
                        case Step(title=title):
                            on_step(title)
                        case Refused(why=why, is_whole=is_whole):
                            begin = "" if is_whole else f"cannot convert {job.name}: "
                            raise CompressError(f"{begin}{why[:_REASON_CHARACTERS]}")
                        case Converted() as converted:
                            return converted
                process.wait()
            finally:
                process.kill()
        raise CompressError(f"cannot convert {job.name}: {_ended(process.returncode, errors)}")


def _send(pipe: IO[bytes] | None, job: Job) -> None:
    if pipe is None:  # it is one
        return
    try:
        pipe.write(job.model_dump_json().encode())
        pipe.close()
    except BrokenPipeError:  # it ended at once; its code says why
        return


def _ended(code: int, errors: IO[bytes]) -> str:
    if code < 0:
        killer = signal.Signals(-code)
        hint = "; is there enough memory for it?" if killer is signal.SIGKILL else ""
        return f"the converter was killed by {killer.name}{hint}"
    errors.seek(0)
    last = errors.read().decode(errors="replace").strip().splitlines()[-1:] or [f"code {code}"]
    return f"the converter ended: {last[0][:_REASON_CHARACTERS]}"
