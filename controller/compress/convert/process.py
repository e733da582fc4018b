"""The child that converts. See `controller.compress.convert.conversion`.

Frameworks of some gigabytes work here: they print what they like, take what memory they like, and
end in a crash here and there.
"""

import os
import resource
import sys
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.compress.convert.kinds import Kind
from controller.compress.convert.messages import MODEL, Converted, End, Job, Refused, Say, Step
from controller.compress.convert.source import Arrays, Port, Source, Written
from controller.compress.errors import CompressError
from controller.samples import read_samples
from protocols.bundle import TensorSpec
from protocols.errors import SluiceError
from protocols.inference.tensors import conform

_AXES_OF_IMAGES = 4


def main() -> None:
    """Do the job on standard input; say how it goes on standard output, a JSON line each."""
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what the frameworks print
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def say(said: Step | Converted | Refused) -> None:
        channel.write(said.model_dump_json().encode() + b"\n")

    job = Job.model_validate_json(sys.stdin.buffer.read())
    warnings.simplefilter("ignore")
    try:
        say(_convert(job, say))
    except SluiceError as error:
        say(Refused(why=str(error), is_whole=True))
    except Exception as error:  # noqa: BLE001 - frameworks raise whatever they like
        say(Refused(why=_words(error), is_whole=False))


def _convert(job: Job, say: Say) -> Converted:
    say(Step(title="Reading"))
    source = _open(job)
    inputs, sample_rows = _inputs(job, source.inputs)
    say(Step(title="Running the source"))
    answers = [source.run([array[row] for array in inputs]) for row in range(len(inputs[0]))]
    outputs = [np.stack(each) for each in zip(*answers, strict=True)]
    say(Step(title="Converting"))
    written = source.write(Path(job.folder) / MODEL, channels_last=job.channels_last)
    _save(job.folder, "in", inputs, written.moved_inputs)
    _save(job.folder, "out", outputs, written.moved_outputs)
    return Converted(
        inputs=_input_ends(source.inputs, written),
        outputs=_output_ends(outputs, written),
        sample_rows=sample_rows,
        tools=", ".join(source.tools),
    )


def _open(job: Job) -> Source:
    """Open a source; what its kind needs is imported here, when the output is moved away."""
    path = Path(job.source)
    match job.kind:
        case Kind.TORCH:
            from controller.compress.convert import torch_program  # noqa: PLC0415

            return torch_program.Program(path, job.name, job.shape)
        case Kind.ONNX:
            from controller.compress.convert import onnx_model  # noqa: PLC0415

            return onnx_model.OnnxModel(path, job.name, job.shape)
        case Kind.KERAS:
            from controller.compress.convert import keras_model  # noqa: PLC0415

            return keras_model.KerasModel(path, job.name, job.shape)
        case Kind.SAVED_MODEL:
            from controller.compress.convert import saved_model  # noqa: PLC0415

            return saved_model.SavedModel(path, job.name, job.shape, job.signature)


def _inputs(job: Job, ports: Sequence[Port]) -> tuple[Arrays, int]:
    """Return rows for every input, [rows, *shape]: random ones, then the user's; how many of his.

    Raises:
        BuildError, CompressError: the samples cannot be used.
    """
    draw = np.random.default_rng(job.seed)
    random = [_random(each, job.random_rows, draw) for each in ports]
    if job.samples is None:
        return random, 0
    if len(ports) > 1:
        _check_names(job.samples, ports)
    given = [_samples(job, each, alone=len(ports) == 1) for each in ports]
    counts = {len(rows) for rows in given}
    if len(counts) > 1:
        raise CompressError(
            f"cannot use samples {job.samples}: the inputs have "
            f"{' and '.join(map(str, sorted(counts)))} of them"
        )
    whole = [np.concatenate(both) for both in zip(random, given, strict=True)]
    return whole, counts.pop()


def _check_names(samples: str, ports: Sequence[Port]) -> None:
    """Check that there is an array for each of several inputs."""
    if not zipfile.is_zipfile(samples):
        return  # reading it says what it is
    with zipfile.ZipFile(samples) as archive:
        there = {name.removesuffix(".npy") for name in archive.namelist()}
    missing = [port.name for port in ports if port.name not in there]
    if missing:
        raise CompressError(
            f"cannot use samples {samples}: no array {missing[0]!r}; the model takes "
            f"{', '.join(repr(port.name) for port in ports)}, each from an array of its name"
        )


def _random(port: Port, rows: int, draw: np.random.Generator) -> NDArray[Any]:
    """Return random rows: floats within 0..1 in one half, normal ones in the other.

    Integers are 0 or 1: they may be indices into a table.
    """
    shape, dtype = (rows, *port.shape), np.dtype(port.dtype)
    if dtype.kind != "f":
        return draw.integers(0, 1, shape, endpoint=True).astype(dtype)
    values = draw.random(shape)
    values[rows // 2 :] = draw.standard_normal(values[rows // 2 :].shape)
    return values.astype(dtype)


def _samples(job: Job, port: Port, *, alone: bool) -> NDArray[Any]:
    """Return a user's rows for an input, in the source's layout."""
    key = (job.x_key or "x") if alone else port.name
    samples = read_samples(Path(job.samples or ""), key)
    rows, wanted = samples.x[: job.sample_rows], port.shape
    spec = TensorSpec.model_validate({"name": port.name, "shape": wanted, "dtype": port.dtype})
    if rows.shape[1:] not in {wanted, wanted[1:]} and len(wanted) == _AXES_OF_IMAGES:
        _, channels, *rest = wanted
        if rows.shape[1:] == (*rest, channels):  # as the converted file takes them
            rows = np.moveaxis(rows, -1, 1)
    return np.stack([conform(row, spec) for row in rows])


def _save(folder: str, name: str, arrays: Arrays, moved: frozenset[int]) -> None:
    for number, array in enumerate(arrays):
        lying = np.moveaxis(array, 2, -1) if number in moved else array  # axis 0 counts rows
        np.save(Path(folder) / f"{name}_{number}.npy", np.ascontiguousarray(lying))


def _input_ends(ports: Sequence[Port], written: Written) -> tuple[End, ...]:
    return tuple(
        End(
            name=port.name,
            shape=port.shape,
            dtype=port.dtype,
            is_open=port.is_open,
            moved=number in written.moved_inputs,
            key=written.inputs[number],
        )
        for number, port in enumerate(ports)
    )


def _output_ends(outputs: Arrays, written: Written) -> tuple[End, ...]:
    return tuple(
        End(
            name=written.output_names[number],
            shape=array.shape[1:],
            dtype=array.dtype.name,
            is_open=False,
            moved=number in written.moved_outputs,
            key=written.outputs[number],
        )
        for number, array in enumerate(outputs)
    )


def _words(error: Exception) -> str:
    """Return the first line that a framework says; the rest is its stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


if __name__ == "__main__":
    main()
