"""The inner loop's edge: read the sensors, ask the governor, read once more before an unload."""

import time
from collections.abc import Callable
from typing import Protocol

from protocols import governor
from protocols.device import Rungs, Sample
from protocols.schedule import Schedule

_CLOCK_SET_AFTER_S = 1.7e9
"""A wall clock before this (November 2023) has not been set since the machine started."""

_STALE_INTERVALS = 2
"""So late may a sample come whatever a schedule says: sensors are read in time or a bit later."""

Fits = Callable[[Sample, int], bool]


class Sensing(Protocol):
    """What `agent.sensors.Sensors` is."""

    def sample(self, now_s: float) -> Sample:
        """Read all sensors."""


class InnerLoop:
    """Holds the governor's state.

    Args:
        sensors: what is read.
        schedule: the one that is in force at the start.
        interval_s: how often `sense` will be called.
        clock: monotonic.
    """

    def __init__(
        self,
        sensors: Sensing,
        schedule: Schedule,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sensors, self._interval_s, self._clock = sensors, interval_s, clock
        self._given: Schedule | None = None
        self._schedule = schedule
        self._state = governor.start(clock(), schedule, local_minute())
        self.sample = sensors.sample(clock())

    @property
    def rungs(self) -> Rungs:
        """Where the device stands."""
        return governor.rungs(self._state)

    @property
    def due_s(self) -> float:
        """When a sample would find a hold over, by the clock; infinity: none waits."""
        due_s = governor.due_s(self._state, self._schedule)
        return float("inf") if due_s is None else due_s

    def sense(self, schedule: Schedule, fits: Fits) -> tuple[governor.Change, ...]:
        """Take a sample and let it move the rungs; what would unload is measured twice.

        Args:
            schedule: the one that is in force.
            fits: whether, by this sample, what a residency rung keeps loaded goes into memory.
        """
        step = self._step(schedule, fits)
        if step.state.residency.rung > self._state.residency.rung:
            step = self._step(schedule, fits)
        self._state = step.state
        return step.changes

    def _step(self, schedule: Schedule, fits: Fits) -> governor.Step:
        sample = self.sample = self._sensors.sample(self._clock())
        return governor.step(
            self._state,
            sample,
            self._patient(schedule),
            lambda rung: fits(sample, rung),
            local_minute(),
        )

    def _patient(self, schedule: Schedule) -> Schedule:
        """Return a schedule to which our samples are not all stale: else it would never act."""
        if schedule is not self._given:
            self._given = schedule
            dwell = schedule.dwell
            stale_s = max(dwell.stale_s, _STALE_INTERVALS * self._interval_s)
            self._schedule = schedule.with_(dwell=dwell.with_(stale_s=stale_s))
        return self._schedule


def local_minute() -> int | None:
    """Return minutes since midnight, local time; None while the wall clock is not set."""
    now_s = time.time()
    if now_s < _CLOCK_SET_AFTER_S:
        return None
    local = time.localtime(now_s)
    return 60 * local.tm_hour + local.tm_min
