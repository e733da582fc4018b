"""Golden samples: which ones, and the classes that every device must give for them. Pure."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.bundle import ScoreKind, TensorSpec
from protocols.inference.gate import probabilities, top1

MOST = 16
"""Golden samples of a bundle."""

MAX_BYTES = 4 << 20
"""Every device fetches them, so large samples are fewer."""

UNSETTLED = -1

_QUANTA, _RATIO = 4, 0.8
"""Two classes are told apart on any processor if their scores are 4 quantization steps apart, and
the second's probability is at most 0.8 of the first's: rounding differs in the last bits, and a
network carries that on."""


def classes_of(rows: NDArray[np.float32], kind: ScoreKind) -> NDArray[np.int64]:
    """Return the class with the best score, [n], from real-valued scores [n, scores]."""
    return np.array([top1(row, kind) for row in rows], np.int64)


def settled_classes(
    rows: NDArray[np.float32], kind: ScoreKind, spec: TensorSpec
) -> NDArray[np.int64]:
    """Return the class of every sample, [n], -1 where it is too close to call.

    Args:
        rows: real-valued scores, [n, scores].
        kind: of the scores.
        spec: of the tensor that they came in.
    """
    found = classes_of(rows, kind)
    clear = np.array([_is_clear(row, kind, spec) for row in rows], np.bool_)
    return np.where(clear, found, UNSETTLED)


def agreed(votes: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the class that all votes agree on, [n], -1 where they do not."""
    first = votes[0]
    same = np.all([vote == first for vote in votes], axis=0)
    return np.where(same, first, UNSETTLED)


def pick(
    expected: Mapping[str, NDArray[np.int64]], exits: NDArray[np.int64], sample_bytes: int
) -> NDArray[np.int64]:
    """Return the indices of the golden samples, in order.

    Samples that leave at each stage take turns, and among them those first that most stages are
    sure of and whose class is rare so far.

    Args:
        expected: stage -> classes, [n], -1 where they are not compared.
        exits: [n], where each sample leaves.
        sample_bytes: size of one.
    """
    count = int(min(MOST, len(exits), max(1, MAX_BYTES // max(1, sample_bytes))))
    settled = sum((row >= 0).astype(np.int64) for row in expected.values())
    rank = np.zeros(len(exits), np.int64) + settled
    last = next(reversed(list(expected.values())), np.zeros(len(exits), np.int64))
    order = np.lexsort((np.arange(len(exits)), _occurrence(last), -rank))
    queues = [[i for i in order if exits[i] == stage] for stage in np.unique(exits)]
    turns = [queue[turn] for turn in range(count) for queue in queues if turn < len(queue)]
    return np.sort(np.array(turns[:count], np.int64))


def encode(x: NDArray[Any], expected: Mapping[str, NDArray[np.int64]]) -> bytes:
    """Return the `.npz` of golden samples: `x` and `top1_<stage>`; the same bytes every time."""
    file = io.BytesIO()
    arrays: dict[str, Any] = {f"top1_{stage}": classes for stage, classes in expected.items()}
    np.savez_compressed(file, x=x, **arrays)
    return file.getvalue()


def _is_clear(row: NDArray[np.float32], kind: ScoreKind, spec: TensorSpec) -> bool:
    if not np.isfinite(row).all():
        return False
    chances = np.sort(probabilities(row, kind))
    if chances[-2] > _RATIO * chances[-1]:
        return False
    quantum = spec.quantization.scale if spec.quantization is not None else 0.0
    scores = np.sort(row) if row.size > 1 else np.array([0.0 if kind == "logits" else 0.5, *row])
    return bool(abs(scores[-1] - scores[-2]) >= _QUANTA * quantum)


def _occurrence(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each sample how many of its class stand before it."""
    seen: dict[int, int] = {}
    found = np.zeros(len(classes), np.int64)
    for index, one in enumerate(classes.tolist()):
        found[index] = seen[one] = seen.get(one, -1) + 1
    return found
