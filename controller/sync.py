"""After a connect: what to subscribe to, and when all that the broker retains has come. Pure."""

import uuid
from dataclasses import dataclass

from controller.fleet import Fleet
from protocols.topics import DEVICE_KINDS, Topics

QUIET_S = 0.1
"""No retained document for so long after the marker came back: all have come."""

MARKER_TIMEOUT_S = 3.0
"""A broker that does not let us publish the marker never returns it."""


def filters(topics: Topics) -> tuple[str, ...]:
    """Return one filter for each kind of document, and none that could ever match an artifact.

    Keys come first, since whatever follows is checked with them, and deployments before the rest: a
    broker that drops what we are too slow for must not drop these, or their cascades would go from
    every device.
    """
    return (
        topics.keys("+"),
        topics.deployment("+"),
        topics.rollout("+"),
        topics.controller("+"),
        topics.roster("+"),
        *(topics.device("+", kind) for kind in DEVICE_KINDS),
    )


def marker_topic(topics: Topics) -> str:
    """Return a topic of our own: an empty payload there says nothing to anybody else.

    Published after the subscriptions, it comes back after all that the broker retains.
    """
    return topics.controller(f"marker-{uuid.uuid4().hex[:12]}")


@dataclass(slots=True)
class Sync:
    """The documents are coming."""

    fleet: Fleet
    marker: str
    heard_s: float
    """When the last retained one came, by the monotonic clock."""
    returned: bool = False

    def hear(self, topic: str, now_s: float, *, retained: bool) -> None:
        """Note that a message came."""
        self.returned = self.returned or topic == self.marker
        if retained:
            self.heard_s = now_s

    def is_done(self, now_s: float) -> bool:
        """Whether all have come."""
        return now_s - self.heard_s >= (QUIET_S if self.returned else MARKER_TIMEOUT_S)
