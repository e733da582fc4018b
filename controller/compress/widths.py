"""How wide a layer's weights are stored: what a width takes, and what rounding to it costs. Pure.

Integers are symmetric, with one scale for each output channel, for each block of a row, or for all
of them: real = q * s.
The widest range, s = max|w| / q_max, makes no weight clip and all of them coarse. A narrower one is
finer and clips the few large ones. The search takes for each channel that clip of a grid of
fractions of max|w| which makes the squared error of (w - round(w / s) * s) least.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.layers import Layer
from controller.compress.sensitivity import Treatment

BLOCK = 32
"""Weights of a row that share a scale, where a layer is quantized blockwise."""

_RATIOS = np.linspace(1.0, 0.4, 41)
"""Clips that the search tries, as fractions of a channel's largest magnitude. The first is min/max,
so that the search is never worse."""

_CHUNK = 1 << 20
"""Weights that the search works on at once: what it needs of memory is some times that."""

_FLOAT16_MOST = float(np.finfo(np.float16).max)
_SCALE_BYTES = 12
"""Of one channel: float32 scale and int64 zero point."""
_BLOCK_SCALE_BYTES = 2

_DENSE, _DEPTHWISE = "FULLY_CONNECTED", "DEPTHWISE_CONV_2D"
_PLAIN = frozenset({"CONV_2D", _DENSE})


class Width(StrEnum):
    """What a layer's weights are stored as."""

    FLOAT16 = "float16"
    INT8 = "int8"
    INT8_TENSOR = "int8-tensor"
    INT4 = "int4"
    INT4_BLOCKWISE = "int4-blockwise"


@dataclass(frozen=True, slots=True)
class Grade:
    """How a layer's weights are stored: a width, and scales of min/max or searched ones."""

    width: Width
    searched: bool = False


_MOST = {Width.INT8: 127, Width.INT8_TENSOR: 127, Width.INT4: 7, Width.INT4_BLOCKWISE: 7}
"""The largest magnitude that is used; the integers below -q_max are not, the range is symmetric."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """What rounding a layer's weights costs: root mean square of the error over that of weights.

    Attributes:
        min_max: with each channel's whole range.
        searched: with the clip of least squared error; None: it was not searched.
    """

    min_max: float
    searched: float | None

    @property
    def error(self) -> float:
        """That of what was done."""
        return self.min_max if self.searched is None else self.searched


def why_not(graph: Graph, layer: Layer, width: Width) -> str:
    """Say why a layer's weights cannot be stored so; empty: they can.

    The kernels of the runtime decide: int4 exists for convolutions and dense layers, blocks for
    dense layers alone.
    """
    if graph.is_sparse(layer.weights):
        return "its weights are stored as a sparse tensor"
    if graph.type_name(layer.weights) != "float32":
        return f"its weights are {graph.type_name(layer.weights)} already"
    match width:
        case Width.FLOAT16:
            return _why_not_float16(graph.values(layer.weights))
        case Width.INT4_BLOCKWISE:
            return _why_not_blockwise(layer.kind, graph.shape(layer.weights)[-1])
        case _:
            return _why_not_kind(layer.kind, width)


def layer_bytes(graph: Graph, layer: Layer, width: Width) -> int:
    """Return what a layer's weights take in a file at a width, with their scales."""
    shape = graph.shape(layer.weights)
    count, channels = math.prod(shape), shape[layer.channel_axis]
    match width:
        case Width.FLOAT16:
            return 2 * count
        case Width.INT8:
            return count + _SCALE_BYTES * channels
        case Width.INT8_TENSOR:
            return count + _SCALE_BYTES
        case Width.INT4:
            return (count + 1) // 2 + _SCALE_BYTES * channels
        case Width.INT4_BLOCKWISE:
            return count // 2 + _BLOCK_SCALE_BYTES * (count // BLOCK)


def near_lossless(layer: Layer) -> Width:
    """Return the width that takes least bytes and time without a loss worth the name, anywhere.

    A depthwise layer has few weights to a channel: with 3x3 kernels scale and zero point take more
    than int8 saves over float16. And a depthwise int8 layer between float activations leaves the
    runtime's fast path: 7.5 ms against 0.8 for the demo's large model. A dense layer has one scale:
    with several, tflite-runtime 2.14 takes all of its weights for zero and says nothing.
    """
    if layer.kind == _DEPTHWISE:
        return Width.FLOAT16
    return Width.INT8_TENSOR if layer.kind == _DENSE else Width.INT8


def clipped(
    values: NDArray[np.float32], axis: int, width: Width
) -> tuple[NDArray[np.float32], Rounding]:
    """Clip weights so that min/max quantization takes the scales of least squared error.

    Args:
        values: a layer's weights.
        axis: that runs over its output channels.
        width: an integer one.

    Returns:
        The clipped weights, and what rounding costs with and without the clip.
    """
    rows = _rows(values, axis, width)
    most, best = np.abs(rows).max(axis=1, initial=0.0), np.zeros(len(rows), np.float32)
    errors = np.zeros((2, len(rows)), np.float64)
    step = max(1, _CHUNK // rows.shape[1])
    for at in range(0, len(rows), step):
        part = slice(at, at + step)
        tried = np.stack(
            [_squared_error(rows[part], most[part] * ratio, width) for ratio in _RATIOS]
        )
        chosen = tried.argmin(axis=0)
        best[part] = most[part] * _RATIOS[chosen]
        errors[:, part] = tried[0], tried.min(axis=0)
    result = _back(np.clip(rows, -best[:, None], best[:, None]), values, axis)
    low, high = (_relative(error, rows) for error in errors)
    return result, Rounding(min_max=low, searched=high)


def rounded(
    values: NDArray[np.float32], axis: int, width: Width
) -> tuple[NDArray[np.float32], Rounding]:
    """Return what weights mean once they are stored at a width with min/max scales; float32.

    Args:
        values: a layer's weights.
        axis: that runs over its output channels.
        width: what to round to.
    """
    if width is Width.FLOAT16:
        near = values.astype(np.float16).astype(np.float32)
    else:
        rows = _rows(values, axis, width)
        most = np.abs(rows).max(axis=1, initial=0.0)
        near = _back(_round(rows, most, width), values, axis)
    error = np.square(near - values, dtype=np.float64).sum()
    return near, Rounding(min_max=_relative(error, values), searched=None)


def rounding(
    values: NDArray[np.float32], axis: int, width: Width, *, search: bool
) -> tuple[NDArray[np.float32], Rounding]:
    """Return what is to be quantized with min/max scales, and what that costs.

    Args:
        values: a layer's weights.
        axis: that runs over its output channels.
        width: what they will be stored as.
        search: clip them as `clipped` does; float16 is never clipped.
    """
    if search and width is not Width.FLOAT16:
        return clipped(values, axis, width)
    return values, rounded(values, axis, width)[1]


def narrowed(width: Width, *, search: bool = False) -> Treatment:
    """Return a width as a treatment whose cost can be measured by layer: weights rounded to it."""

    def apply(content: bytes, layer: Layer) -> bytes:
        graph = Graph.read(content, layer.name)
        why = why_not(graph, layer, width)
        if why:
            raise CompressError(f"cannot store operator {layer.operator} as {width}: {why}")
        kept, _ = rounding(graph.values(layer.weights), layer.channel_axis, width, search=search)
        graph.replace(layer.weights, rounded(kept, layer.channel_axis, width)[0])
        return graph.write()

    name = f"{width} searched" if search and width is not Width.FLOAT16 else width.value
    return Treatment(name, apply, lambda graph, layer: layer_bytes(graph, layer, width))


def _why_not_float16(values: NDArray[np.float32]) -> str:
    most = float(np.abs(values).max())
    return f"it has a weight of {most:.4g}, beyond float16" if most > _FLOAT16_MOST else ""


def _why_not_kind(kind: str, width: Width) -> str:
    if width is Width.INT4 and kind not in _PLAIN:
        return f"{kind} has no int4 kernel; int8 or float16 it can be"
    if width is Width.INT8_TENSOR and kind != _DENSE:
        return f"{kind} has a scale for each channel, only {_DENSE} may have one for all"
    return ""


def _why_not_blockwise(kind: str, row: int) -> str:
    if kind != _DENSE:
        return f"{kind} has no blockwise kernel, only {_DENSE} has"
    return f"its rows of {row} weights are no multiple of {BLOCK}" if row % BLOCK else ""


def _rows(values: NDArray[np.float32], axis: int, width: Width) -> NDArray[np.float32]:
    """Return weights as [scales, weights of each]."""
    channels = np.moveaxis(values, axis, 0)
    sizes = {Width.INT4_BLOCKWISE: BLOCK, Width.INT8_TENSOR: values.size}
    size = sizes.get(width, math.prod(channels.shape[1:]))
    return np.ascontiguousarray(channels).reshape(-1, size)


def _back(rows: NDArray[np.float32], values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Undo `_rows`: blocks lie in a channel one after the other."""
    channels = rows.reshape(np.moveaxis(values, axis, 0).shape)
    return np.ascontiguousarray(np.moveaxis(channels, 0, axis), np.float32)


def _round(
    rows: NDArray[np.float32], clip: NDArray[np.float32], width: Width
) -> NDArray[np.float32]:
    most = _MOST[width]
    scale = (np.maximum(clip, np.finfo(np.float32).tiny * most) / most).astype(np.float32)[:, None]
    return np.clip(np.round(rows / scale), -most, most).astype(np.float32) * scale


def _squared_error(
    rows: NDArray[np.float32], clip: NDArray[np.float32], width: Width
) -> NDArray[np.float64]:
    wrong = _round(rows, clip.astype(np.float32), width) - rows
    total: NDArray[np.float64] = np.square(wrong).sum(axis=1, dtype=np.float64)
    return total


def _relative(error: NDArray[np.float64], values: NDArray[np.float32]) -> float:
    whole = float(np.square(values, dtype=np.float64).sum())
    return math.sqrt(float(error.sum()) / whole) if whole else 0.0
