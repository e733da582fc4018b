import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bundle import Metric
from protocols.inference.gate import confidence, probabilities, score_kind, top1

METRICS: tuple[Metric, ...] = ("max_prob", "margin", "entropy")
scores = st.lists(st.floats(-500, 500, width=32), min_size=2, max_size=20)


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
