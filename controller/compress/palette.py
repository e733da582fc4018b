"""Palettes: the few values that stand for many, chosen by one-dimensional k-means. Pure.

The centres minimise sum(mass * (value - nearest centre)^2). They start where a quantizer of many
levels has them, with a density that follows the cube root of the values' own (Panter and Dite,
"Quantization distortion in pulse-count modulation with nonuniform spacing of levels", 1951), and
Lloyd's iteration ("Least squares quantization in PCM", 1982) moves them from there. In one
dimension a cluster is an interval of the sorted values, so a step costs one search per centre and
the result is the same on every run.
"""

import numpy as np
from numpy.typing import NDArray

_BINS = 2048
_MAX_STEPS = 300

Reals = NDArray[np.float64]


def palette(values: Reals, size: int, mass: Reals | None = None) -> Reals:
    """Return at most `size` values that stand for all, rising.

    Where at least one value in `size` is zero, zero is one of them: what was pruned stays so.

    Args:
        values: any shape, finite.
        size: at least 1.
        mass: what a squared error of each value counts, in the values' shape; None: all the same.
    """
    levels, first = np.unique(values, return_inverse=True)
    if len(levels) <= size:
        return levels
    each = np.ones(values.shape) if mass is None else mass
    counts = np.bincount(first.ravel(), each.ravel(), len(levels)).astype(np.float64)
    keeps_zero = bool(size * np.count_nonzero(values == 0) >= values.size)
    # One of leading zeros, so that differences of the sums are what lies between two edges.
    masses = np.concatenate([[0.0], np.cumsum(counts)])
    moments = np.concatenate([[0.0], np.cumsum(counts * levels)])
    centres = _pinned(_start(levels, counts, size), keeps_zero=keeps_zero)
    for _ in range(_MAX_STEPS):
        edges = np.concatenate([[0], np.searchsorted(levels, _middles(centres)), [len(levels)]])
        held = np.diff(masses[edges])
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.diff(moments[edges]) / held
        moved = _pinned(np.unique(means[held > 0]), keeps_zero=keeps_zero)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def nearest(values: Reals, centres: Reals) -> Reals:
    """Return the centre nearest to each value, in the values' shape; `centres` are rising."""
    return centres[np.searchsorted(_middles(centres), values)]


def _middles(centres: Reals) -> Reals:
    """Return what lies between two centres; rounded, it must still be below the upper one."""
    upper = centres[1:]
    return np.minimum((upper + centres[:-1]) / 2, np.nextafter(upper, -np.inf))


def _start(levels: Reals, counts: Reals, size: int) -> Reals:
    bins = min(_BINS, len(levels))
    if not np.all(np.diff(np.linspace(levels[0], levels[-1], bins + 1)) > 0):
        # So close together that there are not enough numbers between them.
        ranks = np.linspace(0, len(levels) - 1, size).round().astype(np.intp)
        return np.take(levels, ranks)
    histogram, edges = np.histogram(levels, bins, weights=counts)
    rising = np.concatenate([[0.0], np.cumsum(np.cbrt(histogram))])
    wanted = (np.arange(size) + 0.5) / size * rising[-1]
    return np.unique(np.interp(wanted, rising, edges))


def _pinned(centres: Reals, *, keeps_zero: bool) -> Reals:
    if not keeps_zero:
        return centres
    moved = centres.copy()
    moved[np.abs(centres).argmin()] = 0.0
    return np.unique(moved)
