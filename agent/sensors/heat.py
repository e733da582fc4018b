"""Heat: the hottest zone of the CPU or SoC."""

import re

from agent.sensors.reading import COLDEST_C, HOTTEST_C, within
from agent.sensors.tree import Tree

_CHIP = re.compile(r"cpu|soc|pkg|package|core|tsens|apss|apollo|atlas|big|little|tj", re.IGNORECASE)
_NOT_CHIP = re.compile(
    r"bat|bms|pmic|^pm|char|chg|skin|usb|wifi|wlan|modem|mdm|xo|quiet|gpu|ddr|nvme|pch|cam|case",
    re.IGNORECASE,
)
_CHIP_DRIVERS = frozenset({"coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal"})
_ZONES = "sys/class/thermal"
_MONITORS = "sys/class/hwmon"


class HeatMeter:
    """Reads the files that `discover` has found."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._zones: tuple[str, ...] = ()

    def discover(self) -> None:
        """Look for zones again: drivers may load after us."""
        self._zones = _find_zones(self._tree) or _find_monitors(self._tree)

    def temperature_c(self) -> float | None:
        """Return the hottest believable zone."""
        zones = (self._tree.number(zone) for zone in self._zones)
        degrees = (value / 1000 for value in zones if value is not None)
        return max(
            (c for c in degrees if within(c, COLDEST_C, HOTTEST_C) is not None), default=None
        )


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
