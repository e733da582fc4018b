"""Traces that are made, not recorded: to try lines and dwell times without a device. Pure.

All of them are of a machine of 4 GiB that can read every signal but PSI's and a battery's. They
have no noise: the same one is the same everywhere.
"""

import math
from collections.abc import Callable, Iterator
from typing import Literal

from controller.simulate.trace import TraceLine

Kind = Literal["square", "ramp", "day"]

TOTAL_MIB = 4096.0
DEVICE = "made"
_PERIOD_S = 600.0
_OWN_PERCENT = 4.0
_AMBIENT_C, _KELVIN = 38.0, 42.0
"""Temperature with nothing to do, and by how much a full CPU raises it in the end."""
_WARM_UP_S = 180.0
_DAY_S = 86_400.0
_BUSY_H: tuple[tuple[float, float, float, float], ...] = (
    (2.0, 0.7, 35.0, 12.0),
    (8.5, 1.0, 36.0, 20.0),
    (11.0, 0.6, 92.0, 30.0),
    (14.5, 2.2, 62.0, 38.0),
    (19.0, 0.3, 98.0, 66.0),
    (20.5, 1.2, 75.0, 50.0),
)
"""Of the day: from which hour, for how many hours, others' CPU in %, their memory in %."""

Load = tuple[float, float]
"""Others' CPU and memory, both in % of the machine."""


def _square(at_s: float, _for_s: float) -> Load:
    """Return calm and pressure by turns, of the same length."""
    return (90.0, 78.0) if at_s % _PERIOD_S >= _PERIOD_S / 2 else (10.0, 40.0)


def _ramp(at_s: float, for_s: float) -> Load:
    """Return what rises evenly until the middle, and falls from there on."""
    share = 1 - abs(2 * at_s / for_s - 1) if for_s else 0.0
    return 5.0 + 93.0 * share, 35.0 + 61.0 * share


def _day(at_s: float, _for_s: float) -> Load:
    """Return a day that has hours of its own for work, and two that are too much."""
    hour = at_s % _DAY_S / 3600
    ripple = math.sin(hour * 40) + math.sin(hour * 23)
    cpu, memory = 6.0, 38.0
    for begin, hours, busy, mib in _BUSY_H:
        if begin <= hour < begin + hours:
            cpu, memory = busy + 2 * ripple, memory + mib * 0.9
    return min(100.0, max(0.0, cpu)), min(97.0, memory)


_LOADS: dict[Kind, Callable[[float, float], Load]] = {
    "square": _square,
    "ramp": _ramp,
    "day": _day,
}
LENGTH_S: dict[Kind, float] = {"square": 3600.0, "ramp": 1800.0, "day": _DAY_S}
"""How long each is, unless somebody says."""
EVERY_S: dict[Kind, float] = {"square": 1.0, "ramp": 1.0, "day": 5.0}
"""Between two samples, unless somebody says: as devices take them, or as telemetry brings them."""


def make(kind: Kind, for_s: float, every_s: float) -> Iterator[TraceLine]:
    """Yield the lines of a trace.

    Args:
        kind: `square`: five minutes of calm and five of pressure, by turns. `ramp`: pressure that
            rises until the middle and falls again. `day`: from midnight, with busy hours.
        for_s: how long it is, at least 0.
        every_s: between two samples, above 0.
    """
    warm_c = _AMBIENT_C
    for number in range(int(for_s / every_s) + 1):
        at_s = number * every_s
        cpu, memory = _LOADS[kind](at_s, for_s)
        busy = min(100.0, cpu + _OWN_PERCENT)
        goal_c = _AMBIENT_C + _KELVIN * busy / 100
        warm_c += (goal_c - warm_c) * -math.expm1(-every_s / _WARM_UP_S)
        available = 100.0 - memory
        yield TraceLine(
            time_s=at_s,
            cpu_percent=round(busy, 2),
            own_cpu_percent=_OWN_PERCENT,
            foreign_cpu_percent=round(cpu, 2),
            memory_total_mib=TOTAL_MIB,
            memory_available_mib=round(TOTAL_MIB * available / 100, 2),
            memory_available_percent=round(available, 3),
            temperature_c=round(warm_c, 2),
            throttled=0,
            local_minute=int(at_s / 60) % 1440,
            device=DEVICE,
        )
