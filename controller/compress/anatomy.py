"""What a model file is made of: operators, tensors, where its bytes go, how much it computes. Pure.

A parameter is a number that was learned: an element of a constant that is floating or quantized.
Shapes, axes and indices, plain integers all of them, are constants and no parameters.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.compress.arena import Arena, arena
from controller.compress.graph import Graph
from controller.compress.layers import operator_macs

_BIAS_AT = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "CONV_3D": 2, "FULLY_CONNECTED": 2}
_BIAS_AT |= {"TRANSPOSE_CONV": 3}
_UNPACKS = frozenset({"DEQUANTIZE", "DENSIFY"})
"""What stands between a constant in a narrow form and the operator that wants it as float32."""

_FLOATS = frozenset({"float16", "float32", "float64", "bfloat16"})
_PACKED_BITS = {"int4": 4, "uint4": 4, "int2": 2}
"""Types of which a byte holds several, the first one in its lowest bits."""


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One tensor.

    Attributes:
        number: in the first subgraph.
        name: may be empty, and need not be its alone.
        type: as the schema names it, in lower case.
        shape: with 1 for an axis that is left open.
        role: `input`, `output`, `weights`, `bias`, `constant` or `activation`.
        quantization: `per tensor`, `per channel` or `blockwise`; None: its numbers mean themselves.
        scales: how many scales it has.
        axis: which axis the scales run along; None: one scale, or none.
        elements: how many numbers it has.
        nonzero: how many of a constant's mean something else than zero; None: it is no constant.
        stored_bytes: of its values in the file; 0: it is no constant.
        shared_with: other tensors, as subgraph:tensor, whose values are the same bytes of the file.
    """

    number: int
    name: str
    type: str
    shape: tuple[int, ...]
    role: str
    quantization: str | None
    scales: int
    axis: int | None
    elements: int
    nonzero: int | None
    stored_bytes: int
    shared_with: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OperatorFacts:
    """One operator, with the weights that it reads, also where a DEQUANTIZE stands between.

    Attributes:
        number: its place in the order in which they run.
        kind: as the schema names it, such as CONV_2D.
        name: its first output's.
        output: type and shape of its first output, such as int8[1,49,10,64].
        weights: the weights' tensor; None: it has none. A bias alone is none.
        parameters: elements of its weights, bias and other learned constants.
        nonzero: how many of them are not zero.
        macs: multiply-accumulates for one sample.
        constant_bytes: of the constants that it reads. What several operators read counts at each.
    """

    number: int
    kind: str
    name: str
    output: str
    weights: TensorFacts | None
    parameters: int
    nonzero: int
    macs: int
    constant_bytes: int


@dataclass(frozen=True, slots=True)
class ByteFacts:
    """Where the bytes of the file go; what several tensors share is counted once.

    Attributes:
        weights: learned constants but biases.
        biases: of convolutions and dense layers.
        constants: shapes, axes, tables: what was not learned; scales of blocks.
        overhead: all else: names, scales, options, metadata, padding, further subgraphs.
        total: the file.
    """

    weights: int
    biases: int
    constants: int
    overhead: int
    total: int


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A whole model file.

    Attributes:
        name: of the model.
        operators: of the first subgraph, in order.
        tensors: of the first subgraph, in the file's order.
        bytes: where the bytes go.
        parameters: learned numbers; what several tensors share is counted once.
        nonzero: how many of them are not zero.
        macs: multiply-accumulates for one sample.
        arena: working memory, computed.
        subgraphs: how many there are; beyond the first they count as overhead.
    """

    name: str
    operators: tuple[OperatorFacts, ...]
    tensors: tuple[TensorFacts, ...]
    bytes: ByteFacts
    parameters: int
    nonzero: int
    macs: int
    arena: Arena
    subgraphs: int


def dissect(content: bytes, name: str) -> Anatomy:
    """Take a model file apart.

    Args:
        content: the whole file.
        name: for messages.

    Raises:
        CompressError: it is no `.tflite` file, or a damaged one.
    """
    graph = Graph.read(content, name)
    roles = _roles(graph)
    tensors = tuple(_tensor(graph, number, roles) for number in graph.tensors)
    owned = {graph.buffer(t.number): t for t in reversed(tensors) if t.stored_bytes}
    learned = [t for t in owned.values() if t.role in {"weights", "bias"}]
    return Anatomy(
        name=name,
        operators=tuple(_operator(graph, number, tensors) for number in graph.operators),
        tensors=tensors,
        bytes=_bytes(owned.values(), len(content)),
        parameters=sum(t.elements for t in learned),
        nonzero=sum(t.nonzero or 0 for t in learned),
        macs=sum(operator_macs(graph, number) for number in graph.operators),
        arena=arena(graph),
        subgraphs=graph.subgraphs,
    )


def constant_of(graph: Graph, tensor: int) -> int | None:
    """Return the constant that a tensor is, or is unpacked from; None: input decides its values."""
    for operator in unpackers(graph, tensor):
        tensor = graph.operator_inputs(operator)[0]
    return tensor if tensor >= 0 and graph.is_constant(tensor) else None


def unpackers(graph: Graph, tensor: int) -> tuple[int, ...]:
    """Return the operators between a constant and a tensor that is the same in another form.

    Returns:
        The last one first; empty: the tensor is a constant itself, or none is behind it.
    """
    found: list[int] = []
    while tensor >= 0 and not graph.is_constant(tensor):
        writer = next((o for o in graph.operators if tensor in graph.operator_outputs(o)), None)
        if writer is None or graph.operator_name(writer) not in _UNPACKS:
            return ()
        found.append(writer)
        tensor = graph.operator_inputs(writer)[0]
    return tuple(found)


def _roles(graph: Graph) -> dict[int, str]:
    """Return what the constants are, and which tensors are the model's own ends."""
    roles = dict.fromkeys(graph.constants(), "constant")
    for tensor in graph.constants():
        is_plain = graph.scale(tensor) is None and graph.block_scales(tensor) is None
        if graph.type_name(tensor) in _FLOATS or not is_plain:
            roles[tensor] = "weights"
    for tensor in graph.constants():
        scales = graph.block_scales(tensor)
        if scales is not None:
            roles[scales] = "constant"
    for operator in graph.operators:
        inputs, at = graph.operator_inputs(operator), _BIAS_AT.get(graph.operator_name(operator))
        bias = constant_of(graph, inputs[at]) if at is not None and len(inputs) > at else None
        if bias is not None:
            roles[bias] = "bias"
    return roles | dict.fromkeys(graph.inputs, "input") | dict.fromkeys(graph.outputs, "output")


def _tensor(graph: Graph, number: int, roles: Mapping[int, str]) -> TensorFacts:
    scale, shape = graph.scale(number), graph.shape(number)
    block_scales = graph.block_scales(number)
    kind = None if scale is None else "per tensor" if scale.axis is None else "per channel"
    scales = 0 if scale is None else scale.scale.size
    if block_scales is not None:
        kind, scales = "blockwise", math.prod(graph.shape(block_scales))
    stored_bytes = graph.stored_bytes(number)
    users = graph.users(graph.buffer(number)) if stored_bytes else ()
    return TensorFacts(
        number=number,
        name=graph.tensor_name(number),
        type=graph.type_name(number),
        shape=shape,
        role=roles.get(number, "activation"),
        quantization=kind,
        scales=scales,
        axis=None if scale is None else scale.axis,
        elements=math.prod(shape),
        nonzero=_nonzero(graph, number) if stored_bytes else None,
        stored_bytes=stored_bytes,
        shared_with=tuple(f"{g}:{t}" for g, t in users if (g, t) != (0, number)),
    )


def _nonzero(graph: Graph, tensor: int) -> int:
    """Return how many of a constant's numbers mean something else than zero."""
    elements = math.prod(graph.shape(tensor))
    bits = _PACKED_BITS.get(graph.type_name(tensor))
    if bits is not None:
        return int(np.count_nonzero(_unpacked(graph.raw(tensor), bits)[:elements]))
    dtype = graph.dtype(tensor)
    if dtype is None:
        return elements
    stored = graph.raw(tensor).view(dtype)
    scale = graph.scale(tensor)
    if scale is None or graph.is_sparse(tensor) or not scale.zero_point.any():
        return int(np.count_nonzero(stored))
    _, zero_point = scale.broadcast(len(graph.shape(tensor)))
    return int(np.count_nonzero(stored.reshape(graph.shape(tensor)) != zero_point))


def _unpacked(stored: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    mask = np.uint8((1 << bits) - 1)
    return ((stored[:, None] >> shifts) & mask).ravel()


def _operator(graph: Graph, number: int, tensors: tuple[TensorFacts, ...]) -> OperatorFacts:
    kind, outputs = graph.operator_name(number), graph.operator_outputs(number)
    inputs = () if kind in _UNPACKS else graph.operator_inputs(number)
    found = [constant_of(graph, tensor) for tensor in inputs]
    reads = [tensors[c] for c in dict.fromkeys(found) if c is not None]
    learned = [t for t in reads if t.role in {"weights", "bias"}]
    weights = [t for t in learned if t.role == "weights"]
    first = tensors[outputs[0]] if outputs else None
    return OperatorFacts(
        number=number,
        kind=kind,
        name=first.name if first else "",
        output=f"{first.type}[{','.join(map(str, first.shape))}]" if first else "",
        weights=max(weights, key=lambda t: t.elements, default=None),
        parameters=sum(t.elements for t in learned),
        nonzero=sum(t.nonzero or 0 for t in learned),
        macs=operator_macs(graph, number),
        constant_bytes=sum(t.stored_bytes for t in reads),
    )


def _bytes(owned: Iterable[TensorFacts], total: int) -> ByteFacts:
    by_role = {"weights": 0, "bias": 0}
    others = 0
    for tensor in owned:
        if tensor.role in by_role:
            by_role[tensor.role] += tensor.stored_bytes
        else:
            others += tensor.stored_bytes
    known = sum(by_role.values()) + others
    return ByteFacts(
        weights=by_role["weights"],
        biases=by_role["bias"],
        constants=others,
        overhead=total - known,
        total=total,
    )
