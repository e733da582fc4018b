"""A model's layers: the operators that have weights, with what they cost. Pure.

Multiply-accumulates are counted as TensorFlow's own profilers do: a convolution's output elements
times the kernel's elements that each of them reads; additions of biases and everything that is no
matrix product count nothing.
"""

import math
from dataclasses import dataclass

from controller.compress.graph import Graph

_KERNEL_AXES = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0}
"""Operators with weights, and the axis of the weights that runs over their output channels."""

_WEIGHTS_INPUT = 1
_BIAS_INPUT = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}


@dataclass(frozen=True, slots=True)
class Layer:
    """One operator with constant weights.

    Attributes:
        operator: its number in the graph.
        kind: as the schema names it.
        name: the weights' tensor name, else the output's; not always unique.
        weights: tensor number; `bias` likewise, None where there is none.
        channel_axis: the axis of the weights that runs over output channels.
        macs: multiply-accumulates for one sample.
    """

    operator: int
    kind: str
    name: str
    weights: int
    bias: int | None
    channel_axis: int
    macs: int


def layers(graph: Graph) -> tuple[Layer, ...]:
    """Return the layers of a model, in the order in which they run."""
    found = (_layer(graph, operator) for operator in graph.operators)
    return tuple(layer for layer in found if layer is not None)


def operator_macs(graph: Graph, operator: int) -> int:
    """Return the multiply-accumulates of one operator; 0: it is no matrix product."""
    kind = graph.operator_name(operator)
    inputs, outputs = graph.operator_inputs(operator), graph.operator_outputs(operator)
    if kind in _KERNEL_AXES:
        weights = graph.shape(inputs[_WEIGHTS_INPUT])
        out = math.prod(graph.shape(outputs[0]))
        match kind:
            case "CONV_2D" | "FULLY_CONNECTED":
                return out * math.prod(weights[1:])
            case "DEPTHWISE_CONV_2D":
                return out * math.prod(weights[1:3])
            case _:  # TRANSPOSE_CONV: every input element meets the whole kernel
                return math.prod(graph.shape(inputs[2])) * math.prod(weights[:3])
    if kind == "BATCH_MATMUL":
        left = graph.shape(inputs[0])
        return math.prod(graph.shape(outputs[0])) * left[-1]
    return 0


def _layer(graph: Graph, operator: int) -> Layer | None:
    kind = graph.operator_name(operator)
    axis = _KERNEL_AXES.get(kind)
    inputs = graph.operator_inputs(operator)
    if axis is None or not graph.is_constant(inputs[_WEIGHTS_INPUT]):
        return None
    weights, at = inputs[_WEIGHTS_INPUT], _BIAS_INPUT[kind]
    bias = inputs[at] if len(inputs) > at and inputs[at] >= 0 else None
    return Layer(
        operator=operator,
        kind=kind,
        name=graph.tensor_name(weights) or graph.tensor_name(graph.operator_outputs(operator)[0]),
        weights=weights,
        bias=bias,
        channel_axis=axis,
        macs=operator_macs(graph, operator),
    )
