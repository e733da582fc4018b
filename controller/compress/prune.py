"""Magnitude pruning: the weights nearest to zero become zero; biases stay.

It buys bytes over the air and parameters, not time: the interpreter multiplies by a stored zero as
by any other number (Han et al., "Learning both weights and connections", 2015, retrain what is
left; here the model is finished and stays so).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.compress.budget import Option, path
from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.layers import Layer
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
    zero_of,
)

SPARSITIES_TRIED = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Shares of zeros that are measured on each layer where samples choose."""

_HAIR = 1e-6
"""So that 0.3 of 10 weights, which floats make 2.9999999999999996, is 3."""


@dataclass(frozen=True, slots=True)
class PrunedLayer:
    """What became of one layer's weights.

    Attributes:
        operator: the layer's number in the graph.
        name: the layer's.
        kind: as the schema names it.
        weights: how many there are.
        zeros_before: of them, that stood for zero.
        zeros: that stand for zero now.
        error: root mean square of the change over that of the weights, both as real numbers.
        why: why it could not be treated; empty where it could, or should not.
    """

    operator: int
    name: str
    kind: str
    weights: int
    zeros_before: int
    zeros: int
    error: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What became of every layer, in the order in which they run."""

    layers: tuple[PrunedLayer, ...]

    @property
    def sparsity(self) -> float:
        """The share of all layers' weights, without biases, that stand for zero."""
        return sum(layer.zeros for layer in self.layers) / sum(one.weights for one in self.layers)


def prune(content: bytes, name: str, sparsity: float) -> tuple[bytes, PruneReport]:
    """Make the same share of every layer's weights zero.

    Args:
        content: the model's file.
        name: for messages.
        sparsity: share of zeros in each layer, 0 to 1; floor(sparsity * weights) of them at least.

    Returns:
        The model; the same bytes where it has so many zeros already.

    Raises:
        CompressError: it is no model, or none of its layers has weights that can be changed.
    """
    graph = Graph.read(content, name)
    zeros = {s.tensor: zeros_at(graph, s, sparsity) for s in weights(graph)}
    return prune_layers(content, name, zeros)


def prune_layers(content: bytes, name: str, zeros: Mapping[int, int]) -> tuple[bytes, PruneReport]:
    """Make the weights of some layers zero.

    Args:
        content: the model's file.
        name: for messages.
        zeros: how many there shall be, by the weights' tensor number; a layer that is not named, or
            has more of them already, stays as it is.

    Raises:
        CompressError: as `prune`.
    """
    graph = Graph.read(content, name)
    found = weights(graph)
    told = tuple(_prune_one(graph, stored, zeros.get(stored.tensor, 0)) for stored in found)
    if not told or all(layer.why for layer in told):
        reasons = [layer.why for layer in told]
        raise CompressError(f"cannot prune weights of {name}: {why_nothing(reasons)}")
    changed = any(layer.zeros > layer.zeros_before for layer in told)
    return (graph.write() if changed else content), PruneReport(told)


def zeros_at(graph: Graph, stored: Weights, sparsity: float) -> int:
    """Return how many zeros a share of some weights is; a share that a float misses by a hair too.

    Raises:
        CompressError: it is no share.
    """
    if not 0 <= sparsity <= 1:
        raise CompressError(f"cannot prune to a sparsity of {sparsity:g}: want 0 to 1")
    return int(np.prod(graph.shape(stored.tensor)) * sparsity + _HAIR)


def zeros_in(sparsities: Sequence[float]) -> tuple[Treatment, ...]:
    """Return several shares of zeros as treatments whose cost can be measured by layer."""
    return tuple(_treatment(sparsity) for sparsity in sparsities)


def prune_within(judge: Judge, max_loss: float) -> tuple[Found[int], PruneReport]:
    """Make as many weights zero as a budget of accuracy allows, each layer as it bears it.

    Args:
        judge: the model, and samples to measure it on.
        max_loss: of accuracy, as a share, on the half of the samples that choices are made on.

    Raises:
        CompressError: as `prune`, or the budget cannot be held.
    """

    def do(chosen: Mapping[int, int]) -> bytes:
        return prune_layers(judge.content, judge.name, chosen)[0]

    found = judge.within(_costs(judge), do, max_loss)
    return found, prune_layers(judge.content, judge.name, found.chosen)[1]


def prune_to(judge: Judge, sparsity: float) -> tuple[bytes, PruneReport]:
    """Make a share of all weights zero, more of them in layers that bear it well.

    Args:
        judge: the model, and samples to measure its layers on.
        sparsity: share of zeros among all layers' weights, 0 to 0.95; floor(sparsity * weights) of
            them exactly, unless the model has more already.

    Raises:
        CompressError: as `prune`, or the share is higher than the layers were measured at.
    """
    graph = Graph.read(judge.content, judge.name)
    sizes = {s.tensor: int(np.prod(graph.shape(s.tensor))) for s in weights(graph)}
    report = prune_layers(judge.content, judge.name, {})[1]
    there = dict(zip(sizes, (layer.zeros for layer in report.layers), strict=True))
    wanted = int(sum(sizes.values()) * sparsity + _HAIR)
    before: Mapping[int, int] = {}
    for chosen in path(_costs(judge)):
        zeros = _zeros(chosen, there)
        excess = sum(zeros.values()) - wanted
        if excess >= 0:
            return prune_layers(judge.content, judge.name, _less(chosen, before, there, excess))
        before = chosen
    raise CompressError(
        f"cannot prune {judge.name} to {sparsity:.1%} by sensitivity: at most "
        f"{sum(_zeros(before, there).values()) / sum(sizes.values()):.1%}; without --samples every "
        "layer gets the same share"
    )


def _costs(judge: Judge) -> dict[int, list[Option[int]]]:
    """Measure shares of zeros on every layer; a choice is how many zeros that is."""
    graph = Graph.read(judge.content, judge.name)
    prune_layers(judge.content, judge.name, {})  # raises if nothing can be pruned
    stored = {one.tensor: one for one in weights(graph)}
    ways = tuple(zip(SPARSITIES_TRIED, zeros_in(SPARSITIES_TRIED), strict=True))
    return {
        tensor: [
            Option(
                None if one.choice is None else zeros_at(graph, stored[tensor], one.choice),
                one.size,
                one.damage,
            )
            for one in several
        ]
        for tensor, several in judge.costs(ways, _nonzero_bytes).items()
    }


def _nonzero_bytes(graph: Graph, stored: Weights) -> int:
    values = graph.values(stored.tensor)
    return int(np.count_nonzero(values != zero_of(graph, stored.tensor))) * values.itemsize


def _zeros(chosen: Mapping[int, int], there: Mapping[int, int]) -> dict[int, int]:
    return {tensor: max(chosen.get(tensor, 0), zeros) for tensor, zeros in there.items()}


def _less(
    chosen: Mapping[int, int], before: Mapping[int, int], there: Mapping[int, int], excess: int
) -> dict[int, int]:
    """Return a choice with fewer zeros in the layer that the last step on its path changed."""
    less = dict(chosen)
    for tensor, zeros in chosen.items():
        if zeros != before.get(tensor):
            less[tensor] = max(zeros, there[tensor]) - excess
    return less


def _treatment(sparsity: float) -> Treatment:
    def apply(content: bytes, layer: Layer) -> bytes:
        graph = Graph.read(content, layer.name)
        stored = by_layer(graph)[layer.weights]
        why = why_fixed(graph, stored.tensor)
        if why:
            raise CompressError(f"cannot prune {layer.name}: {why}")
        zeros = {stored.tensor: zeros_at(graph, stored, sparsity)}
        return prune_layers(content, layer.name, zeros)[0]

    def layer_bytes(graph: Graph, layer: Layer) -> int:
        values = graph.values(layer.weights)
        zeros = zeros_at(graph, by_layer(graph)[layer.weights], sparsity)
        most = (values.size - zeros) * values.itemsize
        return min(most, _nonzero_bytes(graph, by_layer(graph)[layer.weights]))

    return Treatment(f"{sparsity:.0%} zeros", apply, layer_bytes)


def _prune_one(graph: Graph, stored: Weights, wanted: int) -> PrunedLayer:
    layer, tensor = stored.layer, stored.tensor
    why = why_fixed(graph, tensor)
    if why:
        return PrunedLayer(
            layer.operator, layer.name, layer.kind, int(np.prod(graph.shape(tensor))), 0, 0, 0, why
        )
    before, real = graph.values(tensor), graph.real(tensor)
    zero = zero_of(graph, tensor)
    zeros_before = int(np.count_nonzero(before == zero))
    if wanted > zeros_before:
        put(graph, stored, _pruned(before, real, zero, wanted))
    after = graph.values(tensor)
    return PrunedLayer(
        operator=layer.operator,
        name=layer.name,
        kind=layer.kind,
        weights=after.size,
        zeros_before=zeros_before,
        zeros=int(np.count_nonzero(after == zero)),
        error=relative_error(real, graph.real(tensor)),
    )


def _pruned(
    values: NDArray[Any], real: NDArray[np.float32], zero: NDArray[np.int64], wanted: int
) -> NDArray[Any]:
    """Return weights as stored, with exactly `wanted` zeros: those that mean least.

    Of equal magnitudes the first ones go; zeros that are there already count.
    """
    least = np.argsort(np.abs(real), axis=None, kind="stable")[:wanted]
    pruned = values.copy()
    pruned.flat[least] = np.broadcast_to(zero, values.shape).flat[least].astype(values.dtype)
    return pruned
