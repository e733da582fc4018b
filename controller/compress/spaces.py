"""Channels that may be put into another order without changing what a model computes.

A layer's output channels may be reordered if everything that reads them is reordered alike. What
must go together is found over the whole graph and is one space: the rows of the layers that write
its channels, the columns of those that read them, and whatever carries channels through one by one
(a depthwise convolution, an addition, a pool). A space is free if none of its channels reaches an
input or output of the model, or an operator that is not known to treat channels apart.

Proven, because every operator here computes an output channel from input channels by a sum, or from
the channel of the same number alone:

- CONV_2D (ungrouped) and FULLY_CONNECTED on a vector of channels: rows, biases and columns;
- DEPTHWISE_CONV_2D with one output for each input channel, or on a single channel: its filters;
- ADD, SUB and MUL of two activations of one shape: both sides are one space, so a residual branch
  is carried along; a constant operand, or broadcasting, is not;
- AVERAGE_POOL_2D, MAX_POOL_2D, RELU and its kin, TANH, LOGISTIC; PAD that does not pad channels;
  MEAN over other axes; RESHAPE that keeps the last axis.

Integers are summed exactly, so a quantized model's outputs stay the same to the bit. Floats are
summed in another order: the outputs stay the same but for rounding.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from controller.compress.graph import Graph

_THROUGH = frozenset(
    {
        *("AVERAGE_POOL_2D", "MAX_POOL_2D"),
        *("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "TANH", "LOGISTIC"),
    }
)
_BOTH = frozenset({"ADD", "SUB", "MUL"})
_CHANNELS_LAST = -1


@dataclass(frozen=True, slots=True)
class Space:
    """Channels that are reordered together.

    Attributes:
        size: how many there are.
        members: constants, and the axis of each that runs over the channels.
    """

    size: int
    members: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Spaces:
    """The free spaces of a model.

    Attributes:
        free: all of them.
        of: the number in `free` by (constant, axis); what is not there must stay in its order.
    """

    free: tuple[Space, ...]
    of: dict[tuple[int, int], int]

    def touching(self, tensor: int) -> frozenset[int]:
        """Return the free spaces whose reordering changes a constant."""
        return frozenset(space for (member, _), space in self.of.items() if member == tensor)


def spaces(graph: Graph) -> Spaces:
    """Return the channels of a model that may be reordered.

    A constant that several tensors share, or that several operators read, is not reordered.
    """
    found = _Finder(graph)
    for tensor in (*graph.inputs, *graph.outputs):
        found.freeze(tensor)
    for operator in graph.operators:
        found.visit(operator)
    free = tuple(_free(graph, found))
    return Spaces(free, {member: n for n, space in enumerate(free) for member in space.members})


def reorder(graph: Graph, space: Space, order: NDArray[np.intp]) -> None:
    """Put a space's channels into another order everywhere.

    Args:
        graph: is changed.
        space: of this graph.
        order: where each of the new channels stood, [size].
    """
    for tensor, axis in space.members:
        graph.reorder(tensor, axis, order)


@dataclass(slots=True)
class _Finder:
    """Joins activations whose channels must keep the same order."""

    graph: Graph
    parents: dict[int, int] = field(default_factory=dict)
    members: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    frozen: set[int] = field(default_factory=set)

    def root(self, tensor: int) -> int:
        while self.parents.setdefault(tensor, tensor) != tensor:
            tensor = self.parents[tensor]
        return tensor

    def join(self, one: int, other: int) -> None:
        self.parents[self.root(one)] = self.root(other)

    def freeze(self, tensor: int) -> None:
        self.root(tensor)
        self.frozen.add(tensor)

    def visit(self, operator: int) -> None:
        kind = self.graph.operator_name(operator)
        inputs = [tensor for tensor in self.graph.operator_inputs(operator) if tensor >= 0]
        outputs = self.graph.operator_outputs(operator)
        if kind in {"CONV_2D", "FULLY_CONNECTED"} and self._is_whole(kind, inputs, outputs[0]):
            columns = len(self.graph.shape(inputs[1])) - 1
            self._hold(inputs[0], inputs[1], columns)
            self._hold(outputs[0], inputs[1], 0)
            self._hold_bias(outputs[0], inputs)
        elif kind == "DEPTHWISE_CONV_2D" and self._is_by_channel(inputs, outputs[0]):
            if self.graph.shape(inputs[0])[_CHANNELS_LAST] > 1:
                self.join(inputs[0], outputs[0])
            self._hold(outputs[0], inputs[1], 3)
            self._hold_bias(outputs[0], inputs)
        elif self._carries(kind, inputs, outputs):
            for tensor in inputs:
                if not self.graph.is_constant(tensor):
                    self.join(tensor, outputs[0])
        else:
            for tensor in (*inputs, *outputs):
                self.freeze(tensor)

    def _hold(self, activation: int, constant: int, axis: int) -> None:
        self.members.setdefault(activation, []).append((constant, axis))

    def _hold_bias(self, activation: int, inputs: list[int]) -> None:
        for bias in inputs[2:]:
            self._hold(activation, bias, 0)

    def _is_whole(self, kind: str, inputs: list[int], output: int) -> bool:
        weights, shape = self.graph.shape(inputs[1]), self.graph.shape(inputs[0])
        if not all(map(self.graph.is_constant, inputs[1:])):
            return False
        flat = kind == "CONV_2D" or math.prod(shape[1:]) == weights[-1]
        return flat and shape[-1:] == weights[-1:] and self.graph.shape(output)[-1:] == weights[:1]

    def _is_by_channel(self, inputs: list[int], output: int) -> bool:
        taken, filters, given = (
            self.graph.shape(tensor)[_CHANNELS_LAST] for tensor in (*inputs[:2], output)
        )
        known = all(map(self.graph.is_constant, inputs[1:]))
        return known and filters == given and taken in {1, given}

    def _carries(self, kind: str, inputs: list[int], outputs: tuple[int, ...]) -> bool:
        """Whether the only output's channel depends on the inputs' channel of its number alone."""
        graph = self.graph
        if not inputs or len(outputs) != 1 or graph.is_constant(inputs[0]):
            return False
        before, after = graph.shape(inputs[0]), graph.shape(outputs[0])
        if not before or before[-1:] != after[-1:]:
            return False
        if kind in _BOTH:
            other = inputs[1]
            return not graph.is_constant(other) and before == graph.shape(other) == after
        if kind in {"PAD", "MEAN"}:
            return graph.is_constant(inputs[1]) and self._spares_channels(kind, inputs[1], before)
        return kind in _THROUGH or kind == "RESHAPE"

    def _spares_channels(self, kind: str, operand: int, shape: tuple[int, ...]) -> bool:
        values = self.graph.values(operand)
        if kind == "PAD":
            return not values[_CHANNELS_LAST].any()
        return len(shape) - 1 not in values.ravel() % len(shape)


def _free(graph: Graph, found: _Finder) -> Iterator[Space]:
    frozen = {found.root(tensor) for tensor in found.frozen}
    together: dict[int, list[tuple[int, int]]] = {}
    for activation, members in found.members.items():
        together.setdefault(found.root(activation), []).extend(members)
    held = [member for members in together.values() for member in members]
    for root, members in together.items():
        sizes = {graph.shape(tensor)[axis] for tensor, axis in members}
        alone = all(
            _is_alone(graph, tensor) and held.count((tensor, axis)) == 1 for tensor, axis in members
        )
        if root not in frozen and alone and len(sizes) == 1:
            yield Space(sizes.pop(), tuple(members))


def _is_alone(graph: Graph, tensor: int) -> bool:
    """Whether one operator alone reads a constant's buffer, and numpy has its type."""
    return (
        graph.dtype(tensor) is not None
        and not graph.is_sparse(tensor)
        and len(graph.users(graph.buffer(tensor))) == 1
        and len(graph.readers(tensor)) == 1
    )
