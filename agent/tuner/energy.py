"""What the answers of a trial have taken, by the power of the whole device. Pure.

The device is watched while it idles and while the trial runs:

    joules of an answer = (power during - power idle) x time / answers

That is a figure only where the two stand clear of each other: readings that spread by more than a
quarter of the difference are noise, or a gauge that moves too slowly, and nothing is made of them.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from protocols.profile import Energy, EnergyMethod, LayoutRun

_FEWEST = 5
_SPREAD = 0.25


@dataclass(frozen=True, slots=True)
class Span:
    """How long power is watched: `settle_s` until the readings follow, then `watch_s`."""

    settle_s: float
    watch_s: float

    @property
    def seconds(self) -> float:
        """Both together."""
        return self.settle_s + self.watch_s


_QUICK, _SLOW = Span(0.5, 2.5), Span(10.0, 10.0)
SPANS: dict[EnergyMethod, Span] = {"rail": _QUICK, "meter": _SLOW, "battery": _SLOW}
"""A board's converters measure hundreds of times a second. A battery's gauge, and a meter that may
be any, is given ten seconds to follow."""


def extra_w(idle_w: Sequence[float], busy_w: Sequence[float]) -> float | None:
    """Return what the device took beyond idling, in watts; None: it does not stand out.

    Args:
        idle_w: readings while nothing was measured.
        busy_w: readings while the trial ran.
    """
    if min(len(idle_w), len(busy_w)) < _FEWEST:
        return None
    more_w = statistics.fmean(busy_w) - statistics.fmean(idle_w)
    spread_w = max(statistics.stdev(idle_w), statistics.stdev(busy_w))
    return more_w if more_w > 0 and spread_w <= _SPREAD * more_w else None


def by_one_method(runs: Sequence[LayoutRun], watts_per_cpu: float | None) -> tuple[LayoutRun, ...]:
    """Return a model's runs so that they can be compared: their energy by one method, or none.

    Args:
        runs: as they were measured; energy where power stood out.
        watts_per_cpu: what one busy CPU takes, as the owner says: the estimate for all of them,
            where not all were measured.
    """
    methods = {None if run.energy is None else run.energy.method for run in runs}
    if len(methods) == 1 and None not in methods:
        return tuple(runs)
    return tuple(run.with_(energy=_estimated(run, watts_per_cpu)) for run in runs)


def _estimated(run: LayoutRun, watts_per_cpu: float | None) -> Energy | None:
    if watts_per_cpu is None:
        return None
    return Energy(joules=float(f"{run.cpu_ms / 1e3 * watts_per_cpu:.4g}"), method="model")
