"""The topics of one fleet, root `sluice/v1/<fleet>`: built and taken apart in one place."""

import re
from dataclasses import dataclass
from typing import Literal

from protocols.errors import TopicError

ROOT = "sluice/v1"

DeviceKind = Literal["status", "inventory", "telemetry", "events", "desired", "reported", "pins"]
DEVICE_KINDS: tuple[DeviceKind, ...] = (
    "status",
    "inventory",
    "telemetry",
    "events",
    "desired",
    "reported",
    "pins",
)
Kind = Literal[DeviceKind, "deployment", "controller", "artifact"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9]{1,9}")


def check_name(name: str, what: str = "name") -> str:
    """Return the name if it can stand in a topic and a file name.

    Raises:
        TopicError: it is empty, too long, or has a character that cannot.
    """
    if not _NAME.fullmatch(name):
        raise TopicError(
            f"cannot use {what} {name!r}: 1 to 63 letters, digits, '_', '.' or '-', "
            "the first a letter or a digit"
        )
    return name


@dataclass(frozen=True, slots=True)
class TopicName:
    """A topic taken apart. `name` is the device, deployment, controller or SHA-256."""

    kind: Kind
    name: str
    chunk: int | None = None


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one fleet."""

    fleet: str

    def __post_init__(self) -> None:
        check_name(self.fleet, "fleet")

    @property
    def root(self) -> str:
        """The prefix that all topics of this fleet share."""
        return f"{ROOT}/{self.fleet}"

    def device(self, device: str, kind: DeviceKind) -> str:
        """Return a device's topic of one kind; `+` as the device makes it a filter."""
        return f"{self.root}/devices/{device}/{kind}"

    def deployment(self, deployment: str) -> str:
        """Return a deployment's topic; `+` makes it a filter."""
        return f"{self.root}/deployments/{deployment}"

    def controller(self, controller: str) -> str:
        """Return a controller's status topic; `+` makes it a filter."""
        return f"{self.root}/controllers/{controller}/status"

    def chunk(self, sha256: str, number: int) -> str:
        """Return the topic of chunk `number` (from 0) of an artifact."""
        return f"{self.root}/artifacts/{sha256}/{number}"

    def parse(self, topic: str) -> TopicName:
        """Take a topic of this fleet apart.

        Raises:
            TopicError: it is not a topic of this fleet.
        """
        inside = topic.removeprefix(f"{self.root}/")
        match inside.split("/") if inside != topic else []:
            case ["devices", device, kind] if kind in DEVICE_KINDS and _NAME.fullmatch(device):
                return TopicName(DEVICE_KINDS[DEVICE_KINDS.index(kind)], device)
            case ["deployments", deployment] if _NAME.fullmatch(deployment):
                return TopicName("deployment", deployment)
            case ["controllers", controller, "status"] if _NAME.fullmatch(controller):
                return TopicName("controller", controller)
            case ["artifacts", sha256, number] if _SHA256.fullmatch(sha256) and _NUMBER.fullmatch(
                number
            ):
                return TopicName("artifact", sha256, int(number))
            case _:
                raise TopicError(f"cannot use topic {topic!r}: not one of fleet {self.fleet!r}")
