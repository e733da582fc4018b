"""Providers that users add by an entry point: a UPS, a power meter, a modem."""

import importlib.metadata
import time
from collections.abc import Mapping

from agent.errors import SensorError
from agent.sensors.background import Background, Pace, Report
from agent.sensors.provider import ENTRY_POINTS, AddedProvider
from agent.sensors.reading import COLDEST_C, HOTTEST_C, Reading, as_real, within

_PACE = Pace(every_s=5.0, limit_s=5.0)
_LOOK_EVERY_S = 0.02
_RANGES = {
    "battery_percent": (0.0, 100.0),
    "battery_temperature_c": (COLDEST_C, HOTTEST_C),
    "power_w": (0.0, 1e5),
}
_FLAGS = frozenset({"battery_plugged", "low_voltage", "metered"})


class Added:
    """One provider, by the name that agent.toml switches it on with.

    Args:
        name: of its entry point.
        pace: how often it is read, and how long that may take.
    """

    def __init__(self, name: str, pace: Pace = _PACE) -> None:
        self._name = name
        self._provider: AddedProvider | None = None
        self._background = Background(f"provider {name}", self.take, pace)

    def discover(self) -> None:
        """Look for nothing: it is loaded when it is read first."""

    def read(self, now_s: float) -> Reading:
        """Return what it said last, for a quarter of a minute at most."""
        return self._background.latest(now_s)

    def complaints(self) -> tuple[str, ...]:
        """Tell whether it has been lost."""
        return self._background.complaints()

    def close(self) -> None:
        """End nothing: its thread ends with the process."""

    @property
    def asks(self) -> bool:
        """Whether it has been asked and has not answered."""
        return self._background.asks

    def take(self) -> Report:
        """Load it if it is not, and read it once: this may raise anything, or never return."""
        if self._provider is None:
            self._provider = _make(self._name)
        return understand(self._provider.read())


def try_out(name: str, within_s: float) -> Reading | str:
    """Read a provider once, for a person; return the reading, or what is wrong."""
    pace = Pace(every_s=60 * within_s, limit_s=within_s)
    added, begun_s = Added(name, pace), time.monotonic()
    reading, complaints = added.read(begun_s), added.complaints()
    while added.asks and not complaints:
        time.sleep(_LOOK_EVERY_S)
        reading, complaints = added.read(time.monotonic()), added.complaints()
    return complaints[0].removeprefix(f"cannot read provider {name}: ") if complaints else reading


def understand(said: object) -> Report:
    """Take what is believable of what a provider returns, and say what is not.

    Raises:
        SensorError: it is no mapping.
    """
    if not isinstance(said, Mapping):
        raise SensorError(f"read() returns {type(said).__name__}, not a mapping")
    known: dict[str, float | bool] = {}
    faults = []
    for key, value in said.items():
        if value is None:
            continue
        understood = _value(key, value)
        if understood is None:
            faults.append(f"{key!s:.40} is {value!r:.40}")
        else:
            known[str(key)] = understood
    return Report(_reading(known), "; ".join(sorted(faults)))


def _value(key: object, value: object) -> float | bool | None:
    if key in _FLAGS:
        return value if isinstance(value, bool) else None
    low, high = _RANGES.get(str(key), (1.0, 0.0))
    return within(as_real(value), low, high)


def _reading(known: Mapping[str, float | bool]) -> Reading:
    number = {key: float(known[key]) for key in _RANGES if key in known}
    flag = {key: bool(known[key]) for key in _FLAGS if key in known}
    return Reading(
        battery_percent=number.get("battery_percent"),
        battery_plugged=flag.get("battery_plugged"),
        battery_temperature_c=number.get("battery_temperature_c"),
        low_voltage=flag.get("low_voltage"),
        power_w=number.get("power_w"),
        power_method="meter" if "power_w" in number else None,
        metered=flag.get("metered"),
    )


def _make(name: str) -> AddedProvider:
    points = importlib.metadata.entry_points(group=ENTRY_POINTS)
    point = next((point for point in points if point.name == name), None)
    if point is None:
        there = ", ".join(sorted(points.names)) or "none"
        raise SensorError(f"no installed package has it under {ENTRY_POINTS}; there is: {there}")
    provider: AddedProvider = point.load()()
    return provider
