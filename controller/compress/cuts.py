"""Where a model may be cut into consecutive parts, and which cuts make even ones. Pure.

A cut lies behind one operator: what runs before it is one part, what runs after it the next. The
tensors that cross it are handed over by position, as a stage of a cascade hands its outputs to the
one that reads it. Constants do not cross: each part has those that it reads. Neither does what is
computed from constants alone, such as the float form of float16 weights: each part computes it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

import numpy as np

from controller.compress.graph import Graph
from controller.compress.layers import operator_macs
from protocols.bundle import DType

_REPEATABLE = frozenset(
    {"DEQUANTIZE", "DENSIFY", "CAST", "QUANTIZE", "RESHAPE", "TRANSPOSE", "EXPAND_DIMS", "SQUEEZE"}
)
"""Operators that give the same values wherever they run; on constants they run in every part."""

_DTYPES = frozenset(get_args(DType))
_MAX_RANK = 8
_BATCH_AXIS = 0
_OPEN = -1


@dataclass(frozen=True, slots=True)
class Cut:
    """One place where a model may be cut.

    Attributes:
        after: the last operator before it.
        tensors: what is handed over, in the order in which it is written.
        handed_over_bytes: for one sample.
        weights_before: bytes of constants that the part before reads; `weights_after` likewise.
            What both sides read counts twice.
        macs_before: multiply-accumulates for one sample; `macs_after` likewise.
    """

    after: int
    tensors: tuple[int, ...]
    handed_over_bytes: int
    weights_before: int
    weights_after: int
    macs_before: int
    macs_after: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A place where a model may not be cut, and why."""

    after: int
    tensors: tuple[int, ...]
    why: str


class Flow:
    """Which operator writes what, and who reads it, of one model with a single subgraph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.end = len(graph.operators)
        self._weights: dict[tuple[int, int], int] = {}

    @cached_property
    def writer(self) -> dict[int, int]:
        """Tensor -> the operator that writes it."""
        return {t: o for o in self.graph.operators for t in self.graph.operator_outputs(o)}

    @cached_property
    def last_reader(self) -> dict[int, int]:
        """Tensor -> the last operator that reads it; the model's outputs are read at the end."""
        read = {t: o for o in self.graph.operators for t in self.graph.operator_inputs(o) if t >= 0}
        return {**read, **dict.fromkeys(self.graph.outputs, self.end)}

    @cached_property
    def repeated(self) -> frozenset[int]:
        """Operators that compute from constants alone: every part that needs one has it."""
        graph, fixed, found = self.graph, set(self.graph.constants()), set[int]()
        for operator in graph.operators:
            reads = [t for t in graph.operator_inputs(operator) if t >= 0]
            pure = graph.operator_name(operator) in _REPEATABLE
            if pure and reads and fixed.issuperset(reads):
                found.add(operator)
                fixed.update(graph.operator_outputs(operator))
        given = {self.writer[t] for t in graph.outputs if t in self.writer}
        return frozenset(found - given)

    def crossing(self, after: int) -> tuple[int, ...]:
        """Return the tensors that are there before a cut and read after it, by their writers."""
        written = {
            t: (self.writer.get(t, -1), t)
            for t, reader in self.last_reader.items()
            if reader > after
            and self.writer.get(t, -1) <= after
            and not (t not in self.writer and self.graph.is_constant(t))
            and self.writer.get(t, -1) not in self.repeated
        }
        return tuple(sorted(written, key=written.__getitem__))

    def operators(self, first: int, end: int) -> tuple[int, ...]:
        """Return the operators of a part, those that are repeated in it included."""
        own = [o for o in range(first, end) if o not in self.repeated]
        wanted, queue = set(own), list(own)
        while queue:
            for tensor in self.graph.operator_inputs(queue.pop()):
                source = self.writer.get(tensor)
                if source in self.repeated and source not in wanted:
                    wanted.add(source)
                    queue.append(source)
        return tuple(sorted(wanted))

    def weights_bytes(self, first: int, end: int) -> int:
        """Return the bytes of the constants that a part reads, each buffer once."""
        if (first, end) not in self._weights:
            graph, own = self.graph, self.operators(first, end)
            read = {t for o in own for t in graph.operator_inputs(o) if t >= 0}
            buffers = {graph.buffer(t): graph.stored_bytes(t) for t in read}
            self._weights[first, end] = sum(buffers.values())
        return self._weights[first, end]

    def macs(self, first: int, end: int) -> int:
        """Return the multiply-accumulates of a part, for one sample."""
        return sum(operator_macs(self.graph, o) for o in self.operators(first, end))


def places(flow: Flow, most_tensors: int = 1) -> Iterator[Cut | Refused]:
    """Yield every place between two operators: a legal cut, or why it is none.

    Args:
        flow: of the model.
        most_tensors: how many may be handed over.
    """
    for after in range(flow.end - 1):
        if after in flow.repeated:
            continue
        tensors = flow.crossing(after)
        why = _fault(flow, after, tensors, most_tensors)
        yield Refused(after, tensors, why) if why else _cut(flow, after, tensors)


def legal_cuts(flow: Flow, most_tensors: int = 1) -> tuple[Cut, ...]:
    """Return the legal cuts, in the order of the operators."""
    return tuple(place for place in places(flow, most_tensors) if isinstance(place, Cut))


def fit_together(flow: Flow, before: Cut | None, cut: Cut) -> bool:
    """Whether the part between two cuts writes all that crosses the second one itself."""
    first = -1 if before is None else before.after
    return all(flow.writer[tensor] > first for tensor in cut.tensors)


def balanced(flow: Flow, cuts: Sequence[Cut], parts: int) -> tuple[Cut, ...] | None:
    """Return the cuts that make so many parts with the smallest largest one, by weights' bytes.

    Among equals the one that hands over least. Dynamic programming over the cuts: the best way to
    divide all that lies before a cut depends on that cut alone.

    Returns:
        None: so many parts cannot be made.
    """
    ends: list[Cut | None] = [*cuts, None]
    best: dict[int, tuple[tuple[int, int], tuple[Cut, ...]]] = {}
    for index, end in enumerate(ends):
        if end is None or fit_together(flow, None, end):
            last = flow.end if end is None else end.after + 1
            best[index] = ((flow.weights_bytes(0, last), 0), ())
    for _ in range(parts - 1):
        following: dict[int, tuple[tuple[int, int], tuple[Cut, ...]]] = {}
        for index, end in enumerate(ends):
            last = flow.end if end is None else end.after + 1
            for before in range(index):
                cut = ends[before]
                if before not in best or cut is None:
                    continue
                if end is not None and not fit_together(flow, cut, end):
                    continue
                (largest, handed), chosen = best[before]
                weights = flow.weights_bytes(cut.after + 1, last)
                cost = (max(largest, weights), handed + cut.handed_over_bytes)
                if index not in following or cost < following[index][0]:
                    following[index] = (cost, (*chosen, cut))
        best = following
    whole = best.get(len(cuts))
    return None if whole is None else whole[1]


def _cut(flow: Flow, after: int, tensors: tuple[int, ...]) -> Cut:
    return Cut(
        after=after,
        tensors=tensors,
        handed_over_bytes=sum(_sample_bytes(flow.graph, tensor) for tensor in tensors),
        weights_before=flow.weights_bytes(0, after + 1),
        weights_after=flow.weights_bytes(after + 1, flow.end),
        macs_before=flow.macs(0, after + 1),
        macs_after=flow.macs(after + 1, flow.end),
    )


def _fault(flow: Flow, after: int, tensors: Sequence[int], most: int) -> str | None:
    """Return why a place is no legal cut."""
    if not tensors:
        return "nothing is handed over: the two sides have nothing to do with each other"
    state = [t for t in _touched(flow, 0, after + 1) if flow.graph.is_variable(t)]
    shared = [t for t in state if flow.last_reader.get(t, -1) > after]
    if shared:
        return f"{_title(flow, shared[0])} keeps state that both sides read"
    for tensor in tensors:
        fault = _tensor_fault(flow, tensor)
        if fault:
            return f"{_title(flow, tensor)} {fault}"
    if len(tensors) > most:
        return f"{len(tensors)} tensors are handed over, at most {most} allowed"
    return None


def _touched(flow: Flow, first: int, end: int) -> Iterator[int]:
    for operator in range(first, end):
        yield from (t for t in flow.graph.operator_inputs(operator) if t >= 0)


def _tensor_fault(flow: Flow, tensor: int) -> str | None:
    """Return why a tensor cannot be handed over."""
    graph = flow.graph
    if tensor not in flow.writer:
        state = graph.is_variable(tensor)
        return "keeps state" if state else "is an input of the model that both sides read"
    if tensor in graph.outputs:
        return "is an output of the model that an early part would give"
    if graph.is_variable(tensor) or graph.type_name(tensor) not in _DTYPES:
        return f"is no plain tensor ({graph.type_name(tensor)}) that can be handed over"
    return _shape_fault(graph.signature(tensor))


def _shape_fault(signature: Sequence[int] | None) -> str | None:
    if signature is None or len(signature) > _MAX_RANK:
        return "has no known shape"
    if any(n == 0 or (n == _OPEN and axis != _BATCH_AXIS) for axis, n in enumerate(signature)):
        return f"has a shape that is left open, {list(signature)}"
    return None


def _sample_bytes(graph: Graph, tensor: int) -> int:
    return math.prod(graph.shape(tensor)) * np.dtype(graph.type_name(tensor)).itemsize


def _title(flow: Flow, tensor: int) -> str:
    return f"tensor {flow.graph.tensor_name(tensor) or tensor!r}"
