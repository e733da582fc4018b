import itertools
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import controller.demo
from controller.compress.cuts import Flow, legal_cuts
from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.split import (
    RANDOM_SAMPLES,
    cuts_at,
    cuts_for_parts,
    cuts_for_size,
    make_parts,
    read_flow,
    split,
)
from controller.samples import Samples
from tests import models
from tests.controller.compress.test_cuts import half_weights, late_input, residual

ASSETS = Path(controller.demo.__file__).parent / "assets"
LAYERS = models.random_layers(16, 24, 8, 10)
INT8 = models.classifier(LAYERS, form="int8", sample_shape=(4, 4, 1))


def two_readers() -> bytes:
    """Return a model of two inputs, a + b, and one more operator."""
    graph = models.Graph()
    a, b = graph.tensor("a", (1, 4)), graph.tensor("b", (1, 4))
    total, end = graph.tensor("sum", (1, 4)), graph.tensor("end", (1, 4))
    graph.operate("ADD", [a, b], total, schema.AddOptionsT())
    graph.operate("LOGISTIC", [total], end)
    return graph.encode([a, b], [end])


def noisy() -> bytes:
    """Adds random numbers that differ at every run."""
    graph = models.Graph()
    x = graph.tensor("x", (1, 4))
    shape = graph.tensor("shape", (2,), "int32", data=np.array([1, 4], np.int32))
    noise, total, end = (graph.tensor(name, (1, 4)) for name in ("noise", "sum", "end"))
    graph.operate("RANDOM_UNIFORM", [shape], noise, schema.RandomOptionsT())
    graph.operate("ADD", [x, noise], total, schema.AddOptionsT())
    graph.operate("LOGISTIC", [total], end)
    return graph.encode([x], [end])


@pytest.mark.parametrize(
    "content",
    [
        models.classifier(LAYERS, form="uint8", open_batch=True),
        residual(),
        half_weights(),
        two_readers(),
    ],
    ids=["uint8", "residual", "half", "two inputs"],
)
def test_parts_answer_as_the_whole_at_the_most_cuts_there_are(content: bytes) -> None:
    flow = read_flow(content, "model")
    chosen = legal_cuts(flow)
    found = split(content, flow, chosen)
    assert len(found.parts) == len(chosen) + 1
    assert found.compared == RANDOM_SAMPLES
    assert [part.operators[0] for part in found.parts[1:]] == [cut.after + 1 for cut in chosen]


def test_several_tensors_are_handed_over_in_order() -> None:
    flow = read_flow(residual(), "model")
    (cut,) = cuts_at(flow, "1", 2)
    found = split(residual(), flow, (cut,))
    assert found.parts[0].outputs == found.parts[1].inputs == ("a", "b")


def test_a_part_has_its_own_things_only_and_they_keep_their_names() -> None:
    content = (ASSETS / "large-int8.tflite").read_bytes()
    flow = read_flow(content, "large")
    made = make_parts(flow, cuts_for_parts(flow, 3))
    parts = [Graph.read(part.content, "part") for part in made]
    assert sum(len(part.operators) for part in parts) == len(flow.graph.operators)
    for graph in parts:
        read = {tensor for o in graph.operators for tensor in graph.operator_inputs(o)}
        assert read.issuperset(graph.constants())
    assert sum(len(part.content) for part in made) < 1.05 * len(content)
    assert parts[0].tensor_name(parts[0].inputs[0]) == "serving_default_image"
    assert parts[2].tensor_name(parts[2].outputs[0]) == "serving_default_logits_output"
    for before, after in itertools.pairwise(made):
        assert before.outputs == after.inputs
    for graph in parts:
        used = {graph.buffer(tensor) for tensor in graph.constants()}
        assert len(graph._model.buffers) == 2 + len(used)  # the empty one, and the metadata's
        (signature,) = graph._model.signatureDefs
        assert signature.signatureKey == b"serving_default"
        assert [one.tensorIndex for one in signature.inputs] == list(graph.inputs)


def test_weights_are_balanced_and_fit_a_size() -> None:
    content = (ASSETS / "large-int8.tflite").read_bytes()
    flow = read_flow(content, "large")
    (cut,) = cuts_for_parts(flow, 2)
    assert abs(cut.weights_before - cut.weights_after) < 0.05 * len(content)
    cuts = cuts_for_size(flow, 0.4)
    assert len(cuts) == 1
    assert cuts == (cut,)
    with pytest.raises(CompressError, match=r"fit 0.01 MiB: none of its 17 legal cuts"):
        cuts_for_size(flow, 0.01)
    with pytest.raises(CompressError, match="the whole fits already"):
        cuts_for_size(flow, 1)


def test_samples_are_compared_too() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (5, 16)).astype(np.float32)
    flow = read_flow(INT8, "int8")
    found = split(INT8, flow, cuts_for_parts(flow, 2), Samples(x, None, "", "x.npz"))
    assert found.compared == RANDOM_SAMPLES + 5
    wrong = Samples(x[:, :3], None, "", "x.npz")
    with pytest.raises(CompressError, match=r"cannot split: int8 does not run: .*3"):
        split(INT8, flow, cuts_for_parts(flow, 2), wrong)


def test_parts_that_answer_otherwise_are_refused() -> None:
    flow = read_flow(noisy(), "noisy")
    with pytest.raises(
        CompressError, match=r"cannot split noisy behind operators 1: the parts answer otherwise"
    ):
        split(noisy(), flow, cuts_at(flow, "sum"))


def test_cuts_by_name() -> None:
    flow = read_flow(models.classifier(LAYERS), "model")
    assert [cut.after for cut in cuts_at(flow, "dense1,dense0")] == [0, 1]
    assert cuts_at(flow, "0") == cuts_at(flow, "dense0")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("none", "there is no tensor or operator of that name"),
        ("dense0_weights", "it is an input, a constant, or the model's output"),
        ("scores", "it is an input, a constant, or the model's output"),
        ("99", "there is no tensor or operator of that name"),
    ],
)
def test_what_names_no_cut(words: str, why: str) -> None:
    flow = read_flow(models.classifier(LAYERS), "model")
    with pytest.raises(CompressError, match=why):
        cuts_at(flow, words)


def test_an_illegal_cut_is_explained() -> None:
    flow = read_flow(residual(), "model")
    with pytest.raises(CompressError, match="behind operator 1, 2 tensors are handed over"):
        cuts_at(flow, "b")
    with pytest.raises(CompressError, match=r"into 2 parts: it has 0 legal cuts"):
        cuts_for_parts(read_flow(late_input(), "late"), 2)
    with pytest.raises(CompressError, match=r"into 4 parts: it has 2 legal cuts \(1 more with"):
        cuts_for_parts(flow, 4)


def test_cuts_that_do_not_go_together() -> None:
    flow = read_flow(residual(), "model")
    with pytest.raises(CompressError, match="written before the first; leave one of them out"):
        cuts_at(flow, "0,1", 2)


def test_models_that_have_no_straight_line() -> None:
    graph = Graph.read(residual(), "loop")
    graph._model.subgraphs.append(graph._model.subgraphs[0])
    with pytest.raises(CompressError, match="cannot split loop: it has 2 subgraphs"):
        read_flow(graph.write(), "loop")
    with pytest.raises(CompressError, match=r"no \.tflite file"):
        read_flow(b"junk junk", "junk")
    assert isinstance(read_flow(residual(), "line"), Flow)
