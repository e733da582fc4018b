"""`ai-edge-quantizer` in a process of its own: a job in, the quantized model out."""

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from controller.compress.errors import CompressError
from controller.compress.quantize_process import SAID, Calibrated, Done, Job, Refused

_REASON_CHARACTERS = 300


def check_installed(package: str = "ai_edge_quantizer") -> None:
    """Check that the library is there.

    Raises:
        CompressError: it is not.
    """
    if importlib.util.find_spec(package) is None:
        raise CompressError(
            "cannot quantize: needs ai-edge-quantizer; pip install '.[compress]' (it has no form "
            "for 32-bit ARM)"
        )


def run_quantizer(
    job: Job, doing: str, on_calibrated: Callable[[int], None] = lambda _: None
) -> None:
    """Have a model quantized.

    Args:
        job: what to do; its paths are absolute.
        doing: how messages begin, after "cannot".
        on_calibrated: takes the number of samples that are done.

    Raises:
        CompressError: the library is not installed, or gave up, or was killed.
    """
    check_installed()
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            [sys.executable, "-m", "controller.compress.quantize_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=Path(__file__).parents[2],  # -m looks there first
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"},
        ) as process:
            try:
                _send(process.stdin, job)
                for line in process.stdout or ():
                    match SAID.validate_json(line):
                        case Calibrated(done=done):
                            on_calibrated(done)
                        case Refused(why=why):
                            raise CompressError(f"cannot {doing}: {why[:_REASON_CHARACTERS]}")
                        case Done():
                            return
                process.wait()
            finally:
                process.kill()
        raise CompressError(f"cannot {doing}: {_ended(process.returncode, errors)}")


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
        return f"the quantizer was killed by {signal.Signals(-code).name}"
    errors.seek(0)
    last = errors.read().decode(errors="replace").strip().splitlines()[-1:] or [f"code {code}"]
    return f"the quantizer ended: {last[0][:_REASON_CHARACTERS]}"
