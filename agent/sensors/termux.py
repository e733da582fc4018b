"""A phone with Termux: its battery, which Android tells to `termux-battery-status` alone."""

import json
from collections.abc import Mapping
from pathlib import Path

from agent.errors import SensorError
from agent.sensors.background import Background, Pace, Report
from agent.sensors.command import Command, find_program
from agent.sensors.reading import (
    COLDEST_C,
    HOTTEST_C,
    NOTHING,
    Reading,
    as_real,
    believable_w,
    within,
)
from agent.sensors.tree import Tree

_PREFIX = "data/data/com.termux/files/usr"
_PROGRAM = "termux-battery-status"
_PACE = Pace(every_s=60.0, limit_s=10.0)
"""It starts an app's service, which takes a good part of a second, and may never answer."""


def is_termux(tree: Tree, environ: Mapping[str, str]) -> bool:
    """Whether this is Termux, or a distribution in a proot below it."""
    prefix = environ.get("PREFIX", "")
    return (
        "TERMUX_VERSION" in environ
        or Path(prefix).as_posix().endswith("com.termux/files/usr")
        or tree.has(_PREFIX)
    )


class Termux:
    """Asks for the battery once a minute, where the package `termux-api` is installed."""

    def __init__(self, tree: Tree, environ: Mapping[str, str], pace: Pace = _PACE) -> None:
        program = find_program(_PROGRAM, environ) if is_termux(tree, environ) else None
        self._command = Command(program, limit_s=pace.limit_s) if program else None
        self._battery = Background(_PROGRAM, self.take, pace) if program else None

    def discover(self) -> None:
        """Look for nothing: a phone stays one."""

    def read(self, now_s: float) -> Reading:
        """Return the battery as it was told last, for two minutes at most."""
        return self._battery.latest(now_s) if self._battery else NOTHING

    def complaints(self) -> tuple[str, ...]:
        """Tell whether the battery has been lost."""
        return self._battery.complaints() if self._battery else ()

    def close(self) -> None:
        """End a question that is under way."""
        if self._command:
            self._command.close()

    def take(self) -> Report:
        """Ask for the battery once, and wait for it; nothing where nobody can be asked.

        Raises:
            SensorError: there is no answer, or it is nonsense.
        """
        return Report(parse_battery(self._command.output())) if self._command else Report(NOTHING)


def parse_battery(text: str) -> Reading:
    """Read what `termux-battery-status` prints: JSON, all of whose keys are optional.

    Raises:
        SensorError: it is no JSON object.
    """
    try:
        status = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SensorError(f"what {_PROGRAM} says is no JSON") from error
    if not isinstance(status, dict):
        raise SensorError(f"what {_PROGRAM} says is no JSON object")
    if status.get("present") is False:
        return NOTHING
    plugged, watts = _plugged(status), _watts(status)
    return Reading(
        battery_percent=_percent(status),
        battery_plugged=plugged,
        battery_temperature_c=within(as_real(status.get("temperature")), COLDEST_C, HOTTEST_C),
        power_w=watts,
        power_method=None if watts is None else "battery",
    )


def _percent(status: dict[str, object]) -> float | None:
    percent = within(as_real(status.get("percentage")), 0, 100)
    level, scale = as_real(status.get("level")), as_real(status.get("scale"))
    if percent is not None or level is None or scale is None or scale <= 0:
        return percent
    return within(100 * level / scale, 0, 100)


def _plugged(status: dict[str, object]) -> bool | None:
    """Return what the battery feels, else what Android says of the plug, as for other batteries."""
    state, plug = status.get("status"), str(status.get("plugged", ""))
    if state == "DISCHARGING":
        return False
    if state in ("CHARGING", "FULL"):
        return True
    if plug == "UNPLUGGED":
        return False
    return True if plug.startswith("PLUGGED_") and plug != "PLUGGED_-1" else None


def _watts(status: dict[str, object]) -> float | None:
    """Return what the battery gives while nothing else does: millivolts times microamperes.

    The sign of the current varies by maker. Older versions of Termux:API tell no voltage.
    """
    if status.get("status") != "DISCHARGING" or status.get("plugged") != "UNPLUGGED":
        return None
    millivolts, microamperes = as_real(status.get("voltage")), as_real(status.get("current"))
    if millivolts is None or microamperes is None or millivolts <= 0:
        return None
    return believable_w(millivolts * abs(microamperes) / 1e9)
