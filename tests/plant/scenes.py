"""What happens to a device: others who use it, and requests. Seeded, a second at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.plant.pictures import WORKS, Habit, Picture

DAY_S = 86_400
HOUR_S = 3600

_BUSY_PER_S = (1.2, 2.0)
"""Requests a second to each cascade, at its busiest hour."""
_BUSY_AT_H = (14.0, 20.0)
_QUIET = 0.04
"""Of the busiest hour, what comes at any time."""
_FASTEST_GROWTH = 0.03
"""Of the memory, a second: how fast others take it at most."""
_OTHERS_LEAVE = 0.05
"""Others never take so much that less than this share would be left beside an empty runner."""
_EMPTY_MIB = 85.0


@dataclass(frozen=True, slots=True)
class Scene:
    """A course of seconds.

    Attributes:
        cores: how many cores others would keep busy.
        mib: what others have in memory.
        requests: for every second and cascade the requests' hardness, uniform in [0, 1): one
            goes on where it is below the share that the gate lets through.
    """

    cores: Sequence[float]
    mib: Sequence[float]
    requests: Sequence[tuple[Sequence[float], ...]]


def day(picture: Picture, seed: int) -> Scene:
    """Return 24 hours from midnight, as a picture's habits have it."""
    rng = np.random.default_rng(seed)
    cores = 0.03 + 0.02 * rng.random(DAY_S)
    memory = np.full(DAY_S, 0.03)
    for habit in picture.habits:
        for _ in range(rng.poisson(habit.per_day)):
            _add(habit, cores, memory, rng)
    rates = [_rate(busy, at) for busy, at in zip(_BUSY_PER_S, _BUSY_AT_H, strict=True)]
    return _scene(picture, cores, memory, rates, rng)


def rough(picture: Picture, seed: int, seconds: int) -> Scene:
    """Return a course that changes often and by much: a square wave on another, with noise."""
    rng = np.random.default_rng(seed)
    at = np.arange(seconds)

    def wave(most: float) -> NDArray[np.float64]:
        period, duty = rng.uniform(20, 900), rng.uniform(0.05, 0.95)
        is_high = (at + rng.uniform(0, period)) % period < duty * period
        return np.where(is_high, most, 0.0)

    cores = wave(rng.uniform(0, 1)) + wave(rng.uniform(0, 0.5)) + 0.05 * rng.random(seconds)
    memory = wave(rng.uniform(0, 0.7)) + wave(rng.uniform(0, 0.5))
    rates = [np.full(seconds, rng.uniform(0, 6)) for _ in WORKS]
    return _scene(picture, cores, memory, rates, rng)


def _add(
    habit: Habit,
    cores: NDArray[np.float64],
    memory: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    start = int(rng.uniform(*habit.hours) * HOUR_S)
    end = min(DAY_S, start + int(60 * rng.uniform(*habit.minutes)))
    busy, noise = rng.uniform(*habit.cores), rng.normal(0, 0.04, end - start)
    cores[start:end] += np.clip(busy + noise, 0, None)
    memory[start:end] += rng.uniform(*habit.memory)


def _rate(busy_per_s: float, at_h: float) -> NDArray[np.float64]:
    hours = np.arange(DAY_S) / HOUR_S
    return busy_per_s * (_QUIET + np.exp(-(((hours - at_h) / 3.0) ** 2)))


def _scene(
    picture: Picture,
    cores: NDArray[np.float64],
    memory: NDArray[np.float64],
    rates: Sequence[NDArray[np.float64]],
    rng: np.random.Generator,
) -> Scene:
    total = picture.memory_mib
    most = total * (1 - _OTHERS_LEAVE) - picture.system_mib - _EMPTY_MIB
    mib = _grown(np.minimum(total * memory, most), total * _FASTEST_GROWTH)
    counts = [rng.poisson(rate) for rate in rates]
    hardness = [rng.random(int(count.sum())).tolist() for count in counts]
    ends = [np.cumsum(count).tolist() for count in counts]
    requests = [
        tuple(
            hard[end[second - 1] if second else 0 : end[second]]
            for hard, end in zip(hardness, ends, strict=True)
        )
        for second in range(len(cores))
    ]
    busy = np.clip(cores, 0, 1.2) * len(picture.cpus)
    return Scene(busy.tolist(), mib, requests)


def _grown(wanted: NDArray[np.float64], most_a_second: float) -> list[float]:
    """Memory is taken at a limited speed, and given back at once."""
    now, course = 0.0, []
    for goal in wanted.tolist():
        now = min(goal, now + most_a_second)
        course.append(now)
    return course
