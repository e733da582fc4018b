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
RETAINED_KINDS: tuple[DeviceKind, ...] = ("status", "inventory", "desired", "reported", "pins")
"""What stays on the broker after its writer is gone."""

Kind = Literal[
    DeviceKind, "deployment", "rollout", "controller", "artifact", "keys", "audit", "roster"
]

_FOLDERS: dict[str, Kind] = {
    "deployments": "deployment",
    "rollouts": "rollout",
    "roster": "roster",
    "audit": "audit",
}
"""Folders of one document a name."""

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
    """A topic taken apart. `name` is the device, deployment, controller, SHA-256, version or id."""

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

    def rollout(self, deployment: str) -> str:
        """Return the topic of a deployment's rollout; `+` makes it a filter."""
        return f"{self.root}/rollouts/{deployment}"

    def controller(self, controller: str) -> str:
        """Return a controller's status topic; `+` makes it a filter."""
        return f"{self.root}/controllers/{controller}/status"

    def chunk(self, sha256: str, number: int) -> str:
        """Return the topic of chunk `number` (from 0) of an artifact."""
        return f"{self.root}/artifacts/{sha256}/{number}"

    def keys(self, version: int | Literal["+"]) -> str:
        """Return the topic of one version of the fleet's key set; `+` makes it a filter."""
        return f"{self.root}/keys/{version}"

    def audit(self, entry: str) -> str:
        """Return the topic of an entry of the audit trail; `+` makes it a filter."""
        return f"{self.root}/audit/{entry}"

    def roster(self, device: str) -> str:
        """Return the topic of a device's entry in the roster; `+` makes it a filter."""
        return f"{self.root}/roster/{device}"

    def parse(self, topic: str) -> TopicName:
        """Take a topic of this fleet apart.

        Raises:
            TopicError: it is not a topic of this fleet.
        """
        inside = topic.removeprefix(f"{self.root}/")
        match inside.split("/") if inside != topic else []:
            case ["devices", device, kind] if kind in DEVICE_KINDS and _NAME.fullmatch(device):
                return TopicName(DEVICE_KINDS[DEVICE_KINDS.index(kind)], device)
            case [folder, name] if folder in _FOLDERS and _NAME.fullmatch(name):
                return TopicName(_FOLDERS[folder], name)
            case ["controllers", controller, "status"] if _NAME.fullmatch(controller):
                return TopicName("controller", controller)
            case ["artifacts", sha256, number] if _SHA256.fullmatch(sha256) and _NUMBER.fullmatch(
                number
            ):
                return TopicName("artifact", sha256, int(number))
            case ["keys", version] if _NUMBER.fullmatch(version):
                return TopicName("keys", version)
            case _:
                raise TopicError(f"cannot use topic {topic!r}: not one of fleet {self.fleet!r}")
