"""What a model file is: tensors, needs, and which output holds its scores."""

from collections.abc import Sequence
from pathlib import Path

from controller.trial import QUIET_S, Examine, Facts, TrialError, run_trial
from protocols.bundle import TensorSpec

_MAGIC = slice(4, 8)
_TFLITE = b"TFL3"
_MAX_BYTES = 1 << 32


def inspect_model(
    path: Path, sample_shape: tuple[int, ...] | None = None, limit_s: float = QUIET_S
) -> Facts:
    """Open a model in a child process, run it on zeros and on random input, and measure it.

    Args:
        path: a `.tflite` file.
        sample_shape: of one sample, for models that leave more than their batch axis open, and
            for those with a fixed batch of several samples.
        limit_s: how long all of that may take.

    Returns:
        Its tensors as they are for one sample, and its needs with one thread on this machine.

    Raises:
        TrialError: it is no such file, the interpreter refuses it or dies of it, or it takes
            too long.
    """
    check_file(path)
    job = Examine(path=str(path.absolute()), sample_shape=sample_shape)
    return run_trial(job, path.name, Facts, quiet_s=limit_s)


def check_file(path: Path) -> None:
    """Check that a file looks like a `.tflite` model.

    Raises:
        TrialError: it does not.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_MAGIC.stop)
        size_bytes = path.stat().st_size
    except OSError as error:
        raise TrialError(path.name, f"{error.strerror or error}: {path}") from error
    if head[_MAGIC] != _TFLITE:
        raise TrialError(path.name, "it is no .tflite file (no 'TFL3' at byte 4)")
    if size_bytes > _MAX_BYTES:
        raise TrialError(path.name, f"it has {size_bytes} bytes, at most {_MAX_BYTES} are allowed")


def scores_index(outputs: Sequence[TensorSpec], wanted: str | None) -> int | None:
    """Return which output holds the scores; None: several outputs, and nobody has said which.

    Args:
        outputs: of the model.
        wanted: its name or its number from 0; None: not said.

    Raises:
        ValueError: there is no such output, or two have that name.
    """
    if wanted is None:
        return 0 if len(outputs) == 1 else None
    named = [number for number, spec in enumerate(outputs) if spec.name == wanted]
    if len(named) == 1:
        return named[0]
    if not named and wanted.isascii() and wanted.isdigit() and int(wanted) < len(outputs):
        return int(wanted)
    why = f"{len(named)} outputs are named {wanted!r}" if named else f"no output {wanted!r}"
    raise ValueError(f"{why}; it has {describe_outputs(outputs)}")


def describe_outputs(outputs: Sequence[TensorSpec]) -> str:
    """Return outputs with their numbers, in one line."""
    return ", ".join(f"{n}: {spec.name!r} {describe(spec)}" for n, spec in enumerate(outputs))


def describe(spec: TensorSpec) -> str:
    """Return a tensor's dtype, shape and quantization: `int8[1, 10] 0.0039 * (q + 128)`."""
    shape = f"{spec.dtype}[{', '.join(map(str, spec.shape))}]"
    if spec.quantization is None:
        return shape
    sign = "-" if spec.quantization.zero_point >= 0 else "+"
    zero = (
        "" if not spec.quantization.zero_point else f" {sign} {abs(spec.quantization.zero_point)}"
    )
    return f"{shape} = {spec.quantization.scale:.6g} * (q{zero})"
