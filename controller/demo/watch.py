"""The demo's ear: prints every event of the fleet as it comes, and remembers it."""

import os
import time
from typing import Self

from rich.console import Console
from rich.markup import escape

from controller.errors import ControllerError
from protocols.device import Event, EventKind, Inventory, Status
from protocols.errors import SluiceError
from protocols.link import Broker, Link
from protocols.topics import Topics

_SHOWN: dict[EventKind, str] = {
    "loaded": "green",
    "unloaded": "magenta",
    "threads": "cyan",
    "rung": "yellow",
    "applied": "green",
    "planned": "blue",
    "refused": "red",
    "rejected": "red",
    "reverted": "red",
    "runner-died": "red",
    "quarantined": "red",
}


class Watch:
    """A reader of the fleet's topics. Use it as a context manager."""

    def __init__(self, broker_url: str, fleet: str, console: Console) -> None:
        self._console = console
        self._start_s = time.monotonic()
        self._topics = Topics(fleet)
        self._inventories: dict[str, Inventory] = {}
        self._online: set[str] = set()
        self.events: list[Event] = []
        self._link = Link(Broker.parse(broker_url), f"demo-{os.getpid()}", self._take)

    def __enter__(self) -> Self:
        self._link.subscribe(
            self._topics.device("+", "events"),
            self._topics.device("+", "inventory"),
            self._topics.device("+", "status"),
        )
        self._link.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._link.stop()

    def say(self, text: str) -> None:
        """Print a line of the play itself."""
        self._console.print(f"{self._clock()} {text}", highlight=False)

    def wait_for_devices(self, names: list[str], timeout_s: float) -> None:
        """Return when all these devices are online and have said what they are.

        Raises:
            ControllerError: they are not in time.
        """
        deadline = time.monotonic() + timeout_s
        while missing := [n for n in names if n not in self._online or n not in self._inventories]:
            if time.monotonic() > deadline:
                raise ControllerError(
                    f"cannot go on: {', '.join(missing)} not online within {timeout_s:g} s"
                )
            time.sleep(0.05)

    def endpoint(self, device: str) -> str:
        """Return the URL of a device's inference endpoint on TCP.

        Raises:
            ControllerError: it offers none.
        """
        for url in self._inventories[device].endpoints:
            if url.startswith("http://"):
                return url.rstrip("/")
        raise ControllerError(f"cannot ask {device}: it offers no endpoint on TCP")

    def _take(self, topic: str, payload: bytes, _retained: bool) -> None:  # noqa: FBT001
        try:
            name = self._topics.parse(topic)
            match name.kind:
                case "events":
                    self._show(Event.decode(payload))
                case "inventory":
                    self._inventories[name.name] = Inventory.decode(payload)
                case "status" if Status.decode(payload).online:
                    self._online.add(name.name)
        except SluiceError as error:
            self.say(f"[red]{escape(str(error))}")

    def _show(self, event: Event) -> None:
        self.events.append(event)
        style = _SHOWN.get(event.kind)
        if style is not None:
            line = f"{event.device:6} [{style}]{event.kind:11}[/] {escape(event.message)}"
            self.say(line)

    def _clock(self) -> str:
        return f"[dim]{time.monotonic() - self._start_s:5.1f} s[/]"
