"""The inner loop's edge: read the sensors, ask the governor, read once more before an unload."""

import time
from collections.abc import Callable
from typing import Protocol

from agent import governor
from protocols.device import Rungs, Sample
from protocols.schedule import Schedule

_CLOCK_SET_AFTER_S = 1.7e9
"""A wall clock before this (November 2023) has not been set since the machine started."""

Fits = Callable[[Sample, int], bool]


class Sensing(Protocol):
    """What `agent.sensors.Sensors` is."""

    def sample(self, now_s: float) -> Sample:
        """Read all sensors."""


class InnerLoop:
    """Holds the governor's state. `clock` is monotonic."""

    def __init__(
        self, sensors: Sensing, schedule: Schedule, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sensors, self._clock = sensors, clock
        self._state = governor.start(clock(), schedule, local_minute())
        self.sample = sensors.sample(clock())

    @property
    def rungs(self) -> Rungs:
        """Where the device stands."""
        return governor.rungs(self._state)

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
            self._state, sample, schedule, lambda rung: fits(sample, rung), local_minute()
        )


def local_minute() -> int | None:
    """Return minutes since midnight, local time; None while the wall clock is not set."""
    now_s = time.time()
    if now_s < _CLOCK_SET_AFTER_S:
        return None
    local = time.localtime(now_s)
    return 60 * local.tm_hour + local.tm_min
