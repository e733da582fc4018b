"""Heat: the hottest zone of the CPU or SoC, and what the firmware does about it."""

import re

from agent.sensors.tree import Tree, within

_COLDEST_C, _HOTTEST_C = -39.9, 149.9
"""A sensor that is broken or switched off says -40, -127, -274, 0x7fff or worse."""

_CHIP = re.compile(r"cpu|soc|pkg|package|core|tsens|apss|apollo|atlas|big|little|tj", re.IGNORECASE)
_NOT_CHIP = re.compile(
    r"bat|bms|pmic|^pm|char|chg|skin|usb|wifi|wlan|modem|mdm|xo|quiet|gpu|ddr|nvme|pch|cam|case",
    re.IGNORECASE,
)
_CHIP_DRIVERS = frozenset({"coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal"})
_ZONES = "sys/class/thermal"
_MONITORS = "sys/class/hwmon"
_THROTTLED = "sys/devices/platform/soc*/soc*:firmware/get_throttled"
_WORD_MAX = (1 << 32) - 1


class HeatMeter:
    """Reads the files that `discover` has found."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._zones: tuple[str, ...] = ()
        self._throttled: str | None = None

    def discover(self) -> None:
        """Look for zones and firmware again: drivers may load after us."""
        self._zones = _find_zones(self._tree) or _find_monitors(self._tree)
        self._throttled = next(iter(self._tree.glob(_THROTTLED)), None)

    def temperature_c(self) -> float | None:
        """Return the hottest believable zone."""
        zones = (self._tree.number(zone) for zone in self._zones)
        degrees = (value / 1000 for value in zones if value is not None)
        return max(
            (c for c in degrees if within(c, _COLDEST_C, _HOTTEST_C) is not None), default=None
        )

    def throttled(self) -> int | None:
        """Return the firmware's word, which it writes in hexadecimal."""
        text = self._tree.text(self._throttled) if self._throttled else None
        try:
            word = int(text or "", 16)
        except ValueError:
            return None
        return word if 0 <= word <= _WORD_MAX else None


def _find_zones(tree: Tree) -> tuple[str, ...]:
    """Prefer zones that say they are the chip's; else take those that do not say otherwise."""
    kinds = {
        f"{_ZONES}/{name}/temp": tree.text(f"{_ZONES}/{name}/type") or ""
        for name in tree.names(_ZONES)
        if name.startswith("thermal_zone")
    }
    candidates = {path: kind for path, kind in kinds.items() if not _NOT_CHIP.search(kind)}
    chip = tuple(path for path, kind in candidates.items() if _CHIP.search(kind))
    return chip or tuple(candidates)


def _find_monitors(tree: Tree) -> tuple[str, ...]:
    """Some desktop CPUs have a hardware monitor and no thermal zone."""
    return tuple(
        f"{_MONITORS}/{name}/{entry}"
        for name in tree.names(_MONITORS)
        if tree.text(f"{_MONITORS}/{name}/name") in _CHIP_DRIVERS
        for entry in tree.names(f"{_MONITORS}/{name}")
        if re.fullmatch(r"temp\d+_input", entry)
    )
