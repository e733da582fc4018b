"""Which interpreters answer right with a model."""

import pytest
from ai_edge_litert import schema_py_generated as schema

from controller.compress.graph import Graph
from controller.runtimes import runtimes_for
from tests import models
from tests.controller.cascades import make_bundle
from tests.controller.classifiers import layers


def with_weights_of(kind: int) -> bytes:
    """Return a model whose weights claim to be of a type."""
    graph = Graph.read(models.classifier(layers(), form="int8"), "model")
    weights = graph.operator_inputs(0)[1]
    graph._subgraph.tensors[weights].type = kind
    return graph.write()


@pytest.mark.parametrize("kind", [schema.TensorType.INT4, schema.TensorType.INT2])
def test_narrow_weights_need_litert(kind: int) -> None:
    assert runtimes_for(with_weights_of(kind)) == ("ai-edge-litert",)


@pytest.mark.parametrize("form", ["float32", "int8", "uint8"])
def test_any_interpreter_takes_the_others(form: models.Form) -> None:
    assert runtimes_for(models.classifier(layers(), form=form)) == ()


def test_of_what_is_no_model_nothing_is_known() -> None:
    assert runtimes_for(b"no model") == ()


def test_a_variant_runs_in_the_interpreters_that_it_names() -> None:
    variant = make_bundle().stages[0].variants[0]
    narrow = variant.with_(runtimes=("ai-edge-litert",))

    assert variant.runs_in("tflite-runtime 2.14.0")
    assert narrow.runs_in("ai-edge-litert 2.3.0")
    assert narrow.runs_in("ai-edge-litert")
    assert not narrow.runs_in("tflite-runtime 2.14.0")
