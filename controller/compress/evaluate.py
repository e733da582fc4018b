"""What a classifier is worth on labelled samples, with how sure that is. Pure."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.compress.metrics import Quality, agreement, quality
from protocols.bundle import ScoreKind
from protocols.inference.gate import probabilities

_Z95 = 1.959963984540054
"""The normal distribution's 97.5% point: two-sided 95%."""

_BINS = 15
"""As many as the calibration error is taken over."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Between these the truth lies, with probability 95% over the drawing of the samples."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class.

    Attributes:
        label: its number.
        samples: how many have it.
        recall: share of these that were answered so; None: there are none.
        precision: share of the answers with this class that are right; None: there are none.
    """

    label: int
    samples: int
    recall: float | None
    precision: float | None


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers that were about equally sure.

    Attributes:
        low: least confidence of the bin; `high` is its most.
        samples: how many answers fell into it.
        confidence: their mean.
        accuracy: share of them that was right.
    """

    low: float
    high: float
    samples: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A model beside a reference model, on the same samples.

    Attributes:
        reference: its name.
        agreement: share of samples that both answer alike.
        both_right: how many samples both answer rightly; `only_this`, `only_reference` and
            `neither` likewise.
        difference: this one's accuracy less the reference's.
        interval: of the difference, 95%.
    """

    reference: str
    agreement: float
    both_right: int
    only_this: int
    only_reference: int
    neither: int
    difference: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model on labelled samples.

    Attributes:
        name: the model's.
        kind: what its scores are.
        quality: accuracy, confusion, calibration.
        interval: of the accuracy, 95%.
        top_k: k, and the share of samples whose first k classes hold the label; None: not asked.
        classes: every class.
        bins: reliability: how right answers are that are so sure; empty bins are left out.
        comparison: beside a reference; None: there is none.
        metric: what the user's own function says; None: there is none.
    """

    name: str
    kind: ScoreKind
    quality: Quality
    interval: Interval
    top_k: tuple[int, float] | None
    classes: tuple[ClassFigures, ...]
    bins: tuple[Bin, ...]
    comparison: Comparison | None = None
    metric: float | None = None


def evaluate(
    name: str,
    rows: NDArray[np.float32],
    kind: ScoreKind,
    y: NDArray[np.int64],
    top_k: int | None = None,
) -> Evaluation:
    """Judge a model by its scores.

    Args:
        name: the model's.
        rows: real-valued scores, [n, scores].
        kind: what they are.
        y: labels, [n], below the number of classes.
        top_k: also count a sample as right if the label is among so many first classes.
    """
    chances = np.stack([probabilities(row, kind) for row in rows])
    found = quality(rows, kind, y)
    return Evaluation(
        name=name,
        kind=kind,
        quality=found,
        interval=wilson(round(found.accuracy * len(y)), len(y)),
        top_k=None if top_k is None else (top_k, top_accuracy(chances, y, top_k)),
        classes=_classes(found.confusion),
        bins=_bins(chances, y),
    )


def compare(
    rows: NDArray[np.float32],
    reference: NDArray[np.float32],
    kinds: tuple[ScoreKind, ScoreKind],
    y: NDArray[np.int64],
    name: str,
) -> Comparison:
    """Hold a model beside a reference.

    The interval is that of paired proportions after Agresti and Min, "Simple improved confidence
    intervals for comparing matched proportions" (2005): half a sample is added to every cell.

    Args:
        rows: real-valued scores of the model, [n, scores].
        reference: those of the reference, [n, scores].
        kinds: what they are, in this order.
        y: labels, [n].
        name: of the reference.
    """
    right = _answers(rows, kinds[0]) == y
    other = _answers(reference, kinds[1]) == y
    won, lost = int((right & ~other).sum()), int((other & ~right).sum())
    total = len(y) + 2.0
    gained, gave = won + 0.5, lost + 0.5
    middle = (gained - gave) / total
    spread = _Z95 * math.sqrt(gained + gave - (gained - gave) ** 2 / total) / total
    same_width = rows.shape[1] == reference.shape[1] > 1
    return Comparison(
        reference=name,
        agreement=agreement(rows, reference)
        if same_width
        else float((_answers(rows, kinds[0]) == _answers(reference, kinds[1])).mean()),
        both_right=int((right & other).sum()),
        only_this=won,
        only_reference=lost,
        neither=int((~right & ~other).sum()),
        difference=(won - lost) / len(y),
        interval=Interval(middle - spread, middle + spread),
    )


def wilson(right: int, n: int) -> Interval:
    """Return the 95% interval of a share, after Wilson (1927).

    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), with p = right / n; it stays within
    0 to 1, and is not empty where p is 0 or 1.
    """
    share, square = right / n, _Z95**2
    middle = share + square / (2 * n)
    spread = _Z95 * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    scale = 1 + square / n
    return Interval(max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale))


def top_accuracy(chances: NDArray[np.float32], y: NDArray[np.int64], k: int) -> float:
    """Return the share of samples whose k most probable classes hold the label.

    Args:
        chances: probabilities, [n, classes].
        y: labels, [n].
        k: at least 1; from the number of classes on, all samples are right.
    """
    first = np.argsort(-chances, axis=1, kind="stable")[:, :k]
    return float((first == y[:, None]).any(axis=1).mean())


def _answers(rows: NDArray[np.float32], kind: ScoreKind) -> NDArray[np.int64]:
    chances = np.stack([probabilities(row, kind) for row in rows])
    answers: NDArray[np.int64] = chances.argmax(axis=1)
    return answers


def _classes(confusion: NDArray[np.int64]) -> tuple[ClassFigures, ...]:
    right, asked, said = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return tuple(
        ClassFigures(
            label=label,
            samples=int(asked[label]),
            recall=float(right[label] / asked[label]) if asked[label] else None,
            precision=float(right[label] / said[label]) if said[label] else None,
        )
        for label in range(len(confusion))
    )


def _bins(chances: NDArray[np.float32], y: NDArray[np.int64]) -> tuple[Bin, ...]:
    sure = chances.max(axis=1)
    right = chances.argmax(axis=1) == y
    numbers = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    return tuple(
        Bin(
            low=number / _BINS,
            high=(number + 1) / _BINS,
            samples=int((numbers == number).sum()),
            confidence=float(sure[numbers == number].mean()),
            accuracy=float(right[numbers == number].mean()),
        )
        for number in np.unique(numbers).tolist()
    )
