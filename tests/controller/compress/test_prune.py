import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.layers import layers
from controller.compress.prune import prune, prune_layers
from controller.compress.weights import footprint, weights
from tests import models
from tests.models import Form

FORMS: st.SearchStrategy[Form] = st.sampled_from(["float32", "int8"])
LAYERS = models.random_layers(12, 20, 20, 5)


@settings(max_examples=25, deadline=None)
@given(FORMS, st.floats(0, 1), st.integers(0, 5))
def test_every_layer_has_exactly_so_many_zeros(form: Form, sparsity: float, seed: int) -> None:
    content = models.classifier(models.random_layers(12, 20, 5, seed=seed), form=form)
    before = bytes(content)
    pruned, report = prune(content, "model", sparsity)
    assert content == before
    for layer in report.layers:
        wanted = int(layer.weights * sparsity + 1e-6)
        assert layer.zeros == max(wanted, layer.zeros_before)
    assert prune(pruned, "model", sparsity)[0] == pruned


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_what_is_kept_is_larger_than_what_went(form: Form) -> None:
    content = models.classifier(LAYERS, form=form)
    pruned, _ = prune(content, "model", 0.4)
    before, after = Graph.read(content, "a"), Graph.read(pruned, "b")
    for stored in weights(before):
        old, new = before.real(stored.tensor), after.real(stored.tensor)
        gone = new == 0
        assert np.abs(old[gone]).max() <= np.abs(old[~gone]).min()
        assert np.array_equal(old[~gone], new[~gone])


def test_biases_stay_and_zeros_are_counted() -> None:
    content = models.classifier(LAYERS)
    pruned, report = prune(content, "model", 0.5)
    old, new = Graph.read(content, "a"), Graph.read(pruned, "b")
    for layer in layers(old):
        assert layer.bias is not None
        assert np.array_equal(old.raw(layer.bias), new.raw(layer.bias))
    before, after = footprint(content, "a"), footprint(pruned, "b")
    assert after.parameters == before.parameters
    assert before.nonzero - after.nonzero == sum(layer.zeros for layer in report.layers)
    assert report.sparsity == 0.5
    assert after.wire_bytes < before.wire_bytes


def test_thirds_that_floats_miss_by_a_hair_are_reached() -> None:
    content = models.classifier(models.random_layers(10, 1))
    assert prune(content, "model", 0.3)[1].layers[0].zeros == 3
    assert prune(content, "model", 0.1 + 0.2)[1].layers[0].zeros == 3


def test_layers_that_are_not_named_stay() -> None:
    content = models.classifier(LAYERS)
    last = weights(Graph.read(content, "m"))[2].tensor
    _, report = prune_layers(content, "m", {last: 7})
    assert [layer.zeros for layer in report.layers] == [0, 0, 7]


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(CompressError, match="want 0 to 1"):
        prune(models.classifier(LAYERS), "model", 1.5)


def test_a_model_without_weights_is_refused() -> None:
    with pytest.raises(CompressError, match="cannot prune weights of sum"):
        prune(models.two_inputs(), "sum", 0.5)
