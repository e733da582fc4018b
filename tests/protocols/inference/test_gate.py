import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bundle import Metric, ScoreKind
from protocols.inference.gate import confidence, logits, probabilities, score_kind, top1

METRICS: tuple[Metric, ...] = ("max_prob", "margin", "entropy")
KINDS: tuple[ScoreKind, ...] = ("logits", "probabilities")
scores = st.lists(st.floats(-500, 500, width=32), min_size=2, max_size=20)
rows = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=12)
shares = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12)
degrees = st.floats(0, exclude_min=True, allow_infinity=False).filter(lambda t: t != 1)
"""Every temperature that a bundle may have, but the one that leaves the scores as they are."""


@given(scores)
def test_softmax_is_a_distribution_whatever_the_logits(logits: list[float]) -> None:
    chances = probabilities(np.array([logits], np.float32), "logits")
    assert chances.shape == (len(logits),)
    assert chances.dtype == np.float32
    assert abs(float(chances.sum()) - 1) < 1e-4
    assert chances[int(np.argmax(logits))] == chances.max()


@given(scores, st.sampled_from(METRICS))
def test_confidence_lies_within_0_and_1(logits: list[float], metric: Metric) -> None:
    value = confidence(probabilities(np.array(logits, np.float32), "logits"), metric)
    assert -1e-6 <= value <= 1 + 1e-6


@pytest.mark.parametrize("metric", METRICS)
def test_a_surer_answer_has_the_higher_confidence(metric: Metric) -> None:
    sure = np.array([0.9, 0.05, 0.05], np.float32)
    unsure = np.array([0.4, 0.35, 0.25], np.float32)
    assert confidence(sure, metric) > confidence(unsure, metric)


def test_the_metrics_by_hand() -> None:
    chances = np.array([0.2, 0.5, 0.3], np.float32)
    assert confidence(chances, "max_prob") == pytest.approx(0.5)
    assert confidence(chances, "margin") == pytest.approx(0.2)
    entropy = -sum(p * math.log(p) for p in (0.2, 0.5, 0.3))
    assert confidence(chances, "entropy") == pytest.approx(1 - entropy / math.log(3))
    assert confidence(np.zeros(4, np.float32), "entropy") == 0
    assert confidence(np.array([1, 0], np.float32), "entropy") == 1


@given(st.floats(-1000, 1000, width=32))
def test_one_logit_is_a_binary_classifier(logit: float) -> None:
    chances = probabilities(np.array([[logit]], np.float32), "logits")
    assert chances.shape == (2,)
    assert float(chances.sum()) == pytest.approx(1)
    assert top1(np.array([[logit]], np.float32), "logits") == int(chances[1] > chances[0])


def test_one_probability_is_a_binary_classifier() -> None:
    chances = probabilities(np.array([0.75], np.float32), "probabilities")
    assert chances.tolist() == [0.25, 0.75]
    assert top1(np.array([0.75], np.float32), "probabilities") == 1
    assert top1(np.array([0.25], np.float32), "probabilities") == 0


def test_top1_compares_the_scores_themselves() -> None:
    close = np.array([[100.0, 100.00001, 0.0]], np.float64)
    assert top1(close, "logits") == 1


def test_score_kind_tells_probabilities_from_logits() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 3, (50, 10))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert score_kind(logits) == "logits"
    assert score_kind(chances) == "probabilities"
    assert score_kind(np.rint(chances * 256) / 256) == "probabilities"
    assert score_kind(np.full((50, 10), 0.9)) == "logits"
    assert score_kind(np.full((50, 1), 0.9)) == "probabilities"
    assert score_kind(np.full((50, 1), 3.0)) == "logits"


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_scores_that_are_not_finite_are_never_sure(bad: float, metric: Metric) -> None:
    chances = probabilities(np.array([bad, 1.0, 0.0], np.float32), "logits")
    assert not confidence(chances, metric) >= 0


def of_kind(kind: ScoreKind) -> st.SearchStrategy[np.ndarray]:
    values = rows if kind == "logits" else shares
    return values.map(lambda row: np.array(row, np.float32))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), temperature=degrees)
def test_a_temperature_keeps_the_order_of_the_classes(
    kind: ScoreKind, data: st.DataObject, temperature: float
) -> None:
    row = data.draw(of_kind(kind))
    chances = probabilities(row, kind, temperature)
    assert chances.dtype == np.float32
    assert chances.shape == (max(2, row.size),)
    assert float(chances.sum()) == pytest.approx(1, abs=1e-5)
    z = logits(row, kind)
    assert (np.diff(chances[np.argsort(z, kind="stable")]) >= 0).all()
    if row.size > 1 or abs(z[1]) > 1e-6:  # below it a sigmoid is one half, by rounding
        assert chances[top1(row, kind)] == chances.max()


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_great_temperature_makes_all_classes_alike(kind: ScoreKind, data: st.DataObject) -> None:
    chances = probabilities(data.draw(of_kind(kind)), kind, 1e9)
    np.testing.assert_allclose(chances, 1 / chances.size, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_at_1_nothing_changes(kind: ScoreKind, data: st.DataObject) -> None:
    row = data.draw(of_kind(kind))
    assert np.array_equal(probabilities(row, kind, 1.0), probabilities(row, kind))


@given(rows)
def test_next_to_1_logits_give_nearly_the_same(values: list[float]) -> None:
    row = np.array(values, np.float32)
    near = probabilities(row, "logits", 1.0 + 1e-9)
    np.testing.assert_allclose(near, probabilities(row, "logits"), atol=1e-5)


@given(scores, st.floats(0.05, 0.95), st.floats(1.05, 20))
def test_below_1_the_best_class_is_surer_and_above_it_less_sure(
    values: list[float], cold: float, warm: float
) -> None:
    row = np.array(values, np.float32)
    colder, same, warmer = (probabilities(row, "logits", t).max() for t in (cold, 1.0, warm))
    assert colder >= same - 1e-6
    assert same >= warmer - 1e-6


def test_a_temperature_by_hand() -> None:
    roots = np.array([0.2, 0.8]) ** 0.5
    cases: list[tuple[np.ndarray, ScoreKind]] = [
        (np.array([0.2, 0.8]), "probabilities"),
        (np.log([0.2, 0.8]), "logits"),
        (np.array([[0.8]]), "probabilities"),
        (np.array([[math.log(4)]]), "logits"),
    ]
    for row, kind in cases:
        found = probabilities(row.astype(np.float32), kind, 2.0)
        np.testing.assert_allclose(found, roots / roots.sum(), rtol=1e-6)
    certain = probabilities(np.array([0.0, 1.0], np.float32), "probabilities", 2.0)
    assert certain[0] == pytest.approx(1e-7**0.5, rel=1e-3)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("temperature", [5e-324, 0.5, 3.0])
def test_at_no_temperature_are_scores_that_are_not_finite_sure(
    bad: float, metric: Metric, temperature: float
) -> None:
    for kind in KINDS:
        if kind == "probabilities" and bad == np.inf:
            continue  # no kind of a model's scores: `score_kind` would call them logits
        chances = probabilities(np.array([bad, 1.0, 0.0], np.float32), kind, temperature)
        assert not confidence(chances, metric) >= 0
