"""A model of another framework, as the child that converts sees it: opened, run, written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from controller.compress.errors import CompressError

Arrays = list[NDArray[Any]]

_TAKEN = frozenset(
    {"float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"}
)


@dataclass(frozen=True, slots=True)
class Port:
    """An input of a source.

    Attributes:
        name: as the source has it.
        shape: with a batch of 1 where it is open.
        dtype: numpy's name.
        is_open: the source leaves the batch axis open.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    is_open: bool


@dataclass(frozen=True, slots=True)
class Written:
    """The ends of the file that was made of a source, in the source's order.

    Attributes:
        inputs: keys of the file's signature.
        outputs: likewise.
        output_names: as the source has them.
        moved_inputs: numbers of those that are channels last now.
        moved_outputs: likewise.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    output_names: tuple[str, ...]
    moved_inputs: frozenset[int] = frozenset()
    moved_outputs: frozenset[int] = frozenset()


class Source(Protocol):
    """A model of another framework."""

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What it takes."""
        ...

    @property
    def tools(self) -> tuple[str, ...]:
        """What converts it, with versions."""
        ...

    def run(self, arrays: Arrays) -> Arrays:
        """Answer one row of every input; the framework itself does."""
        ...

    def write(self, path: Path, *, channels_last: bool) -> Written:
        """Write it as a `.tflite` file.

        Args:
            path: the file.
            channels_last: let the file take and give images as [n, h, w, c] where the source
                has [n, c, h, w] (four axes); sources that are so already stay as they are.
        """
        ...


def port(
    name: str,
    dims: Sequence[int | None],
    dtype: str,
    shape: tuple[int, ...] | None,
    source: str,
) -> Port:
    """Return an input with every open axis closed: the first becomes a batch of 1.

    Args:
        name: of the input.
        dims: its axes; None: open.
        dtype: numpy's name, or the framework's where numpy has none.
        shape: of one sample, for axes that are open beside the first.
        source: for messages.

    Raises:
        CompressError: an axis stays open, or the type cannot be converted.
    """
    if dtype not in _TAKEN:
        raise CompressError(
            f"cannot convert {source}: its input {name!r} takes {dtype}; only numbers can be "
            "converted, so cut off what makes numbers of them"
        )
    is_open = bool(dims) and dims[0] is None
    whole = [1 if is_open and axis == 0 else dim for axis, dim in enumerate(dims)]
    if shape is not None:
        whole = _filled(whole, shape)
    if any(dim is None for dim in whole):
        listed = ", ".join("?" if dim is None else str(dim) for dim in whole)
        raise CompressError(
            f"cannot convert {source}: its input {name!r} leaves its shape [{listed}] open; give "
            "the shape of one sample with --shape, in the source's order of axes"
        )
    return Port(name, tuple(int(dim) for dim in whole if dim is not None), dtype, is_open)


def _filled(dims: Sequence[int | None], shape: tuple[int, ...]) -> list[int | None]:
    """Put a sample's shape into the open axes; stay as it is where it does not fit."""
    for candidate in ((1, *shape), shape):
        if len(candidate) == len(dims) and all(
            dim in (None, wanted) for dim, wanted in zip(dims, candidate, strict=True)
        ):
            return list(candidate)
    return list(dims)


def dtype_name(dtype: object) -> str:
    """Return numpy's name of a dtype, or the words that a framework has for it."""
    try:
        return np.dtype(dtype).name  # type: ignore[call-overload,no-any-return,unused-ignore]
    except TypeError:
        return str(dtype)
