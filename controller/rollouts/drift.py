"""Whether confidences have drifted from those that the gates were certified on. Pure.

All devices that run the bundle are judged together: a single one seldom answers enough. The rule
is that of a population stability index against the chi-squared quantile that sampling alone would
reach, in two consecutive windows. Those that do not have the bundle yet are the control: where they
have drifted, too, it is the world that has, and not for the bundle's sake.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controller.rollouts.gates import found
from protocols.bundle import CONFIDENCE_BINS, Certificate
from protocols.device import CascadeStats
from protocols.rollout import ConfidenceWindow, Finding

WINDOW_ANSWERS = 500
WINDOW_SHARE = 0.1
"""Of all answers so far, the least of a window: each one is written down, and a busy fleet would
fill one with every second."""
LEAST_PSI = 0.1
CHI2_99 = 36.191
"""The 99 % quantile of chi-squared with `CONFIDENCE_BINS` - 1 = 19 degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The confidences of one gated stage, over all devices.

    Attributes:
        counts: per bin, since the runners started.
        shares: per bin, as the certificates of these devices let expect.
        n: samples of the calibration.
    """

    counts: tuple[int, ...]
    shares: tuple[float, ...]
    n: int


@dataclass(frozen=True, slots=True)
class Drift:
    """Where the windows stand, and what they have shown.

    Attributes:
        windows: by gated stage.
        finding: two windows on end have drifted; None: they have not.
    """

    windows: Mapping[str, ConfidenceWindow]
    finding: Finding | None = None


def psi(seen: Sequence[float], expected: Sequence[float], m: int, n: int) -> float:
    """Return the population stability index of two sets of shares over the same bins.

    Args:
        seen: shares of `m` answers.
        expected: shares of `n` samples.
        m: how many answers; an empty bin counts as half of one.
        n: how many samples; likewise.
    """
    total = 0.0
    for a, b in zip(seen, expected, strict=True):
        if a or b:
            left, right = a or 0.5 / m, b or 0.5 / n
            total += (left - right) * math.log(left / right)
    return total


def allowed_psi(m: int, n: int) -> float:
    """Return what sampling alone hardly ever exceeds: a fixed line misfires at few answers."""
    return max(LEAST_PSI, CHI2_99 * (1 / n + 1 / m))


def collect(devices: Iterable[tuple[CascadeStats, Certificate]]) -> dict[str, Seen]:
    """Return the confidences of every gated stage whose calibration is known, summed."""
    gathered: dict[str, list[tuple[tuple[int, ...], tuple[float, ...], int]]] = {}
    for stats, certificate in devices:
        for stage in stats.stages:
            shares = certificate.confidence.get(stage.name, ())
            counts, ladder = stage.confidence, certificate.gates.get(stage.name)
            if counts is None or ladder is None:
                continue
            if len(counts) == len(shares) == CONFIDENCE_BINS:
                gathered.setdefault(stage.name, []).append((counts, shares, ladder[0].n))
    return {stage: _sum(rows) for stage, rows in gathered.items()}


def drift(
    before: Mapping[str, ConfidenceWindow],
    seen: Mapping[str, Seen],
    control: Mapping[str, Seen] | None = None,
) -> Drift:
    """Return the windows after what has been seen by now.

    Args:
        before: the windows as they stood.
        seen: of every gated stage, now; one that is not among them stays as it was.
        control: the same of the devices that do not have the bundle; once there are none left,
            what they said last holds.
    """
    windows = dict(before)
    for name, now in seen.items():
        window = before.get(name) or ConfidenceWindow(start=(0,) * CONFIDENCE_BINS)
        excused = _has_drifted((control or {}).get(name))
        if excused is not None and excused is not window.excused:
            windows[name] = window = window.with_(excused=excused)
        counts = [a - b for a, b in zip(now.counts, window.start, strict=True)]
        m = sum(counts)
        if min(counts) < 0:  # a runner has started anew
            windows[name] = window.with_(start=now.counts)
            continue
        if m < max(WINDOW_ANSWERS, WINDOW_SHARE * sum(now.counts)):
            continue
        value, line = psi([c / m for c in counts], now.shares, m, now.n), allowed_psi(m, now.n)
        shifted = value > line and not window.excused
        if shifted and window.shifted:
            message = (
                f"confidences of {name} have drifted from the calibration's: PSI {value:.2g} over "
                f"{m} answers, {line:.2g} may be, in two windows on end"
            )
            return Drift(windows, found("confidence", None, message))
        windows[name] = window.with_(start=now.counts, shifted=shifted)
    return Drift(windows)


def _has_drifted(seen: Seen | None) -> bool | None:
    """Whether confidences have drifted, over all that was counted; None: too few to say."""
    m = sum(seen.counts) if seen is not None else 0
    if seen is None or m < WINDOW_ANSWERS:
        return None
    return psi([c / m for c in seen.counts], seen.shares, m, seen.n) > allowed_psi(m, seen.n)


def _sum(rows: Sequence[tuple[tuple[int, ...], tuple[float, ...], int]]) -> Seen:
    """Add counts up; what is expected of all is what each device's certificate says, weighted."""
    counts = tuple(map(sum, zip(*(row[0] for row in rows), strict=True)))
    total = sum(counts) or 1
    shares = tuple(
        sum(sum(row[0]) * row[1][bin_] for row in rows) / total for bin_ in range(CONFIDENCE_BINS)
    )
    return Seen(counts, shares, min(row[2] for row in rows))
