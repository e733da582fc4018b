import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.prune import prune
from controller.compress.share import Grouping, share, share_layers
from controller.compress.weights import footprint, weights
from tests import models
from tests.models import Form

FORMS: st.SearchStrategy[Form] = st.sampled_from(["float32", "int8"])
LAYERS = models.random_layers(12, 20, 20, 5)


def arrays(content: bytes) -> list[np.ndarray]:
    graph = Graph.read(content, "model")
    return [graph.values(stored.tensor) for stored in weights(graph)]


@settings(max_examples=25, deadline=None)
@given(FORMS, st.integers(1, 8), st.integers(0, 5))
def test_every_layer_has_at_most_so_many_values(form: Form, bits: int, seed: int) -> None:
    content = models.classifier(models.random_layers(12, 20, 5, seed=seed), form=form)
    before = bytes(content)
    shared, report = share(content, "model", bits)
    assert content == before
    for values, told in zip(arrays(shared), report.layers, strict=True):
        assert len(np.unique(values)) == told.values <= 1 << bits
    assert share(shared, "model", bits)[0] == shared


@settings(max_examples=15, deadline=None)
@given(FORMS, st.integers(1, 3), st.integers(1, 9))
def test_every_group_has_a_palette_of_its_own(form: Form, bits: int, channels: int) -> None:
    content = models.classifier(LAYERS, form=form)
    shared, _ = share(content, "model", bits, Grouping(channels))
    for values in arrays(shared):
        for start in range(0, len(values), channels):
            assert len(np.unique(values[start : start + channels])) <= 1 << bits
    assert share(shared, "model", bits, Grouping(channels))[0] == shared


def test_only_weights_change_and_the_air_has_less_to_carry() -> None:
    content = models.classifier(models.random_layers(64, 64, 10), form="int8")
    shared, report = share(content, "model", 3)
    old, new = Graph.read(content, "a"), Graph.read(shared, "b")
    changed = [t for t in old.constants() if not np.array_equal(old.raw(t), new.raw(t))]
    assert changed == [stored.tensor for stored in weights(old)]
    assert footprint(shared, "b").wire_bytes < 0.8 * footprint(content, "a").wire_bytes
    assert all(0 < layer.error < 0.3 for layer in report.layers)


def test_more_bits_cost_less_and_groups_less_than_the_whole() -> None:
    content = models.classifier(LAYERS)
    errors = [share(content, "m", bits)[1].layers[0].error for bits in range(1, 8)]
    assert errors == sorted(errors, reverse=True)
    assert share(content, "m", 2, Grouping(4))[1].layers[0].error < errors[1]


def test_layers_that_are_not_named_stay() -> None:
    content = models.classifier(LAYERS)
    second = weights(Graph.read(content, "m"))[1].tensor
    shared, report = share_layers(content, "m", {second: 2})
    assert [layer.bits for layer in report.layers] == [None, 2, None]
    same = [np.array_equal(a, b) for a, b in zip(arrays(content), arrays(shared), strict=True)]
    assert same == [True, False, True]


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_pruned_weights_stay_pruned(form: Form) -> None:
    pruned, _ = prune(models.classifier(LAYERS, form=form), "model", 0.5)
    shared, _ = share(pruned, "model", 4)
    for before, after in zip(arrays(pruned), arrays(shared), strict=True):
        assert not after[before == 0].any()


def test_layers_that_share_an_array_go_on_sharing_it() -> None:
    tied = models.classifier(models.random_layers(12, 20, 20, 20, 5))
    graph = Graph.read(tied, "model")
    _, first, second, _ = weights(graph)
    graph.share_buffer(second.tensor, first.tensor)
    shared, report = share(graph.write(), "model", 2)
    assert len(report.layers) == 3
    assert len(weights(Graph.read(shared, "model"))) == 3


@pytest.mark.parametrize("bits", [0, 9])
def test_palettes_have_1_to_8_bits(bits: int) -> None:
    with pytest.raises(CompressError, match="want 1 to 8"):
        share(models.classifier(LAYERS), "model", bits)


def test_weights_that_are_not_there_cannot_be_shared() -> None:
    with pytest.raises(CompressError, match="cannot share weights of sum: none of its layers"):
        share(models.two_inputs(), "sum", 4)


def test_weights_that_are_no_numbers_are_refused() -> None:
    broken = models.random_layers(4, 40)
    broken[0][0][0, 0] = np.nan
    with pytest.raises(CompressError, match="NaN"):
        share(models.classifier(broken), "model", 2)
