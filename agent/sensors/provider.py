"""The one interface of all that tells a machine's state: platforms, boards and what users add."""

from collections.abc import Mapping
from typing import Protocol

from agent.sensors.reading import Reading

ENTRY_POINTS = "sluice.sensors"
"""The entry point group of providers that users add."""


class Provider(Protocol):
    """What `Sensors` asks, on the thread that decides: `read` never waits and never raises."""

    def discover(self) -> None:
        """Look for sensors again: drivers load late, batteries come and go. Once a minute."""

    def read(self, now_s: float) -> Reading:
        """Return what is known at `now_s` of the monotonic clock."""

    def complaints(self) -> tuple[str, ...]:
        """Return what has been lost since this was last asked: "cannot X: why"."""

    def close(self) -> None:
        """Leave no process behind."""


class AddedProvider(Protocol):
    """What an entry point of the group `sluice.sensors` makes: a UPS, a power meter, a modem.

    The entry point names something that is called without arguments (a class will do) and returns
    such an object. `agent.toml` switches it on by name: `[sensors] providers = ["ups-x"]`. Loading,
    making and reading it happens on a thread of its own, one at a time; it may take its time, and
    what it raises is told as an event and harms nothing.
    """

    def read(self) -> Mapping[str, float | bool | None]:
        """Return what is known now; a key that is left out, or None, is not known.

        * `battery_percent`: charge, 0 to 100
        * `battery_plugged`: whether mains feed it
        * `battery_temperature_c`: degrees Celsius
        * `low_voltage`: whether the supply is too weak right now
        * `power_w`: what the whole device takes, in watts
        * `metered`: whether the link to the broker costs
        """


class Quiet:
    """A provider that reads files only: there is nothing to end, and what it lacks is null."""

    def discover(self) -> None:
        """Look for nothing."""

    def complaints(self) -> tuple[str, ...]:
        """Tell of no loss: the governor's signals that vanish are told by name."""
        return ()

    def close(self) -> None:
        """End nothing."""
