"""Temperature scaling: softmax(z / T) with the T that makes the labels likeliest. Pure.

Guo et al., "On Calibration of Modern Neural Networks", 2017 (arXiv:1706.04599). It changes how sure
a model says that it is, never its class. What it can do for a gate is less: a gate asks only which
answers are surer than others. With two classes every metric rises with |z1 - z2|, whatever T is, so
nothing changes but where the thresholds of the grid fall. With more classes T also weighs how the
rest of the probability is shared among the other classes, so the order of two answers can change.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.calibrate import DELTA, EPS_LADDER, samples_needed
from controller.errors import BuildError
from protocols.bundle import ScoreKind
from protocols.inference import gate

LEAST_DEGREES, MOST_DEGREES = 1e-3, 1e3
"""Temperatures beyond these leave all probabilities at 0 and 1, or alike."""

_BELIEF = 0.3
"""Standard deviation of ln T before any label is seen. Of 0.2, 0.3, 0.5, 1 and none it gave the
likeliest other half, over 40 halvings of the demo's digits and models, from 100 labels up."""

_BISECTIONS = 60
_PAIRS = 100_000
_SEED = 0


def halves(n: int, gates: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide samples by a seeded draw: the indices that fit temperatures, those that certify.

    Raises:
        BuildError: one half is too small to certify the widest step for so many gates.
    """
    needed = samples_needed(EPS_LADDER[-1] / gates, DELTA / len(EPS_LADDER) / gates)
    if n // 2 < needed:
        raise BuildError(
            f"cannot fit temperatures with {n} samples: one half fits them, the other certifies, "
            f"and {EPS_LADDER[-1]:.0%} alone takes {needed}; give at least {2 * needed} (2,000 are "
            "a good number)"
        )
    order = np.random.default_rng(_SEED).permutation(n)
    return np.sort(order[n // 2 :]), np.sort(order[: n // 2])


def logits(rows: NDArray[np.float32], kind: ScoreKind) -> NDArray[np.float64]:
    """Return logits, [n, classes], from real-valued scores [n, scores], as the runner does."""
    return np.stack([gate.logits(row, kind) for row in rows])


def fit(z: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    """Return the likeliest temperature, 0.001 to 1000.

    It minimises n * NLL(b) + (ln b)^2 / (2 * 0.3^2) with b = 1 / T, for n labels. The negative log
    likelihood is convex in b, its slope is mean(E[z] - z_y); the other term is the belief that ln T
    is normal about 0. It weighs little beside hundreds of labels, but without it a model that has
    nearly all of them right becomes sure beyond measure (T -> 0). The zero of the slope lies
    between 1 and where the labels alone put it, and is found by bisection.

    Args:
        z: logits, [n, classes].
        y: labels, [n].
    """
    target, n = z[np.arange(len(y)), y].mean(), len(y)
    low, high = np.log(1 / MOST_DEGREES), np.log(1 / LEAST_DEGREES)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        b = float(np.exp(middle))
        slope = n * b * ((softmax(z, 1 / b) * z).sum(axis=1).mean() - target)
        slope += middle / _BELIEF**2
        low, high = (middle, high) if slope < 0 else (low, middle)
    return float(np.exp(-low))


def softmax(z: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.float64]:
    """Return probabilities, [n, classes]."""
    scaled = (z - z.max(axis=1, keepdims=True)) / temperature
    grown = np.exp(scaled)
    shares: NDArray[np.float64] = grown / grown.sum(axis=1, keepdims=True)
    return shares


def likelihood_loss(z: NDArray[np.float64], y: NDArray[np.int64], temperature: float) -> float:
    """Return the mean negative log likelihood of labels, in nats."""
    scaled = (z - z.max(axis=1, keepdims=True)) / temperature
    per_sample = np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(y)), y]
    return float(per_sample.mean())


def reordered(before: NDArray[np.floating[Any]], after: NDArray[np.floating[Any]]) -> float:
    """Return the share of pairs of samples that two confidences, [n] each, order differently.

    Pairs that one of them calls equal do not count as different. At most 100,000 pairs are drawn.
    """
    n = len(before)
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, n, (2, min(n * n, _PAIRS)))
    return float(((before[a] - before[b]) * (after[a] - after[b]) < 0).mean())
