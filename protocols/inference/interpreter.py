"""What both interpreters share: they have the same Python interface and differ in their import."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray

from protocols.bundle import DType, Quantization, TensorSpec
from protocols.inference.runtime import ModelError

_DTYPES = frozenset(get_args(DType))
_BATCH = 1
_GRAY = 1
"""The channel axis that samples of gray images often lack."""

Details = Mapping[str, Any]
"""One tensor, as `get_input_details` describes it."""


class Interpreter(Protocol):
    """The part of `tf.lite.Interpreter` that is used here."""

    def allocate_tensors(self) -> None:
        """Plan the memory of every tensor."""

    def get_input_details(self) -> Sequence[Details]:
        """Describe the input tensors."""

    def get_output_details(self) -> Sequence[Details]:
        """Describe the output tensors."""

    def resize_tensor_input(self, input_index: int, tensor_size: Sequence[int]) -> None:
        """Give an input another shape; needs a new allocation."""

    def set_tensor(self, tensor_index: int, value: NDArray[Any]) -> None:
        """Copy values in."""

    def invoke(self) -> None:
        """Compute the outputs."""

    def get_tensor(self, tensor_index: int) -> NDArray[Any]:
        """Copy values out."""


class OpenInterpreter(Protocol):
    """The constructor of an interpreter."""

    def __call__(self, *, model_path: str, num_threads: int) -> Interpreter:
        """Read a model file."""


class InterpretedModel:
    """A `Model` on top of an interpreter."""

    def __init__(self, name: str, interpreter: Interpreter) -> None:
        self._name = name
        self._interpreter: Interpreter | None = interpreter
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        if not inputs or not outputs:
            raise ModelError(name, f"it has {len(inputs)} inputs and {len(outputs)} outputs")
        self._input_indices = [int(d["index"]) for d in inputs]
        self._output_indices = [int(d["index"]) for d in outputs]
        self.inputs = tuple(_spec(name, d, tuple(map(int, d["shape"]))) for d in inputs)
        if any(0 in d["shape"] for d in outputs):
            shapes = [value.shape for value in self.run([_zeros(spec) for spec in self.inputs])]
        else:
            shapes = [tuple(map(int, d["shape"])) for d in outputs]
        self.outputs = tuple(
            _spec(name, d, shape) for d, shape in zip(outputs, shapes, strict=True)
        )

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Answer once; see `Model.run`."""
        interpreter = self._interpreter
        if interpreter is None:
            raise ModelError(self._name, "it is closed", "run")
        try:
            for index, value in zip(self._input_indices, inputs, strict=True):
                interpreter.set_tensor(index, value)
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in self._output_indices]
        except (ValueError, RuntimeError) as error:
            raise ModelError(self._name, one_line(error), "run") from error

    def close(self) -> None:
        """Let go of the interpreter; see `Model.close`."""
        self._interpreter = None


def open_with(
    interpreter_class: OpenInterpreter,
    path: Path,
    threads: int,
    sample_shape: tuple[int, ...] | None,
) -> InterpretedModel:
    """Open a model with one of the interpreters; see `runtime.open_model`.

    Raises:
        ModelError: the interpreter refuses the file or its tensors.
    """
    if not path.is_file():
        raise ModelError(path.name, f"there is no file {path}")
    try:
        interpreter = interpreter_class(model_path=str(path), num_threads=threads)
        inputs = interpreter.get_input_details()
        batch = _fixed_batch(inputs, sample_shape)
        for details in inputs:
            shape = _closed_shape(path.name, details, sample_shape)
            if batch is not None:
                shape = (_BATCH, *shape[1:])
            if shape != tuple(map(int, details["shape"])):
                interpreter.resize_tensor_input(int(details["index"]), shape)
        _allocate(path.name, interpreter, batch)
        return InterpretedModel(path.name, interpreter)
    except (ValueError, RuntimeError) as error:
        raise ModelError(path.name, one_line(error)) from error


def one_line(error: Exception) -> str:
    """Return what an interpreter says, without its line breaks and its length."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}..."  # noqa: PLR2004 - a line, not a page


def _fixed_batch(inputs: Sequence[Details], sample_shape: tuple[int, ...] | None) -> int | None:
    """Return how many samples a model takes at a time; None: one, or it leaves that open."""
    if len(inputs) != 1 or sample_shape is None or -1 in inputs[0].get("shape_signature", ()):
        return None
    batch, *rest = map(int, inputs[0]["shape"]) if len(inputs[0]["shape"]) else (_BATCH,)
    return batch if batch != _BATCH and math.prod(rest) == math.prod(sample_shape) else None


def _allocate(name: str, interpreter: Interpreter, batch: int | None) -> None:
    try:
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        if batch is None:
            raise
        raise ModelError(
            name,
            f"it takes {batch} samples at a time and cannot be resized to one "
            f"({one_line(error)}); export it with a batch of 1",
        ) from error


def _closed_shape(
    name: str, details: Details, sample_shape: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Give every open dimension of an input (-1 in its signature) a size.

    The first axis, where it is open, is the batch. Others take theirs from the sample.
    """
    shape = tuple(map(int, details["shape"]))
    signature = tuple(map(int, details.get("shape_signature", shape)))
    if len(signature) != len(shape) or -1 not in signature:
        return shape
    if -1 not in signature[1:]:
        return (_BATCH, *shape[1:])
    if sample_shape is None:
        raise ModelError(
            name, f"input {details['name']!r} leaves its shape {list(signature)} open; give samples"
        )
    for candidate in ((_BATCH, *sample_shape), sample_shape, (_BATCH, *sample_shape, _GRAY)):
        if len(candidate) == len(signature) and all(
            want in (-1, have) for want, have in zip(signature, candidate, strict=True)
        ):
            return candidate
    raise ModelError(
        name,
        f"input {details['name']!r} has shape {list(signature)}, "
        f"samples of shape {list(sample_shape)} do not fit it",
    )


def _spec(name: str, details: Details, shape: tuple[int, ...]) -> TensorSpec:
    dtype = np.dtype(details["dtype"]).name
    if not _is_dtype(dtype):
        raise ModelError(name, f"tensor {details['name']!r} has type {dtype}, which is not served")
    if 0 in shape:
        raise ModelError(name, f"tensor {details['name']!r} is empty: its shape is {list(shape)}")
    scale, zero_point = details["quantization"]
    quantization = None
    if scale > 0 and np.issubdtype(dtype, np.integer):
        quantization = Quantization(scale=float(scale), zero_point=int(zero_point))
    return TensorSpec(
        name=str(details["name"])[:512], shape=shape, dtype=dtype, quantization=quantization
    )


def _is_dtype(name: str) -> TypeGuard[DType]:
    return name in _DTYPES


def _zeros(spec: TensorSpec) -> NDArray[Any]:
    return np.zeros(spec.shape, spec.dtype)
