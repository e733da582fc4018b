"""What one provider knows of the machine, and how several make one sample. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Real

from protocols.device import Sample
from protocols.profile import EnergyMethod

COLDEST_C, HOTTEST_C = -39.9, 149.9
"""A sensor that is broken or switched off says -40, -127, -274, 0x7fff or worse."""

_LEAST_W, _MOST_W = 0.05, 1000.0
"""No machine that runs this takes less. Batteries that tell milliamperes where microamperes are
asked for come out a thousand times too low: below the least, so nothing is made up of them."""

_BY_TRUST: tuple[EnergyMethod, ...] = ("meter", "rail", "battery")
_BATTERY = ("battery_percent", "battery_plugged", "battery_temperature_c")
_POWER = ("power_w", "power_method")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The fields of `Sample` that one provider knows. None: it does not know."""

    cpu_percent: float | None = None
    own_cpu_percent: float | None = None
    foreign_cpu_percent: float | None = None
    memory_total_mib: float | None = None
    memory_available_mib: float | None = None
    memory_available_percent: float | None = None
    psi_cpu_some_avg10: float | None = None
    psi_memory_some_avg10: float | None = None
    psi_memory_full_avg10: float | None = None
    temperature_c: float | None = None
    throttled: int | None = None
    battery_percent: float | None = None
    battery_plugged: bool | None = None
    battery_temperature_c: float | None = None
    low_voltage: bool | None = None
    power_w: float | None = None
    power_method: EnergyMethod | None = None
    metered: bool | None = None


NOTHING = Reading()
_ONE_BY_ONE = tuple(
    field.name for field in fields(Reading) if field.name not in {*_BATTERY, *_POWER, "low_voltage"}
)


def sample_of(readings: Sequence[Reading], time_s: float) -> Sample:
    """Put readings together; where several know a field, the one that comes first counts.

    The three fields of the battery come from one reading, so that the charge of one battery is
    never told with the plug of another; of several powers the best method counts (meter, rail,
    battery); the voltage is low where any says so.
    """
    known: dict[str, object] = {}
    for reading in reversed(readings):
        known |= {
            name: value for name in _ONE_BY_ONE if (value := getattr(reading, name)) is not None
        }
    return Sample(
        time_s=time_s,
        low_voltage=_any(readings),
        **_battery(readings),
        **_power(readings),
        **{name: _short(value) for name, value in known.items()},
    )


def believable_w(watts: float | None) -> float | None:
    """Return a power that a machine may take; anything else is None."""
    return within(watts, _LEAST_W, _MOST_W)


def within(value: float | None, low: float, high: float) -> float | None:
    """Return a value that is believable, in [low, high]; anything else (NaN too) is None."""
    return value if value is not None and low <= value <= high else None


def as_real(value: object) -> float | None:
    """Return a finite number that is no truth value, or None."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError, TypeError):
        return None
    return number if math.isfinite(number) else None


def _any(readings: Sequence[Reading]) -> bool | None:
    said = [reading.low_voltage for reading in readings if reading.low_voltage is not None]
    return any(said) if said else None


def _battery(readings: Sequence[Reading]) -> dict[str, object]:
    """Take the battery of who knows its charge, else its plug, else its heat."""
    for name in _BATTERY:
        for reading in readings:
            if getattr(reading, name) is not None:
                return {field: _short(getattr(reading, field)) for field in _BATTERY}
    return {}


def _power(readings: Sequence[Reading]) -> dict[str, object]:
    for method in _BY_TRUST:
        for reading in readings:
            if reading.power_method == method and reading.power_w is not None:
                return {"power_w": _short(reading.power_w), "power_method": method}
    return {}


def _short(value: object) -> object:
    """Two digits are more than any of these sensors has, and telemetry stays small."""
    return round(value, 2) if isinstance(value, float) else value
