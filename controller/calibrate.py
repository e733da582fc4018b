"""The certificate of a gate: from labelled samples to a ladder of thresholds. Pure.

Learn then Test with an exact binomial bound (Angelopoulos et al. 2021, arXiv:2110.01052): an exit
at threshold t harms a sample if its confidence is at least t, its stage is wrong and the last stage
is right. The accuracy lost against the last stage alone is at most the probability of harm. The
grid of thresholds is fixed in advance and walked from the safest one down; the walk stops at the
first whose harms are too many to reject "harm > eps" at level delta, and the one before it is
certified. No correction for the number of thresholds is needed, because the walk stops.

Four steps of a ladder are certified at delta / 4 each, so that all hold at once. With k gates each
gets eps / k and a delta k times smaller: the losses of the gates add up. Harm counts against the
last stage for every gate, whatever the gates between them do, so no certificate rests on another
threshold that the same samples chose.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.errors import BuildError
from protocols.bundle import CONFIDENCE_BINS, CertifiedThreshold
from protocols.inference.gate import confidence_bin

EPS_LADDER = (0.005, 0.01, 0.02, 0.05)
"""Accuracy that a cascade may lose, as fractions, for its gates together."""

DELTA = 0.05
"""Probability that any step of the ladder promises too much."""

NEVER = 2.0
"""A threshold above every confidence: nothing leaves, so nothing is lost."""

GRID: NDArray[np.float64] = np.concatenate(
    [
        [1.0],
        1.0 - np.logspace(-7, -1, 61),
        np.arange(899, 100, -1) * 0.001,
        np.logspace(-1, -5, 81),
        [0.0],
    ]
)
"""Thresholds in the order in which they are tried. Dense next to 1, where softmax crowds, and next
to 0, where the margins of many classes do."""


@dataclass(frozen=True, slots=True)
class GateRecord:
    """What a gated stage did on the calibration samples, [n] each."""

    confidence: NDArray[np.floating[Any]]
    right: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was proved of one choice of variants."""

    eps: tuple[float, ...]
    """The steps of the ladder: the loss that all gates together are allowed, rising."""
    gates: dict[str, tuple[CertifiedThreshold, ...]]
    """By stage, one for each step; its own eps is the gate's share."""
    accuracy: tuple[float, ...]
    """Of the cascade on the samples, at each step of the ladder."""
    stage_accuracy: dict[str, float]
    """Of each stage that can answer, alone."""
    exits: NDArray[np.int64]
    """[steps, n]: which stage that can answer (from 0) answers a sample."""
    confidence: dict[str, tuple[float, ...]]
    """Of the first gate, the only one that sees every sample: the share in each bin of [0, 1]."""

    @property
    def saves(self) -> bool:
        """Whether any answer leaves early at any step of the ladder."""
        return any(step.escalated < 1 for ladder in self.gates.values() for step in ladder)


def binomial_tail(harms: int, n: int, eps: float) -> float:
    """Return P(Bin(n, eps) <= harms), exactly up to rounding (1e-9 relative for n <= 10^6).

    Args:
        harms: 0 to n.
        n: trials.
        eps: probability of each, 0 < eps < 1.
    """
    if harms >= n:
        return 1.0
    log_eps, log_rest, log_n = math.log(eps), math.log1p(-eps), math.lgamma(n + 1)
    return min(
        1.0,
        math.fsum(
            math.exp(
                log_n
                - math.lgamma(k + 1)
                - math.lgamma(n - k + 1)
                + k * log_eps
                + (n - k) * log_rest
            )
            for k in range(harms + 1)
        ),
    )


def samples_needed(eps: float, delta: float) -> int:
    """Return how many samples without a harm prove that harm is at most eps."""
    return math.ceil(math.log(delta) / math.log1p(-eps))


def most_harms(n: int, eps: float, delta: float) -> int:
    """Return how many harms among n samples still reject "harm > eps"; -1: not even none."""
    low, high = -1, n
    while high - low > 1:
        middle = (low + high) // 2
        if binomial_tail(middle, n, eps) <= delta:
            low = middle
        else:
            high = middle
    return low


def certify(
    confidence: NDArray[np.floating[Any]], harmful: NDArray[np.bool_], eps: float, delta: float
) -> tuple[float, int]:
    """Return the lowest threshold that the walk certifies, and its harms; (NEVER, 0): none.

    Args:
        confidence: [n], at most 1.
        harmful: [n], whether an exit here would harm the sample.
        eps: the harm that is allowed.
        delta: the probability of certifying a threshold that harms more.
    """
    allowed = most_harms(len(confidence), eps, delta)
    at_risk = np.sort(confidence[harmful].astype(np.float64))
    harms = len(at_risk) - np.searchsorted(at_risk, GRID, side="left")
    # Harms only grow on the way down, so the walk ends where they exceed what is allowed.
    passed = int(np.searchsorted(harms, allowed, side="right"))
    if passed == 0:
        return NEVER, 0
    return float(GRID[passed - 1]), int(harms[passed - 1])


def calibrate(
    gates: Mapping[str, GateRecord], last: str, last_right: NDArray[np.bool_]
) -> Calibration:
    """Certify the ladder of every gate of one choice of variants.

    Args:
        gates: by stage, in order; at least one.
        last: the name of the last stage.
        last_right: [n], whether the last stage is right.

    Returns:
        The steps that this number of samples can prove. A gate without a certified threshold at a
        step stands there with `NEVER`, so that a step is the same eps at every gate.

    Raises:
        BuildError: the samples are too few for every step.
    """
    n, count = len(last_right), len(gates)
    delta = DELTA / len(EPS_LADDER) / count
    steps = [eps for eps in EPS_LADDER if n >= samples_needed(eps / count, delta)]
    if not steps:
        raise BuildError(_too_few(n, count, delta))
    found = {
        stage: [
            certify(record.confidence, ~record.right & last_right, eps / count, delta)
            for eps in steps
        ]
        for stage, record in gates.items()
    }
    thresholds = np.array([[at for at, _ in found[stage]] for stage in gates])
    exits = where_left([record.confidence for record in gates.values()], thresholds)
    right = np.stack([*(record.right for record in gates.values()), last_right])
    return Calibration(
        eps=tuple(steps),
        gates={
            stage: tuple(
                CertifiedThreshold(
                    eps=eps / count,
                    delta=delta,
                    threshold=threshold,
                    n=n,
                    harms=harms,
                    escalated=float((exits[step] > order).mean()),
                )
                for step, (eps, (threshold, harms)) in enumerate(
                    zip(steps, found[stage], strict=True)
                )
            )
            for order, stage in enumerate(gates)
        },
        accuracy=tuple(float(right[row, np.arange(n)].mean()) for row in exits),
        stage_accuracy={
            stage: float(row.mean()) for stage, row in zip([*gates, last], right, strict=True)
        },
        exits=exits,
        confidence={stage: confidence_shares(gates[stage].confidence) for stage in list(gates)[:1]},
    )


def confidence_shares(values: NDArray[np.floating[Any]]) -> tuple[float, ...]:
    """Return the share of confidences, [n], in each of the equal bins of [0, 1]."""
    found = [at for value in values if (at := confidence_bin(float(value))) is not None]
    counts = np.bincount(np.array(found, np.int64), minlength=CONFIDENCE_BINS)
    return tuple(round(float(share), 6) for share in counts / max(1, len(found)))


def where_left(
    confidence: Sequence[NDArray[np.floating[Any]]], thresholds: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return which stage that can answer does, [steps, n].

    Args:
        confidence: of each gate, in order, [n].
        thresholds: [gates, steps].
    """
    leaves = np.stack(
        [
            np.asarray(row)[None, :] >= at[:, None]
            for row, at in zip(confidence, thresholds, strict=True)
        ]
    )
    at_last = np.ones((1, *leaves.shape[1:]), np.bool_)
    where: NDArray[np.int64] = np.concatenate([leaves, at_last]).argmax(axis=0)
    return where


def _too_few(n: int, gates: int, delta: float) -> str:
    needs = ", ".join(
        f"{samples_needed(eps / gates, delta)} for {eps:.1%}" for eps in reversed(EPS_LADDER)
    )
    which = "the gate" if gates == 1 else f"{gates} gates"
    return (
        f"cannot certify {which} with {n} samples: at delta {DELTA:.0%} it takes at least {needs}; "
        "give more (1,000 are a good number)"
    )
