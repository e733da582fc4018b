"""The child that converts, from outside: a job in, what it says out."""

from collections.abc import Callable

from controller.compress.child import REASON_CHARACTERS, run_job
from controller.compress.convert.messages import SAID, Converted, Job, Refused, Step
from controller.compress.errors import CompressError

_QUIET = {
    "CUDA_VISIBLE_DEVICES": "-1",  # a conversion needs no GPU, and looking for one takes seconds
    "KERAS_BACKEND": "tensorflow",
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
    doing = f"convert {job.name}"

    def hear(line: bytes) -> Converted | None:
        match SAID.validate_json(line):
            case Step(title=title):
                on_step(title)
            case Refused(why=why, is_whole=is_whole):
                begin = "" if is_whole else f"cannot {doing}: "
                raise CompressError(f"{begin}{why[:REASON_CHARACTERS]}")
            case Converted() as converted:
                return converted
        return None

    return run_job(module, job, hear, doing=doing, who="the converter", environ=_QUIET)
