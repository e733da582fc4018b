"""A model file on samples: run, checked, judged."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from controller.compress.errors import CompressError
from controller.compress.evaluate import Evaluation, compare, evaluate
from controller.compress.scorer import Scorer
from controller.compress.user_metric import Metric
from controller.samples import Samples
from protocols.inference.gate import score_kind

_BINARY = 2


def judge(
    content: bytes,
    name: str,
    samples: Samples,
    scores: int = 0,
    top_k: int | None = None,
    metric: Metric | None = None,
) -> tuple[Evaluation, NDArray[np.float32]]:
    """Run a model over samples and judge its answers.

    Args:
        content: the model file.
        name: for messages.
        samples: with labels.
        scores: number of the output that holds the class scores.
        top_k: as `evaluate`.
        metric: a user's own measure.

    Returns:
        What it is worth, and its real-valued scores, [n, scores].

    Raises:
        CompressError: it does not run, its scores are no numbers, or there are no labels.
        BuildError: the labels are classes that it does not tell apart.
    """
    y = samples.y
    if y is None:
        raise CompressError(f"cannot judge {name}: {samples.source} has no labels; see --y-key")
    with Scorer(samples, scores) as scorer:
        rows = scorer.rows(content, name)
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if broken.size:
        raise CompressError(
            f"cannot judge {name}: NaN or infinite scores for {broken.size} of {len(rows)} "
            f"samples, the first is sample {broken[0]}"
        )
    samples.check_classes(max(_BINARY, rows.shape[1]))
    found = evaluate(name, rows, score_kind(rows), y, top_k)
    if metric is not None:
        found = replace(found, metric=metric(rows, y))
    return found, rows


def beside(
    one: tuple[Evaluation, NDArray[np.float32]],
    reference: tuple[Evaluation, NDArray[np.float32]],
    y: NDArray[np.int64],
) -> Evaluation:
    """Return a model's evaluation with the comparison to a reference, both as `judge` gave them.

    Raises:
        CompressError: they tell different numbers of classes apart.
    """
    (found, rows), (other, other_rows) = one, reference
    if len(found.classes) != len(other.classes):
        raise CompressError(
            f"cannot compare {found.name} with {other.name}: {len(found.classes)} classes, "
            f"{len(other.classes)} classes"
        )
    compared = compare(rows, other_rows, (found.kind, other.kind), y, other.name)
    return replace(found, comparison=compared)
