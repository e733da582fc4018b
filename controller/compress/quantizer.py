"""`ai-edge-quantizer` in a process of its own: a job in, the quantized model out."""

import importlib.util
from collections.abc import Callable

from controller.compress.child import REASON_CHARACTERS, run_job
from controller.compress.errors import CompressError
from controller.compress.quantize_process import SAID, Calibrated, Done, Job, Refused


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

    def hear(line: bytes) -> Done | None:
        match SAID.validate_json(line):
            case Calibrated(done=done):
                on_calibrated(done)
            case Refused(why=why):
                raise CompressError(f"cannot {doing}: {why[:REASON_CHARACTERS]}")
            case Done() as said:
                return said
        return None

    run_job(
        "controller.compress.quantize_process",
        job,
        hear,
        doing=doing,
        who="the quantizer",
        environ={"TF_CPP_MIN_LOG_LEVEL": "2"},
    )
