import numpy as np
import pytest

from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.search import Judge
from controller.compress.tie import pairs, tie, tie_within
from controller.compress.weights import footprint, weights
from controller.samples import Samples
from tests import models
from tests.models import Form, Layers

WIDTH = 12
SAMPLES = np.random.default_rng(7).random((60, 6)).astype(np.float32)


def twins(noise: float) -> Layers:
    """Two hidden layers that are the same but for the order of channels, and for noise."""
    draw = np.random.default_rng(3)
    first, apart, last = models.random_layers(WIDTH, WIDTH, WIDTH, 3, seed=4)
    rows, columns = draw.permutation(WIDTH), draw.permutation(WIDTH)
    second = first[0][rows][:, columns] + noise * draw.normal(size=(WIDTH, WIDTH))
    begin = models.random_layers(6, WIDTH, seed=5)[0]
    twin = (second.astype(np.float32), draw.normal(0, 0.1, WIDTH).astype(np.float32))
    return [begin, first, apart, twin, last]


def labelled(content: bytes) -> Samples:
    from controller.compress.scorer import Scorer  # noqa: PLC0415

    with Scorer(Samples(SAMPLES, None, "", "x")) as scorer:
        y = scorer.rows(content, "model").argmax(axis=1)
    return Samples(SAMPLES, y.astype(np.int64), "", "test")


@pytest.mark.parametrize(("form", "most"), [("float32", 1e-6), ("int8", 0.01)])
def test_layers_that_differ_by_the_order_of_channels_are_found(form: Form, most: float) -> None:
    content = models.classifier(twins(0), form=form)
    closest = pairs(content, "model")[0]
    assert closest.distance <= most
    assert closest.reordered > 0
    _, first, _, twin, _ = weights(Graph.read(content, "model"))
    assert closest.tensors == (first.tensor, twin.tensor)
    tied = tie(content, "model", closest.tensors)
    assert tie(tied, "model", closest.tensors) == tied
    saved = footprint(content, "a").parameters - footprint(tied, "b").parameters
    assert saved == WIDTH * WIDTH
    assert len(tied) <= len(content) - closest.saved_bytes + 64
    with Judge(content, "model", labelled(content)) as judge:
        assert judge.shift(tied).change < (1e-5 if form == "float32" else 0.02)


def test_a_budget_keeps_what_costs_nothing_and_leaves_the_rest() -> None:
    content = models.classifier(twins(0.001))
    with Judge(content, "model", labelled(content)) as judge:
        made, report = tie_within(judge, 0.0)
    kept = [tied.pair for tied in report.tied if tied.kept]
    closest = pairs(content, "model")[0]
    assert closest.tensors in [pair.tensors for pair in kept]
    assert all(tied.loss > 0 for tied in report.tied if not tied.kept)
    assert report.verdict.chosen_on.lost == 0
    assert len(made) < len(content)


def test_an_array_that_two_share_can_take_a_third() -> None:
    content = models.classifier(models.random_layers(5, 5, 5, 5))
    first, second, third = (one.tensor for one in weights(Graph.read(content, "model")))
    tied = tie(tie(content, "model", (first, second)), "model", (third, second))
    (one,) = weights(Graph.read(tied, "model"))
    assert set(one.tensors) == {first, second, third}


def test_layers_of_other_shapes_cannot_be_tied() -> None:
    with pytest.raises(CompressError, match="no two have weights of the same shape"):
        pairs(models.classifier(models.random_layers(4, 5, 6)), "model")
