"""The roster: which devices a fleet has, as a person has signed it. One retained document each."""

from typing import ClassVar, Literal

from pydantic import Field

from protocols.message import Message, Name, Part, Sha256

RosterState = Literal["added", "accepted", "revoked"]
"""`added`: by name, before it was seen; its enrolment file proves that it is the one. `accepted`:
a person has seen it and said yes. `revoked`: never to be planned for again."""


class Credential(Part):
    """What a device logs in with, by what can be shown of it."""

    kind: Literal["certificate", "password"]
    serial: str | None = Field(
        None, max_length=64, description="of the certificate, in hexadecimal"
    )
    fingerprint: Sha256 | None = Field(None, description="of the certificate, SHA-256 of its DER")


class RosterEntry(Message):
    """`roster/<device>`: retained envelope, signed by the release role."""

    KIND: ClassVar[str] = "roster entry"

    fleet: Name
    device: Name
    generation: int = Field(ge=1, description="rises with every word on this device")
    state: RosterState
    enrolment: Sha256 | None = Field(
        None, description="digest of its enrolment file, null: it came without one"
    )
    machine: Sha256 | None = Field(
        None, description="the machine that was accepted, null: the first one that is seen"
    )
    credential: Credential | None = None
    replaces: Sha256 | None = Field(
        None, description="its enrolment file before, good until the new one is seen"
    )
    by: str = Field("", max_length=128)
    ts: float = 0.0
