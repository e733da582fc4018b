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

from protocols.bundle import ScoreKind

_LEAST, _MOST = 1e-3, 1e3
_BISECTIONS = 60
_SMALLEST = 1e-7
_PAIRS = 100_000


def logits(rows: NDArray[np.float32], kind: ScoreKind) -> NDArray[np.float64]:
    """Return logits, [n, classes], from real-valued scores [n, scores].

    Probabilities become their logarithms (at least 1e-7: quantized ones may be 0); a single score
    is a binary classifier's, and becomes two.
    """
    z = rows.astype(np.float64)
    if kind == "probabilities":
        p = np.clip(z, _SMALLEST, 1 - _SMALLEST) if z.shape[1] == 1 else np.maximum(z, _SMALLEST)
        z = np.log(p) - np.log1p(-p) if z.shape[1] == 1 else np.log(p)
    return np.concatenate([np.zeros_like(z), z], axis=1) if z.shape[1] == 1 else z


def fit(z: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    """Return the temperature with the smallest negative log likelihood, 0.001 to 1000.

    The likelihood is convex in b = 1 / T: its slope, mean(E[z] - z_y), rises with b, so the zero of
    it is found by bisection.

    Args:
        z: logits, [n, classes].
        y: labels, [n].
    """
    target = z[np.arange(len(y)), y].mean()
    low, high = np.log(1 / _MOST), np.log(1 / _LEAST)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        slope = (softmax(z, float(np.exp(-middle))) * z).sum(axis=1).mean() - target
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
