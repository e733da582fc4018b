"""When an answer may leave the cascade: class probabilities and how sure they are."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.bundle import CONFIDENCE_BINS, Metric, ScoreKind

_NEAR_ZERO, _NEAR_ONE = -0.01, 1.01
_SUM_TOLERANCE = 0.1
_SMALLEST = 1e-7


def probabilities(
    scores: NDArray[Any], kind: ScoreKind, temperature: float = 1.0
) -> NDArray[np.float32]:
    """Return class probabilities, float32 [classes], from a model's real-valued scores.

    Logits go through softmax (the maximum subtracted, so that nothing overflows). One single score
    is a binary classifier's: p of class 1, or its logit; the answer has two classes.

    At another temperature than 1 it is softmax(`logits(scores, kind)` / temperature), Guo et al.
    2017, arXiv:1706.04599: below 1 surer, above 1 less sure. No class overtakes another; rounding
    to float32 can make two equal that were not.

    Args:
        scores: real values of any shape, flattened.
        kind: `probabilities`, or `logits` (`raw` scores have no probabilities).
        temperature: above 0; 1 leaves the scores as the model means them.
    """
    if temperature != 1.0:
        return _softened(logits(scores, kind), temperature)
    flat = scores.astype(np.float32, copy=False).ravel()
    if flat.size == 1:
        score = float(flat[0])
        one = _sigmoid(score) if kind == "logits" else min(max(score, 0.0), 1.0)
        return np.array([1.0 - one, one], np.float32)
    if kind != "logits":
        return flat
    with np.errstate(invalid="ignore"):  # an infinite logit makes NaN, which is never sure
        grown = np.exp(flat - flat.max())
        shares: NDArray[np.float32] = grown / grown.sum()
    return shares


def logits(scores: NDArray[Any], kind: ScoreKind) -> NDArray[np.float64]:
    """Return logits, float64 [classes], of a model's real-valued scores.

    Probabilities become their logarithms (at least 1e-7: quantized ones may be 0). A single score
    is a binary classifier's, and becomes two: 0 and its logit.

    Args:
        scores: real values of any shape, flattened.
        kind: `probabilities` or `logits`.
    """
    z = scores.astype(np.float64).ravel()
    if z.size == 1:
        if kind != "logits":
            p = np.clip(z, _SMALLEST, 1.0 - _SMALLEST)
            z = np.log(p) - np.log1p(-p)
        return np.concatenate([np.zeros(1), z])
    return z if kind == "logits" else np.log(np.maximum(z, _SMALLEST))


def top1(scores: NDArray[Any], kind: ScoreKind) -> int:
    """Return the class with the best score; of a single score, class 1 or 0.

    The scores are compared as they are: softmax could round two of them to the same probability.
    """
    if scores.size == 1:
        return int(probabilities(scores, kind).argmax())
    return int(scores.argmax())


def confidence(chances: NDArray[np.float32], metric: Metric) -> float:
    """Say how sure a classifier is; higher is surer.

    Args:
        chances: class probabilities, [classes], at least two classes.
        metric: `max_prob` is the largest, `margin` the largest minus the second, `entropy`
            1 - H / ln(classes) of the probabilities scaled to a sum of 1.
    """
    match metric:
        case "max_prob":
            return float(chances.max())
        case "margin":
            second, first = np.partition(chances, -2)[-2:]
            return float(first) - float(second)
        case "entropy":
            return 1.0 - _entropy(chances) / math.log(chances.size)


def confidence_bin(confidence: float) -> int | None:
    """Return in which of the equal bins of [0, 1] a confidence is counted; None: it is NaN.

    The entropy of rounded probabilities can fall a little outside: it counts at the edge.
    """
    if math.isnan(confidence):
        return None
    return min(max(int(confidence * CONFIDENCE_BINS), 0), CONFIDENCE_BINS - 1)


def score_kind(rows: NDArray[Any]) -> ScoreKind:
    """Tell probabilities from logits by a matrix of real-valued scores, [samples, classes].

    Probabilities lie within [0, 1] (0.01 of slack for quantization) and sum to 1: the median row is
    within 0.1 of it. A single column within [0, 1] is a sigmoid's.
    """
    if rows.min() < _NEAR_ZERO or rows.max() > _NEAR_ONE:
        return "logits"
    if rows.shape[1] == 1:
        return "probabilities"
    off = np.median(np.abs(rows.sum(axis=1) - 1.0))
    return "probabilities" if off < _SUM_TOLERANCE else "logits"


def _softened(z: NDArray[np.float64], temperature: float) -> NDArray[np.float32]:
    """Softmax of z / temperature. The maximum goes first: 0 / T is 0 however small T is."""
    with np.errstate(invalid="ignore", over="ignore"):
        grown = np.exp((z - z.max()) / temperature)
    return np.asarray(grown / grown.sum(), np.float32)


def _sigmoid(logit: float) -> float:
    """1 / (1 + e^-x), by the branch that does not overflow."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    grown = math.exp(logit)
    return grown / (1.0 + grown)


def _entropy(chances: NDArray[np.float32]) -> float:
    positive = np.clip(chances.astype(np.float64), 0.0, None)
    total = positive.sum()
    if total <= 0:
        return math.log(chances.size)
    shares = positive[positive != 0] / total  # NaN stays: it is never sure
    return float(-(shares * np.log(shares)).sum())
