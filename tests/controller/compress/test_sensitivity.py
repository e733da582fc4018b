"""What each layer costs: real models, run."""

from collections.abc import Iterator

import numpy as np
import pytest

from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.layers import Layer
from controller.compress.scorer import Scorer
from controller.compress.sensitivity import Treatment, sensitivity, shift_of
from controller.compress.widths import Width, narrowed
from controller.samples import Samples
from tests.controller import classifiers
from tests.models import classifier, two_inputs

X, Y = classifiers.dataset(60)
MODEL = classifier(classifiers.layers())


@pytest.fixture(name="scorer")
def _scorer() -> Iterator[Scorer]:
    with Scorer(Samples(X, Y, "", "samples")) as scorer:
        yield scorer


def _zeroed(content: bytes, layer: Layer) -> bytes:
    graph = Graph.read(content, layer.name)
    graph.replace(layer.weights, np.zeros_like(graph.values(layer.weights)))
    return graph.write()


def _refused(_content: bytes, layer: Layer) -> bytes:
    raise CompressError(f"cannot treat operator {layer.operator}: nobody can")


def test_what_is_done_to_a_layer_is_measured(scorer: Scorer) -> None:
    steps: list[tuple[str, int, int]] = []
    ways = [
        narrowed(Width.INT8),
        Treatment("nothing left", _zeroed, lambda *_: 0),
        Treatment("no way", _refused, lambda *_: 0),
    ]

    narrow, zero, none = sensitivity(MODEL, ways, scorer, on_step=lambda *step: steps.append(step))

    assert narrow.shift is not None
    assert zero.shift is not None
    assert narrow.shift.lost is not None
    assert narrow.shift.lost <= 0.05
    assert 0 < narrow.shift.divergence < 1e-3 < zero.shift.divergence
    assert zero.shift.accuracy is not None
    assert zero.shift.accuracy < 0.4
    assert zero.bytes_saved == 4 * 16 * 10
    assert narrow.bytes_saved == 4 * 160 - (160 + 120)
    assert none.shift is None
    assert none.why == "cannot treat operator 0: nobody can"
    assert [(done, total) for _, done, total in steps] == [(0, 3), (1, 3), (2, 3)]


def test_a_model_without_layers_is_refused(scorer: Scorer) -> None:
    with pytest.raises(CompressError, match="cannot measure the layers of m: none"):
        sensitivity(two_inputs(), [narrowed(Width.INT8)], scorer, "m")


def test_equal_scores_have_not_moved() -> None:
    rows = np.random.default_rng(0).normal(0, 5, (20, 4)).astype(np.float32)

    shift = shift_of(rows, rows, "logits", None)

    assert shift.accuracy is None
    assert shift.lost is None
    assert shift.change == 0
    assert shift.divergence == 0
    assert shift.agreement == 1


def test_divergence_is_that_of_kullback_and_leibler() -> None:
    before = np.array([[0.5, 0.5]], np.float32)
    after = np.array([[0.25, 0.75]], np.float32)

    shift = shift_of(before, after, "probabilities", np.array([0]))

    assert shift.divergence == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(0.5 / 0.75))
    assert shift.change == pytest.approx(0.25)
    assert shift.agreement == 0
    assert shift.lost == 1.0


def test_a_class_that_was_ruled_out_costs_much_but_not_infinitely() -> None:
    before, after = np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32)

    assert 10 < shift_of(before, after, "probabilities", None).divergence < 20
