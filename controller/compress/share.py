"""Weight sharing by clustering: every layer's weights take few values, its palette.

The file keeps its size, since a `.tflite` stores every number in full; what goes over the air
shrinks, since few values compress well (Han et al., "Deep Compression", 2016, trains the palette
further; here the model is finished and stays so).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.layers import Layer
from controller.compress.palette import nearest, palette
from controller.compress.search import Found, Judge
from controller.compress.sensitivity import Treatment
from controller.compress.weights import (
    Weights,
    by_layer,
    put,
    relative_error,
    weights,
    why_fixed,
    why_nothing,
    wire_by_tensor,
    wire_bytes,
)

MAX_BITS = 8
BITS_TRIED = (2, 3, 4, 5, 6, 8)
"""Palettes that are measured on each layer where a budget chooses."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which weights share a palette: a whole tensor's (None), or so many output channels'."""

    channels: int | None = None


WHOLE = Grouping()


@dataclass(frozen=True, slots=True)
class SharedLayer:
    """What became of one layer's weights.

    Attributes:
        operator: the layer's number in the graph.
        name: the layer's.
        kind: as the schema names it.
        weights: how many there are.
        bits: of its palette; None: it was left as it is.
        values_before: different values that it had, as stored.
        values: different values that it has; with channel groups, of the group with the most.
        error: root mean square of the change over that of the weights, both as real numbers.
        why: why it could not be treated; empty where it could, or should not.
    """

    operator: int
    name: str
    kind: str
    weights: int
    bits: int | None
    values_before: int
    values: int
    error: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class ShareReport:
    """What became of every layer, in the order in which they run."""

    layers: tuple[SharedLayer, ...]


def share(
    content: bytes, name: str, bits: int, grouping: Grouping = WHOLE
) -> tuple[bytes, ShareReport]:
    """Give every layer's weights a palette of 2^bits values.

    Args:
        content: the model's file.
        name: for messages.
        bits: 1 to 8.
        grouping: which weights share a palette.

    Returns:
        The model; the same bytes where nothing had to change.

    Raises:
        CompressError: it is no model, or none of its layers has weights that can be changed.
    """
    if not 1 <= bits <= MAX_BITS:
        raise CompressError(f"cannot share with palettes of {bits} bits: want 1 to {MAX_BITS}")
    chosen = {stored.tensor: bits for stored in weights(Graph.read(content, name))}
    return share_layers(content, name, chosen, grouping)


def share_layers(
    content: bytes, name: str, bits: Mapping[int, int], grouping: Grouping = WHOLE
) -> tuple[bytes, ShareReport]:
    """Give the weights of some layers palettes.

    Args:
        content: the model's file.
        name: for messages.
        bits: by the weights' tensor number; a layer that is not named stays as it is.
        grouping: which weights share a palette.

    Raises:
        CompressError: as `share`.
    """
    graph = Graph.read(content, name)
    found = weights(graph)
    before = [graph.raw(stored.tensor) for stored in found]
    told = tuple(_share_one(graph, stored, bits.get(stored.tensor), grouping) for stored in found)
    if not told or all(layer.why for layer in told):
        reasons = [layer.why for layer in told]
        raise CompressError(f"cannot share weights of {name}: {why_nothing(reasons)}")
    after = [graph.raw(stored.tensor) for stored in found]
    changed = any(not np.array_equal(*two) for two in zip(before, after, strict=True))
    return (graph.write() if changed else content), ShareReport(told)


def palettes(bits: Sequence[int], grouping: Grouping = WHOLE) -> tuple[Treatment, ...]:
    """Return palettes of several sizes as treatments whose cost can be measured by layer."""
    return tuple(_treatment(number, grouping) for number in bits)


def share_within(
    judge: Judge, max_loss: float, grouping: Grouping = WHOLE
) -> tuple[Found[int], ShareReport]:
    """Give each layer's weights the smallest palette that a budget of accuracy allows.

    Args:
        judge: the model, and samples to measure it on.
        max_loss: of accuracy, as a share, on the half of the samples that choices are made on.
        grouping: which weights share a palette.

    Raises:
        CompressError: as `share`, or the budget cannot be held.
    """

    def do(chosen: Mapping[int, int]) -> bytes:
        return share_layers(judge.content, judge.name, chosen, grouping)[0]

    share_layers(judge.content, judge.name, {})  # raises if nothing can be shared
    ways = tuple(zip(BITS_TRIED, palettes(BITS_TRIED, grouping), strict=True))
    found = judge.within(judge.costs(ways, wire_by_tensor), do, max_loss)
    return found, share_layers(judge.content, judge.name, found.chosen, grouping)[1]


def _treatment(bits: int, grouping: Grouping) -> Treatment:
    def apply(content: bytes, layer: Layer) -> bytes:
        graph = Graph.read(content, layer.name)
        tensor = by_layer(graph)[layer.weights].tensor
        why = why_fixed(graph, tensor)
        if why:
            raise CompressError(f"cannot share weights of {layer.name}: {why}")
        return share_layers(content, layer.name, {tensor: bits}, grouping)[0]

    def layer_bytes(graph: Graph, layer: Layer) -> int:
        stored = by_layer(graph)[layer.weights]
        return wire_bytes(_clustered(graph, stored, bits, grouping).tobytes())

    return Treatment(f"{bits} bit palette", apply, layer_bytes)


def _share_one(graph: Graph, stored: Weights, bits: int | None, grouping: Grouping) -> SharedLayer:
    layer, tensor = stored.layer, stored.tensor
    why = why_fixed(graph, tensor)
    if why:
        count = int(np.prod(graph.shape(tensor)))
        return SharedLayer(layer.operator, layer.name, layer.kind, count, None, 0, 0, 0.0, why)
    before, real = graph.values(tensor), graph.real(tensor)
    if bits is not None:
        values = _clustered(graph, stored, bits, grouping)
        if not np.array_equal(values, before):
            put(graph, stored, values)
    after = graph.values(tensor)
    slices = _slices(after, layer.channel_axis, grouping)
    return SharedLayer(
        operator=layer.operator,
        name=layer.name,
        kind=layer.kind,
        weights=after.size,
        bits=bits,
        values_before=len(np.unique(before)),
        values=max(len(np.unique(part)) for part in slices),
        error=relative_error(real, graph.real(tensor)),
    )


def _clustered(graph: Graph, stored: Weights, bits: int, grouping: Grouping) -> NDArray[Any]:
    """Return the weights as stored, each the nearest of its palette.

    Quantized weights are clustered as the integers that they are, so that the palette lies on
    their grid; an error counts by the square of its channel's scale: it is the real error that is
    made least.
    """
    tensor, axis = stored.tensor, stored.layer.channel_axis
    values = graph.values(tensor)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise CompressError(
            f"cannot share weights of {stored.layer.name}: they hold NaN or infinity"
        )
    scale = graph.scale(tensor)
    factor = np.float32(1) if scale is None else scale.broadcast(values.ndim)[0]
    zero = 0 if scale is None else scale.broadcast(values.ndim)[1]
    numbers = (values - zero).astype(np.float64)
    least = np.finfo(np.float64).tiny  # a channel with a scale of 0 has no real error at all
    mass = np.broadcast_to(np.maximum(np.square(factor, dtype=np.float64), least), values.shape)
    done = [
        _drawn(part, weight, bits, values.dtype)
        for part, weight in zip(
            _slices(numbers, axis, grouping), _slices(mass, axis, grouping), strict=True
        )
    ]
    return (np.concatenate(done, axis) + zero).astype(values.dtype)


def _drawn(
    numbers: NDArray[np.float64], mass: NDArray[np.float64], bits: int, dtype: np.dtype[Any]
) -> NDArray[np.float64]:
    centres = palette(numbers, 1 << bits, mass)
    # As they will be stored: a value's nearest must be so among these.
    stored = centres.astype(dtype).astype(np.float64) if dtype.kind == "f" else np.rint(centres)
    return nearest(numbers, np.unique(stored))


def _slices(values: NDArray[Any], axis: int, grouping: Grouping) -> list[NDArray[Any]]:
    if grouping.channels is None:
        return [values]
    return np.array_split(
        values, range(grouping.channels, values.shape[axis], grouping.channels), axis
    )
