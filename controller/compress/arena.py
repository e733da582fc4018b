"""How much working memory a model's tensors need at once, by when each is made and last read. Pure.

Computed, not measured. The interpreter's own arena is somewhat larger: it aligns tensors and leaves
gaps between them; and a delegate keeps the tensors inside its part, and its own form of the
weights, in memory of its own.
"""

import math
from dataclasses import dataclass

from controller.compress.graph import Graph

_BITS = {
    "bool": 8,
    "int2": 2,
    "int4": 4,
    "uint4": 4,
    "int8": 8,
    "uint8": 8,
    "float16": 16,
    "bfloat16": 16,
    "int16": 16,
    "uint16": 16,
    "float64": 64,
    "int64": 64,
    "uint64": 64,
    "complex64": 64,
    "complex128": 128,
}
_DEFAULT_BITS = 32


@dataclass(frozen=True, slots=True)
class Arena:
    """Working memory of one answer.

    Attributes:
        peak_bytes: the most that tensors take at once which are no constants.
        peak_operator: while this operator runs.
        sum_bytes: of all of them, had each a place of its own.
    """

    peak_bytes: int
    peak_operator: int
    sum_bytes: int


def arena(graph: Graph) -> Arena:
    """Return what the tensors of a model need at once.

    A tensor lives from the operator that writes it to the last one that reads it, an output to the
    end. Inputs and variables live throughout: the interpreter never gives their place away.
    """
    first, last = _lifetimes(graph)
    sizes = {tensor: tensor_bytes(graph, tensor) for tensor in first}
    at_once = [
        sum(size for tensor, size in sizes.items() if first[tensor] <= operator <= last[tensor])
        for operator in graph.operators
    ]
    peak = max(at_once)
    return Arena(peak, at_once.index(peak), sum(sizes.values()))


def tensor_bytes(graph: Graph, tensor: int) -> int:
    """Return how many bytes a tensor takes in memory; what lies open counts as one sample."""
    bits = _BITS.get(graph.type_name(tensor), _DEFAULT_BITS)
    return -(-math.prod(graph.shape(tensor)) * bits // 8)


def _lifetimes(graph: Graph) -> tuple[dict[int, int], dict[int, int]]:
    """Return the first and the last operator of every tensor that is used and no constant."""
    end = len(graph.operators) - 1
    kept = {*graph.inputs, *graph.outputs}
    first = dict.fromkeys(graph.inputs, 0)
    last = dict.fromkeys(graph.inputs, end)
    for operator in graph.operators:
        touched = (*graph.operator_inputs(operator), *graph.operator_outputs(operator))
        for tensor in touched:
            if tensor < 0 or graph.is_constant(tensor):
                continue
            variable = graph.is_variable(tensor)
            first.setdefault(tensor, 0 if variable else operator)
            last[tensor] = end if variable or tensor in kept else operator
    return first, last
