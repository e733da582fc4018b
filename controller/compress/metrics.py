"""How good a classifier's scores are. Pure: scores and labels in, numbers out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.bundle import ScoreKind
from protocols.inference.gate import confidence, probabilities

_BINS = 15


@dataclass(frozen=True, slots=True)
class Quality:
    """What scores are worth against labels.

    Attributes:
        samples: how many there were.
        accuracy: share of samples whose first class is the label.
        top5_accuracy: share whose first five classes hold the label; None below six classes.
        by_class: accuracy for each class; NaN where no sample has it.
        confusion: [classes, classes], counts; rows are labels, columns what was answered.
        calibration_error: expected calibration error of the highest probability, over 15 bins of
            equal width (Guo et al., "On Calibration of Modern Neural Networks", 2017).
    """

    samples: int
    accuracy: float
    top5_accuracy: float | None
    by_class: tuple[float, ...]
    confusion: NDArray[np.int64]
    calibration_error: float


def quality(rows: NDArray[np.float32], kind: ScoreKind, y: NDArray[np.int64]) -> Quality:
    """Judge scores.

    Args:
        rows: real-valued scores, [n, scores].
        kind: what they are.
        y: labels, [n].
    """
    chances = np.stack([probabilities(row, kind) for row in rows])
    answers = chances.argmax(axis=1)
    classes = chances.shape[1]
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (y, answers), 1)
    counts = confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):
        by_class = np.diag(confusion) / counts
    return Quality(
        samples=len(y),
        accuracy=float((answers == y).mean()),
        top5_accuracy=_top5(chances, y),
        by_class=tuple(map(float, by_class)),
        confusion=confusion,
        calibration_error=calibration_error(chances, y),
    )


def calibration_error(chances: NDArray[np.float32], y: NDArray[np.int64]) -> float:
    """Return the expected calibration error: |accuracy - confidence|, weighted over 15 bins.

    Args:
        chances: probabilities, [n, classes].
        y: labels, [n].
    """
    sure = np.array([confidence(row, "max_prob") for row in chances])
    right = chances.argmax(axis=1) == y
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    gaps = [
        (bins == number).mean() * abs(right[bins == number].mean() - sure[bins == number].mean())
        for number in np.unique(bins)
    ]
    return float(sum(gaps))


def agreement(rows: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """Return the share of samples for which two models, [n, scores] each, answer alike."""
    return float((rows.argmax(axis=1) == others.argmax(axis=1)).mean())


def _top5(chances: NDArray[np.float32], y: NDArray[np.int64]) -> float | None:
    few = 5
    if chances.shape[1] <= few:
        return None
    first = np.argsort(-chances, axis=1, kind="stable")[:, :few]
    return float((first == y[:, None]).any(axis=1).mean())
