"""Battery and mains, from `/sys/class/power_supply`."""

from dataclasses import dataclass

from agent.sensors.reading import COLDEST_C, HOTTEST_C, believable_w, within
from agent.sensors.tree import Tree

_SUPPLIES = "sys/class/power_supply"
_LINE_KINDS = ("Mains", "USB", "Wireless")
"""Chargers are of type Mains, USB (USB_PD, USB_DCP and the like) or Wireless."""


@dataclass(frozen=True, slots=True)
class Power:
    """The battery that the machine runs on. None: it has none, or does not say."""

    percent: float | None = None
    plugged: bool | None = None
    temperature_c: float | None = None
    watts: float | None = None


class PowerMeter:
    """Reads the supplies that `discover` has found."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._batteries: tuple[str, ...] = ()
        self._lines: tuple[str, ...] = ()

    def discover(self) -> None:
        """Look for batteries and power lines again: both come and go."""
        supplies = [f"{_SUPPLIES}/{name}" for name in self._tree.names(_SUPPLIES)]
        kinds = {supply: self._tree.text(f"{supply}/type") for supply in supplies}
        self._batteries = tuple(
            supply for supply, kind in kinds.items() if kind == "Battery" and self._is_ours(supply)
        )
        self._lines = tuple(
            supply for supply, kind in kinds.items() if (kind or "").startswith(_LINE_KINDS)
        )

    @property
    def has_battery(self) -> bool:
        """Whether the machine can run on a battery."""
        return bool(self._batteries)

    def read(self) -> Power:
        """Return charge (the mean of several batteries), plug, heat (of the hottest) and watts."""
        if not self._batteries:
            return Power()
        charges = [c for b in self._batteries if (c := self._percent(b)) is not None]
        heats = [t for b in self._batteries if (t := self._temperature_c(b)) is not None]
        return Power(
            percent=sum(charges) / len(charges) if charges else None,
            plugged=self._plugged(),
            temperature_c=max(heats, default=None),
            watts=self._watts(),
        )

    def _is_ours(self, supply: str) -> bool:
        """A mouse's battery has the scope Device; an empty bay says that nothing is present."""
        return (
            self._tree.text(f"{supply}/scope") != "Device"
            and self._tree.text(f"{supply}/present") != "0"
        )

    def _percent(self, battery: str) -> float | None:
        capacity = within(self._tree.number(f"{battery}/capacity"), 0, 100)
        if capacity is not None:
            return capacity
        for kind in ("energy", "charge"):
            now = self._tree.number(f"{battery}/{kind}_now")
            full = self._tree.number(f"{battery}/{kind}_full")
            if now is not None and full:
                return within(100 * now / full, 0, 100)
        return None

    def _temperature_c(self, battery: str) -> float | None:
        tenths = self._tree.number(f"{battery}/temp")
        return None if tenths is None else within(tenths / 10, COLDEST_C, HOTTEST_C)

    def _watts(self) -> float | None:
        """Return what the batteries give, while they do and nothing else feeds the machine.

        The files count in micro-units; which sign means discharging varies by maker.
        """
        states = [self._tree.text(f"{battery}/status") for battery in self._batteries]
        lines = [self._tree.number(f"{line}/online") for line in self._lines]
        if "Discharging" not in states or "Charging" in states or any(lines):
            return None
        giving = zip(self._batteries, states, strict=True)
        powers = [self._gives_w(battery) for battery, state in giving if state == "Discharging"]
        known = [watts for watts in powers if watts is not None]
        return believable_w(sum(known)) if len(known) == len(powers) else None

    def _gives_w(self, battery: str) -> float | None:
        power = self._tree.number(f"{battery}/power_now")
        if power is not None:
            return abs(power) / 1e6
        voltage = self._tree.number(f"{battery}/voltage_now")
        current = self._tree.number(f"{battery}/current_now")
        if voltage is None or current is None or voltage <= 0:
            return None
        return voltage * abs(current) / 1e12

    def _plugged(self) -> bool | None:
        """Return what the battery feels, else what the power lines say.

        A battery that discharges while a weak charger is connected is one that runs down.
        """
        states = {self._tree.text(f"{battery}/status") for battery in self._batteries}
        if "Discharging" in states:
            return False
        if states & {"Charging", "Full"}:
            return True
        online = [v for n in self._lines if (v := self._tree.number(f"{n}/online")) is not None]
        if online:
            return any(value > 0 for value in online)
        return True if "Not charging" in states else None
