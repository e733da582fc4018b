"""The board's input as a kernel driver measures it: an INA3221 whose channel says so (Jetson)."""

import re

from agent.sensors.reading import believable_w
from agent.sensors.tree import Tree

_MONITORS = "sys/class/hwmon"
_INPUT = re.compile(r"(VDD|POM_5V|VDD_5V)_IN|VIN_SYS_5V0", re.IGNORECASE)
"""Other channels are of a part of the board; a meter without labels measures who knows what."""


class InputMeter:
    """Reads the channel that `discover` has found."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._channel: tuple[str, str] | None = None

    def discover(self) -> None:
        """Look for a channel with the label of the board's input."""
        self._channel = next(
            (
                (f"{folder}/in{number}_input", f"{folder}/curr{number}_input")
                for folder in (f"{_MONITORS}/{name}" for name in self._tree.names(_MONITORS))
                if (self._tree.text(f"{folder}/name") or "").startswith("ina")
                for entry in self._tree.names(folder)
                if (match := re.fullmatch(r"in(\d+)_label", entry))
                and _INPUT.fullmatch(self._tree.text(f"{folder}/{entry}") or "")
                for number in match.groups()
            ),
            None,
        )

    def watts(self) -> float | None:
        """Return what goes into the board: its millivolts times its milliamperes."""
        if self._channel is None:
            return None
        millivolts, milliamperes = (self._tree.number(path) for path in self._channel)
        if millivolts is None or milliamperes is None:
            return None
        return believable_w(millivolts * milliamperes / 1e6)
