"""Tying: layers whose weights have equal shapes and are close read one stored array.

Two layers of a trained model are seldom close as they stand, since the order of a hidden layer's
channels is an accident of training. So the second one's channels are first put into the order that
fits the first best, where that leaves the model as it is (`controller.compress.spaces`). The array
that both then read is the mean that makes the squared error of both least. Quantized layers keep
their own scales, one for each channel where they have them: of these only the integers are shared.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.compress.assignment import best_assignment
from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.search import Judge, Verdict
from controller.compress.sensitivity import OnStep, Shift
from controller.compress.spaces import reorder, spaces
from controller.compress.weights import Weights, put, weights, why_fixed, wire_bytes, zero_of

_MOST_PAIRS = 40
_ROUNDS = 6
_ALIGNED_AXES = {"CONV_2D": (0, 3), "FULLY_CONNECTED": (0, 1), "DEPTHWISE_CONV_2D": (3, None)}
"""Axes of the weights that run over output channels, and over input channels if these are apart."""

Reals = NDArray[np.float64]
Order = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two layers whose weights could be one array.

    Attributes:
        first: the layer's name; its weights' tensor number is `tensors[0]`.
        second: likewise, `tensors[1]`.
        tensors: the numbers.
        operators: of the layers.
        saved_bytes: of the file.
        distance: root mean square of what both would lose over that of both, after reordering.
        reordered: channels that are in another place than before.
    """

    first: str
    second: str
    tensors: tuple[int, int]
    operators: tuple[int, int]
    saved_bytes: int
    distance: float
    reordered: int


@dataclass(frozen=True, slots=True)
class Tied:
    """One pairing, measured.

    Attributes:
        pair: which layers.
        alone: what that alone does to the answers, on the samples that choices are made on.
        kept: whether the budget allowed it beside those kept before it.
        file_bytes: of the model with it and those kept before.
        wire_bytes: of that over the air.
        loss: of accuracy of that, as a share of the samples.
    """

    pair: Pair
    alone: Shift
    kept: bool = False
    file_bytes: int = 0
    wire_bytes: int = 0
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class TieReport:
    """What tying did: every pairing in the order of the attempts, and the loss of those kept."""

    tied: tuple[Tied, ...]
    verdict: Verdict
    left_out: int = field(default=0)
    """Pairs that were further apart than the closest 40, and not measured."""


def pairs(content: bytes, name: str) -> tuple[Pair, ...]:
    """Return the pairs of layers that could share an array, the closest first.

    Raises:
        CompressError: it is no model, or no two of its layers are alike in shape and type.
    """
    graph = Graph.read(content, name)
    found = [_pair(graph, *two) for two in _alike(graph)]
    if not found:
        raise CompressError(
            f"cannot tie layers of {name}: no two have weights of the same shape and type that "
            "are stored apart; --palette shares values within a layer"
        )
    return tuple(sorted(found, key=lambda pair: pair.distance))


def tie(content: bytes, name: str, tensors: tuple[int, int]) -> bytes:
    """Let the layers of a pair, and those that share with either already, read one array.

    Args:
        content: the model's file.
        name: for messages.
        tensors: of a `Pair` of this model, or of one from which it was made by tying.

    Returns:
        The model; the same bytes where they do so already.
    """
    graph = Graph.read(content, name)
    stored = {tensor: one for one in weights(graph) for tensor in one.tensors}
    first, second = _in_order(stored[tensors[0]], stored[tensors[1]])
    if first.tensor == second.tensor:
        return content
    for space, order in _fitted(graph, first, second).items():
        reorder(graph, spaces(graph).free[space], order)
    put(graph, first, _mean(graph, first, second))
    for tensor in second.tensors:
        graph.share_buffer(tensor, first.tensor)
    return graph.write()


def tie_within(
    judge: Judge, max_loss: float, on_step: OnStep = lambda *_: None
) -> tuple[bytes, TieReport]:
    """Measure what every pairing costs, then keep what a budget allows.

    The pairings are tried in the order of bytes saved for divergence of the answers; each is kept
    if the model with it, and all that were kept before, still holds the budget.

    Args:
        judge: the model, and samples to measure it on.
        max_loss: of accuracy, as a share, on the half that choices are made on.
        on_step: told how far it is.

    Raises:
        CompressError: as `pairs`, or a model does not run on the samples.
    """
    found = pairs(judge.content, judge.name)
    near, total = found[:_MOST_PAIRS], 2 * len(found[:_MOST_PAIRS])
    measured: list[Tied] = []
    for pair in near:
        on_step(f"{pair.first} with {pair.second}", len(measured), total)
        measured.append(Tied(pair, judge.shift(tie(judge.content, judge.name, pair.tensors))))
    measured.sort(key=lambda one: one.alone.divergence / one.pair.saved_bytes)
    content, tried = judge.content, list[Tied]()
    for one in measured:
        on_step("the model as a whole", len(measured) + len(tried), total)
        attempt = tie(content, judge.name, one.pair.tensors)
        loss = judge.lost(attempt)
        kept = loss <= max_loss
        tried.append(
            replace(
                one, kept=kept, file_bytes=len(attempt), wire_bytes=wire_bytes(attempt), loss=loss
            )
        )
        content = attempt if kept else content
    return content, TieReport(tuple(tried), judge.verdict(content), len(found) - len(near))


def _alike(graph: Graph) -> Iterator[tuple[Weights, Weights]]:
    usable = [stored for stored in weights(graph) if not why_fixed(graph, stored.tensor)]
    for first, second in combinations(usable, 2):
        if _kind(graph, first) == _kind(graph, second):
            yield _in_order(first, second)


def _kind(graph: Graph, stored: Weights) -> tuple[object, ...]:
    """Return what must be equal for two layers to read the same array."""
    tensor = stored.tensor
    scale = graph.scale(tensor)
    return (
        graph.shape(tensor),
        graph.type_name(tensor),
        stored.layer.channel_axis,
        scale is None,
        np.unique(zero_of(graph, tensor)).tolist(),
    )


def _in_order(one: Weights, other: Weights) -> tuple[Weights, Weights]:
    """Return two with that first which more layers read: what is shared cannot be reordered."""
    return (other, one) if len(other.tensors) > len(one.tensors) else (one, other)


def _pair(graph: Graph, first: Weights, second: Weights) -> Pair:
    orders = _fitted(graph, first, second)
    moved = sum(int((order != np.arange(len(order))).sum()) for order in orders.values())
    aligned = graph
    if moved:
        aligned = Graph.read(graph.write(), graph.name)
        for space, order in orders.items():
            reorder(aligned, spaces(graph).free[space], order)
    mean = _mean(aligned, first, second)
    lost = whole = 0.0
    for stored in (first, second):
        numbers, mass = _numbers(aligned, stored)
        zeroed = mean.astype(np.float64) - zero_of(aligned, stored.tensor)
        lost += float((mass * np.square(numbers - zeroed)).sum())
        whole += float((mass * np.square(numbers)).sum())
    return Pair(
        first=first.layer.name,
        second=second.layer.name,
        tensors=(first.tensor, second.tensor),
        operators=(first.layer.operator, second.layer.operator),
        saved_bytes=graph.stored_bytes(second.tensor),
        distance=float(np.sqrt(lost / whole)) if whole else 0.0,
        reordered=moved,
    )


def _numbers(graph: Graph, stored: Weights) -> tuple[Reals, Reals]:
    """Return stored numbers less their zero, and what a squared error of each counts for all."""
    values = graph.values(stored.tensor)
    mass = np.zeros(values.shape)
    for tensor in stored.tensors:
        scale = graph.scale(tensor)
        factor = np.float32(1) if scale is None else scale.broadcast(values.ndim)[0]
        mass += np.square(factor, dtype=np.float64)
    return (values - zero_of(graph, stored.tensor)).astype(np.float64), mass


def _mean(graph: Graph, first: Weights, second: Weights) -> NDArray[Any]:
    (ours, a), (theirs, b) = _numbers(graph, first), _numbers(graph, second)
    dtype = graph.values(first.tensor).dtype
    weight = a + b
    mean = np.divide(a * ours + b * theirs, weight, out=(ours + theirs) / 2, where=weight > 0)
    whole = np.rint(mean) if dtype.kind != "f" else mean
    stored: NDArray[Any] = (whole + zero_of(graph, first.tensor)).astype(dtype)
    return stored


def _fitted(graph: Graph, first: Weights, second: Weights) -> dict[int, Order]:
    """Return new orders of free spaces that bring the second layer's weights close to the first's.

    Only spaces that the second touches and the first does not are reordered. Outputs and inputs
    are assigned in turn until nothing is gained: a local optimum.
    """
    outputs, inputs = _ALIGNED_AXES.get(second.layer.kind, (None, None))
    if outputs is None:
        return {}
    known = spaces(graph)
    taken = {space for tensor in first.tensors for space in known.touching(tensor)}
    row_space = known.of.get((second.tensor, outputs))
    column_space = None if inputs is None else known.of.get((second.tensor, inputs))
    if row_space == column_space:  # one order for both: no assignment problem any more
        return {}
    (ours, a), (theirs, b) = _numbers(graph, first), _numbers(graph, second)
    ours, theirs = (_as_matrix(x, outputs) for x in (ours, theirs))
    heavy = np.sqrt(_as_matrix(a, outputs)[:, 0, 0]), np.sqrt(_as_matrix(b, outputs)[:, 0, 0])
    free = row_space not in {None, *taken}, column_space not in {None, *taken}
    rows, columns = _assigned(ours, theirs, heavy, free)
    found = {}
    if free[0] and row_space is not None:
        found[row_space] = rows
    if free[1] and column_space is not None:
        found[column_space] = columns
    return found


def _as_matrix(values: Reals, outputs: int) -> Reals:
    """Return weights as [outputs, taps, inputs]."""
    moved = np.moveaxis(values, outputs, 0)
    if outputs:  # depthwise: its only axis of channels is the outputs'
        return moved.reshape(len(moved), -1, 1)
    return moved.reshape(len(moved), -1, moved.shape[-1])


def _assigned(
    ours: Reals, theirs: Reals, heavy: tuple[Reals, Reals], free: tuple[bool, bool]
) -> tuple[Order, Order]:
    """Return the orders of the second's rows and columns that fit the first's.

    Where both are free, neither can be assigned without the other: one beginning is the order as it
    is, another matches rows by their sorted numbers, which no order of columns changes.

    Args:
        ours: the first's numbers, [outputs, taps, inputs].
        theirs: the second's.
        heavy: scale of each row of the first, and of the second.
        free: whether rows, and whether columns, may be reordered.
    """
    a, b = (np.square(scale) for scale in heavy)
    # Of a mean weighted by a and b, the error of both together is this times the distance squared.
    both = a[:, None] * b / np.maximum(a[:, None] + b, np.finfo(np.float64).tiny)
    begins = [np.arange(len(ours))]
    if all(free):
        apart = _distances(_flat(np.sort(ours, axis=-1)), _flat(np.sort(theirs, axis=-1)))
        begins.append(best_assignment(both * apart))
    tries = [_in_turn(ours, theirs, both, free, rows) for rows in begins]
    _, rows, columns = min(tries, key=lambda one: one[0])
    return rows, columns


def _in_turn(
    ours: Reals, theirs: Reals, both: Reals, free: tuple[bool, bool], rows: Order
) -> tuple[float, Order, Order]:
    """Assign columns and rows in turn from an order of rows; return what is lost, and both."""
    columns = np.arange(ours.shape[-1])
    best = (np.inf, rows, columns)
    for _ in range(_ROUNDS):
        if free[1]:
            row_weights = np.sqrt(both[np.arange(len(rows)), rows])[:, None, None]
            mine, other = ours * row_weights, theirs[rows] * row_weights
            columns = best_assignment(_distances(_flat(mine.T), _flat(other.T)))
        costs = both * _distances(_flat(ours), _flat(theirs[:, :, columns]))
        if free[0]:
            rows = best_assignment(costs)
        lost = float(costs[np.arange(len(rows)), rows].sum())
        if lost >= best[0] * (1 - 1e-9):
            break
        best = (lost, rows, columns)
    return best


def _flat(values: Reals) -> Reals:
    return values.reshape(len(values), -1)


def _distances(ours: Reals, theirs: Reals) -> Reals:
    """Return the squared distance of every row of one from every row of the other."""
    squares = np.square(ours).sum(1)[:, None] + np.square(theirs).sum(1)
    apart: Reals = np.maximum(squares - 2 * ours @ theirs.T, 0)
    return apart
