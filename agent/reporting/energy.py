"""Joules of every stage: its CPU seconds times what a busy CPU takes. Pure.

A stage's joules are its share of what the device takes beyond idling (`agent.reporting.watts`), or
by the method `model` its CPU seconds times the watts that the device's owner has named. Each method
has a tally of its own and is never added to another; what is shown is that of the method which
counted last, with its name. Beside the joules stands how many runs and answers they are of: of a
time in which nothing could be known neither are counted, so that one divided by the other is right.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent.reporting.watts import BusyPower, Rate
from protocols.device import CascadeStats, Sample, StageStats

if TYPE_CHECKING:
    from protocols.profile import EnergyMethod

_DIGITS = 6


@dataclass(frozen=True, slots=True)
class _Tally:
    """What one method has counted of one cascade."""

    answers: int = 0
    stages: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """Joules and runs."""


class EnergyBook:
    """Counts for one runner: what another one has done is another one's.

    Args:
        power: what is known of the device's own readings.
        watts_per_cpu: what one busy CPU takes, as the owner says; None: they do not say.
    """

    def __init__(self, power: BusyPower, watts_per_cpu: float | None) -> None:
        self._power = power
        self._model = None if watts_per_cpu is None else Rate(watts_per_cpu, "model", -math.inf)
        self.begin()

    def look(self, sample: Sample) -> None:
        """Learn from a sample."""
        self._power.look(sample)

    def begin(self) -> None:
        """Forget all: another runner serves, and its counters begin at zero."""
        self._before: Mapping[str, CascadeStats] = {}
        self._before_s = math.inf
        self._method: EnergyMethod | None = None
        self._tallies: dict[tuple[EnergyMethod, str], _Tally] = {}

    def count(self, cascades: Sequence[CascadeStats], now_s: float) -> tuple[CascadeStats, ...]:
        """Count what was done since the call before; return the statistics with their energy.

        What the device reads counts if it did so all the time since that call, else the model.

        Args:
            cascades: what the runner has done since it started.
            now_s: monotonic clock.
        """
        rate = self._power.rate
        if rate is None or rate.since_s > self._before_s:
            rate = self._model
        if rate is not None and self._before_s < now_s:
            self._method = rate.method
            for after in cascades:
                if (before := self._before.get(after.name)) is not None:
                    key = rate.method, after.name
                    self._tallies[key] = _added(
                        self._tallies.get(key, _Tally()), before, after, rate.watts_per_cpu
                    )
        self._before, self._before_s = {one.name: one for one in cascades}, now_s
        return tuple(self._shown(one) for one in cascades)

    def _shown(self, cascade: CascadeStats) -> CascadeStats:
        method = self._method
        tally = None if method is None else self._tallies.get((method, cascade.name))
        if tally is None:
            return cascade
        return cascade.with_(
            energy_method=method,
            energy_answers=tally.answers,
            stages=tuple(_stage_shown(stage, tally) for stage in cascade.stages),
        )


def _stage_shown(stage: StageStats, tally: _Tally) -> StageStats:
    if stage.name not in tally.stages:
        return stage
    joules, runs = tally.stages[stage.name]
    return stage.with_(joules=round(joules, _DIGITS), energy_runs=runs)


def _added(tally: _Tally, before: CascadeStats, after: CascadeStats, watts: float) -> _Tally:
    earlier = {stage.name: stage for stage in before.stages}
    stages = dict(tally.stages)
    for stage in after.stages:
        if (was := earlier.get(stage.name)) is None:
            continue
        joules, runs = stages.get(stage.name, (0.0, 0))
        joules += watts * max(0.0, stage.cpu_s - was.cpu_s)
        stages[stage.name] = joules, runs + max(0, stage.runs - was.runs)
    return replace(
        tally, answers=tally.answers + max(0, after.answers - before.answers), stages=stages
    )
