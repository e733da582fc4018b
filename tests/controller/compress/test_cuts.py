import itertools

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.compress.cuts import Cut, Flow, Refused, balanced, legal_cuts, places
from controller.compress.graph import Graph
from tests import models

WIDTHS = (16, 24, 8, 4)


def flow(content: bytes) -> Flow:
    return Flow(Graph.read(content, "model"))


def chain(*widths: int) -> Flow:
    return flow(models.classifier(models.random_layers(*widths), head="logits"))


def refusals(of: Flow, most_tensors: int = 1) -> dict[int, str]:
    found = places(of, most_tensors)
    return {place.after: place.why for place in found if isinstance(place, Refused)}


def residual() -> bytes:
    """Return x -> a -> b, then a + b -> sum -> end: in one place two tensors cross."""
    graph = models.Graph()
    x, a, b = (graph.tensor(name, (1, 4)) for name in "xab")
    total, end = graph.tensor("sum", (1, 4)), graph.tensor("end", (1, 4))
    graph.operate("RELU", [x], a)
    graph.operate("LOGISTIC", [a], b)
    graph.operate("ADD", [a, b], total, schema.AddOptionsT())
    graph.operate("RELU", [total], end)
    return graph.encode([x], [end])


def half_weights() -> bytes:
    """Float16 weights that are made float before any layer runs, as converters write them."""
    graph = models.Graph()
    layers = models.random_layers(4, 4, 4, 4)
    floats = []
    for number, (weights, _) in enumerate(layers):
        half = graph.tensor(f"half{number}", (4, 4), "float16", data=weights.astype(np.float16))
        floats.append(graph.operate("DEQUANTIZE", [half], graph.tensor(f"w{number}", (4, 4))))
    x = value = graph.tensor("x", (1, 4))
    for number, weights_tensor in enumerate(floats):
        bias = graph.tensor(f"bias{number}", (4,), data=np.zeros(4, np.float32))
        out = graph.tensor(f"dense{number}", (1, 4))
        options = schema.FullyConnectedOptionsT()
        value = graph.operate("FULLY_CONNECTED", [value, weights_tensor, bias], out, options)
    return graph.encode([x], [value])


def late_input() -> bytes:
    """The input is added once more at the end."""
    graph = models.Graph()
    x, a, b = (graph.tensor(name, (1, 4)) for name in "xab")
    graph.operate("RELU", [x], a)
    graph.operate("ADD", [a, x], b, schema.AddOptionsT())
    return graph.encode([x], [b])


def one_tensor(signature: tuple[int, ...]) -> bytes:
    """RELU, RELU over a tensor in between with this signature."""
    graph = models.Graph()
    x, end = graph.tensor("x", (1, 4)), graph.tensor("end", (1, 4))
    middle = graph.tensor("middle", (1, 4), signature=signature)
    graph.operate("RELU", [x], middle)
    graph.operate("RELU", [middle], end)
    return graph.encode([x], [end])


def test_a_chain_can_be_cut_everywhere() -> None:
    of = chain(*WIDTHS)
    cuts = legal_cuts(of)
    assert [cut.after for cut in cuts] == [0, 1]
    assert [of.graph.tensor_name(cut.tensors[0]) for cut in cuts] == ["dense0", "dense1"]
    first = cuts[0]
    assert first.handed_over_bytes == 24 * 4
    assert first.weights_before == (16 * 24 + 24) * 4
    assert first.weights_after == (24 * 8 + 8 + 8 * 4 + 4) * 4
    assert (first.macs_before, first.macs_after) == (16 * 24, 24 * 8 + 8 * 4)


def test_few_tensors_cross_where_that_is_allowed() -> None:
    of = flow(residual())
    assert [cut.after for cut in legal_cuts(of)] == [0, 2]
    assert refusals(of) == {1: "2 tensors are handed over, at most 1 allowed"}
    cut = legal_cuts(of, 2)[1]
    assert [of.graph.tensor_name(tensor) for tensor in cut.tensors] == ["a", "b"]
    assert cut.handed_over_bytes == 32


def test_what_comes_of_constants_does_not_cross() -> None:
    of = flow(half_weights())
    assert of.repeated == {0, 1, 2}
    assert [cut.after for cut in legal_cuts(of)] == [3, 4]
    assert of.operators(4, 6) == (1, 2, 4, 5)
    assert legal_cuts(of)[0].weights_before == 4 * 4 * 2 + 4 * 4


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (late_input(), "tensor 'x' is an input of the model that both sides read"),
        (
            models.two_outputs(models.random_layers(4, 4, 4)),
            "tensor 'hidden0' is an output of the model that an early part would give",
        ),
        (
            one_tensor(signature=(-1, -1)),
            "tensor 'middle' has a shape that is left open, [-1, -1]",
        ),
    ],
)
def test_where_a_model_cannot_be_cut(content: bytes, why: str) -> None:
    assert refusals(flow(content))[0] == why


def test_an_open_batch_is_no_obstacle() -> None:
    assert len(legal_cuts(flow(one_tensor(signature=(-1, 4))))) == 1


def test_state_does_not_cross() -> None:
    graph = models.Graph()
    x, state = graph.tensor("x", (1, 4)), graph.tensor("state", (1, 4))
    graph.tensors[state].isVariable = True
    a, b = graph.tensor("a", (1, 4)), graph.tensor("b", (1, 4))
    graph.operate("ADD", [x, state], a, schema.AddOptionsT())
    graph.operate("ADD", [a, state], b, schema.AddOptionsT())
    why = refusals(flow(graph.encode([x], [b])))
    assert why == {0: "tensor 'state' keeps state that both sides read"}


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=4, max_size=8), st.integers(2, 4))
def test_balanced_parts_are_the_best_there_are(widths: list[int], parts: int) -> None:
    of = chain(*widths)
    cuts = legal_cuts(of)
    found = balanced(of, cuts, parts)
    every = list(_ways(of, cuts, parts))
    if not every:
        assert found is None
        return
    assert found is not None
    assert len(found) == parts - 1
    assert _largest(of, found) == min(every)


def _ways(of: Flow, cuts: tuple[Cut, ...], parts: int) -> list[int]:
    return [_largest(of, chosen) for chosen in itertools.combinations(cuts, parts - 1)]


def _largest(of: Flow, cuts: tuple[Cut, ...]) -> int:
    edges = [0, *(cut.after + 1 for cut in cuts), of.end]
    return max(of.weights_bytes(a, b) for a, b in itertools.pairwise(edges))
