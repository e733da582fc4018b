"""Who did what, when: one signed entry for every act on deployments, pins, keys and devices."""

from typing import ClassVar, Literal

from pydantic import Field

from protocols.envelope import Role
from protocols.message import Message, Name

Act = Literal[
    "deployed",
    "aborted",
    "pinned",
    "keys-changed",
    "rollout-started",
    "rollout-paused",
    "rollout-resumed",
    "rollout-promoted",
    "rollout-stopped",
    "rollout-completed",
    "rollout-undone",
    "device-added",
    "device-accepted",
    "device-revoked",
    "device-rotated",
    "broker-configured",
]
"""What is recorded. On the wire it is any name: older readers list later acts too."""


_BY_ITSELF: frozenset[str] = frozenset({"rollout-started", "rollout-stopped", "rollout-completed"})


def role_of(act: str) -> Role:
    """Return which role's key must sign for an act.

    What a controller does by itself is few; all else, and what is not known here, is a person's.
    """
    return "controller" if act in _BY_ITSELF else "release"


class AuditEntry(Message):
    """`audit/<id>`: retained envelope, signed by one key of whoever acted.

    Of the controller role where a rollout started, stopped or completed; else of the release role.
    """

    KIND: ClassVar[str] = "audit entry"
    MAX_BYTES: ClassVar[int] = 4096

    id: Name = Field(description="begins with the time, so that ids sort by it")
    fleet: Name
    ts: float = Field(description="Unix time in seconds")
    by: str = Field(max_length=128, description="user@host, or the controller that acted by itself")
    key_id: str = Field(max_length=16, description="the key that signs this entry")
    act: Name
    target: str = Field(max_length=128, description="the deployment, device or key set acted on")
    message: str = Field("", max_length=512, description="for a person: what, and why")
