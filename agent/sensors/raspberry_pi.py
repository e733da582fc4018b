"""A Raspberry Pi: what its firmware throttles, whether its supply is too weak, what it takes."""

import re
from collections.abc import Mapping

from agent.errors import SensorError
from agent.sensors.background import Background, Pace, Report
from agent.sensors.command import Command, find_program
from agent.sensors.reading import NOTHING, Reading, believable_w
from agent.sensors.tree import Tree, as_number

_THROTTLED = "sys/devices/platform/soc*/soc*:firmware/get_throttled"
_WORD_MAX = (1 << 32) - 1
_UNDERVOLT = 1
_MODEL = "proc/device-tree/model"
_HAS_PMIC = re.compile(r"Raspberry Pi (5|500|Compute Module 5)\b")
_MAILBOX = "dev/vcio"
"""Without it (a unit with PrivateDevices=yes) vcgencmd cannot ask the firmware."""

_PACE = Pace(every_s=10.0, limit_s=2.0)
_RAIL = re.compile(r"^\s*(\w+)_(A|V) +(?:current|volt)\(\d+\)=(\S+?)[AV]\s*$", re.MULTILINE)


class RaspberryPi:
    """Reads the firmware's word and alarm each time, a Pi 5's rails every ten seconds.

    The rails come from `vcgencmd`, a process of its own: too much for every sample.
    """

    def __init__(self, tree: Tree, environ: Mapping[str, str], pace: Pace = _PACE) -> None:
        self._tree = tree
        self._throttled: str | None = None
        self._alarm: str | None = None
        self._command: Command | None = None
        self._rails: Background | None = None
        program = find_program("vcgencmd", environ)
        if program and _HAS_PMIC.match(tree.text(_MODEL) or "") and tree.has(_MAILBOX):
            self._command = Command(program, "pmic_read_adc", limit_s=pace.limit_s)
            self._rails = Background("the PMIC's rails", self.take, pace)

    def discover(self) -> None:
        """Look for the firmware's files again: drivers may load after us."""
        self._throttled = next(iter(self._tree.glob(_THROTTLED)), None)
        self._alarm = next(
            (
                name.removesuffix("name") + "in0_lcrit_alarm"
                for name in self._tree.glob("sys/class/hwmon/*/name")
                if self._tree.text(name) == "rpi_volt"
            ),
            None,
        )

    def read(self, now_s: float) -> Reading:
        """Return what is known."""
        word = self._word()
        rails = self._rails.latest(now_s) if self._rails else NOTHING
        return Reading(
            throttled=word,
            low_voltage=self._low_voltage(word),
            power_w=rails.power_w,
            power_method=rails.power_method,
        )

    def complaints(self) -> tuple[str, ...]:
        """Tell whether the rails have been lost."""
        return self._rails.complaints() if self._rails else ()

    def close(self) -> None:
        """End vcgencmd."""
        if self._command:
            self._command.close()

    def take(self) -> Report:
        """Read the rails once, and wait for them; nothing where there are none.

        Raises:
            SensorError: vcgencmd does not answer, or tells nonsense.
        """
        if self._command is None:
            return Report(NOTHING)
        watts = believable_w(rails_w(self._command.output()))
        if watts is None:
            raise SensorError("vcgencmd pmic_read_adc tells no volts and amperes")
        return Report(Reading(power_w=watts, power_method="rail"))

    def _word(self) -> int | None:
        """Return the firmware's word, which it writes in hexadecimal."""
        text = self._tree.text(self._throttled) if self._throttled else None
        try:
            word = int(text or "", 16)
        except ValueError:
            return None
        return word if 0 <= word <= _WORD_MAX else None

    def _low_voltage(self, word: int | None) -> bool | None:
        """Ask the driver's alarm, which mainline kernels have too, and bit 0 of the word."""
        alarm = self._tree.number(self._alarm) if self._alarm else None
        said = [alarm == 1] if alarm in (0, 1) else []
        if word is not None:
            said.append(bool(word & _UNDERVOLT))
        return any(said) if said else None


def rails_w(text: str) -> float | None:
    """Add up the rails of `vcgencmd pmic_read_adc`: `VDD_CORE_A current(7)=1.0A` and its volts.

    None where a rail's current has no voltage, or is no number: a part is not the whole. (The
    input, EXT5V, has a voltage alone. What USB takes and the converters lose is on no rail.)
    """
    values = {(rail, unit): as_number(value) for rail, unit, value in _RAIL.findall(text)}
    amperes = {rail: value for (rail, unit), value in values.items() if unit == "A"}
    watts = 0.0
    for rail, current in amperes.items():
        voltage = values.get((rail, "V"))
        if current is None or voltage is None:
            return None
        watts += current * voltage
    return watts if amperes else None
