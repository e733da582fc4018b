"""From a model of another framework to a `.tflite` file that is known to answer as it does."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.compress.convert.child import run_converter
from controller.compress.convert.comparison import Comparison, compare
from controller.compress.convert.kinds import Kind, check_installed, recognise
from controller.compress.convert.messages import MODEL, Converted, End, Job
from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.samples import read_samples
from controller.trial import Answer, Answered, Source, TrialError, run_trial
from protocols.bundle import TensorSpec

TOLERANCE = 1e-3
"""Of the largest value that an output takes: sums of float32 in another order differ by some 1e-6
of it, wrong weights by far more."""
RANDOM_ROWS = 16
SAMPLE_ROWS = 100


@dataclass(frozen=True, slots=True)
class Options:
    """How a source is converted and compared.

    Attributes:
        samples: an `.npz` whose samples are compared too, the first 100: an array `x_key` (`x` if
            None) for one input, an array for each by its name for several.
        x_key: see above.
        shape: of one sample, without the batch axis, in the source's order; for sources that leave
            more than the batch open.
        signature: which one of a SavedModel; None: `serving_default`, or the only one.
        channels_last: have the file take and give images as [n, h, w, c] where the source has
            [n, c, h, w]; for tensors of four axes of torch and ONNX.
        tolerance: the largest difference allowed, as a share of the largest value of an output.
        seed: of random inputs.
    """

    samples: Path | None = None
    x_key: str | None = None
    shape: tuple[int, ...] | None = None
    signature: str | None = None
    channels_last: bool = True
    tolerance: float = TOLERANCE
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What was converted, and how well.

    Attributes:
        kind: of the source.
        inputs: of the source, with their layout in the file.
        outputs: likewise.
        tools: what converted it, with versions.
        samples: how many of the compared rows are the user's.
        comparison: of the file's answers with the source's.
    """

    kind: Kind
    inputs: tuple[End, ...]
    outputs: tuple[End, ...]
    tools: str
    samples: int
    comparison: Comparison


def convert(
    path: Path, options: Options | None = None, on_step: Callable[[str], None] = lambda _: None
) -> tuple[bytes, ConvertReport]:
    """Convert a model to float32 `.tflite` with a batch of 1, and compare it with its source.

    The source is only read. It is converted in a process of its own, and the result runs in
    another one.

    Args:
        path: an exported program of torch, an ONNX or Keras file, or a SavedModel folder.
        options: None: the defaults.
        on_step: takes what is done next.

    Returns:
        The file, and what it is.

    Raises:
        CompressError: it is none of these, its packages are not installed, it has an operator or
            an input that cannot be converted, or the file's answers differ by more than the
            tolerance.
        BuildError: the samples cannot be used.
    """
    options = options or Options()
    kind = recognise(path)
    check_installed(kind, path.name)
    if options.samples is not None and options.x_key is not None:
        read_samples(options.samples, options.x_key)  # before minutes pass
    with tempfile.TemporaryDirectory(prefix="sluice-convert-") as folder:
        made = run_converter(_job(path, kind, options, folder), on_step)
        on_step("Running the file")
        compared = checked(made, Path(folder), path.name, options.tolerance)
        content = (Path(folder) / MODEL).read_bytes()
    report = ConvertReport(kind, made.inputs, made.outputs, made.tools, made.sample_rows, compared)
    return content, report


def checked(made: Converted, folder: Path, name: str, tolerance: float) -> Comparison:
    """Run a file on the inputs that its source has answered, and compare.

    Args:
        made: what the converter said of it.
        folder: has the file, the inputs and the source's answers.
        name: for messages.
        tolerance: as in `Options`.

    Raises:
        CompressError: it does not run, or it answers something else.
    """
    given = _answers((folder / MODEL).read_bytes(), name, made, folder)
    expected = [np.load(folder / f"out_{number}.npy") for number in range(len(made.outputs))]
    compared = _compared(name, made.outputs, expected, given)
    _check(name, compared, tolerance)
    return compared


def _job(path: Path, kind: Kind, options: Options, folder: str) -> Job:
    samples = None if options.samples is None else str(options.samples.absolute())
    return Job(
        kind=kind,
        source=str(path.absolute()),
        name=path.name,
        folder=folder,
        random_rows=RANDOM_ROWS,
        seed=options.seed,
        samples=samples,
        x_key=options.x_key,
        sample_rows=SAMPLE_ROWS,
        shape=options.shape,
        signature=options.signature,
        channels_last=options.channels_last,
    )


def _answers(content: bytes, name: str, made: Converted, folder: Path) -> list[NDArray[Any]]:
    """Run the file on the inputs that the source has answered; return the source's outputs."""
    graph = Graph.read(content, name)
    taken, gives = graph.named_ends()
    inputs = {taken[end.key]: (number, end) for number, end in enumerate(made.inputs)}
    if set(inputs) != set(graph.inputs):
        raise CompressError(f"cannot convert {name}: the converter left out an input of it")
    sources = tuple(_source(folder, *inputs[tensor]) for tensor in graph.inputs)
    results = folder / "results"
    results.mkdir()
    job = Answer(path=str(folder / MODEL), sources=sources, folder=str(results))
    try:
        run_trial(job, name, Answered)
    except TrialError as error:
        why = f"the file does not run: {error.why}"
        raise CompressError(f"cannot convert {name}: {why}") from error
    places = [graph.outputs.index(gives[end.key]) for end in made.outputs]
    return [np.load(results / f"{place}.npy") for place in places]


def _source(folder: Path, number: int, end: End) -> Source:
    spec = {"name": end.name[:500], "shape": end.file_shape, "dtype": end.dtype}
    return Source(
        path=str(folder / f"in_{number}.npy"),
        spec=TensorSpec.model_validate(spec),
        is_request=True,
    )


def _compared(
    name: str,
    ends: Sequence[End],
    expected: Sequence[NDArray[Any]],
    given: Sequence[NDArray[Any]],
) -> Comparison:
    try:
        return compare([end.name for end in ends], expected, given)
    except ValueError as error:
        raise CompressError(f"cannot convert {name}: {error}") from error


def _check(name: str, compared: Comparison, tolerance: float) -> None:
    if compared.is_within(tolerance):
        return
    worst = compared.worst
    raise CompressError(
        f"cannot convert {name}: output {worst.name!r} of the file differs from the source's by up "
        f"to {worst.difference:.3g}, which is {worst.relative:.2g} of its largest value "
        f"{worst.largest:.3g}; allowed is {tolerance:g} of it (--tolerance)"
    )
