"""How a device comes into a fleet: the one-time file, and by what it is told from a copy. Pure."""

import hashlib
from typing import ClassVar

from pydantic import Field

from protocols.message import Message, Name, Part, Sha256


class Enrolment(Part):
    """Which enrolment file a device came by, and on which machine: digests, and no secret.

    Both digests hold the file's nonce, so that they tell nothing of the machine and differ from
    one file to the next.
    """

    file: Sha256 = Field(description="of the enrolment file's nonce")
    machine: Sha256 | None = Field(
        None, description="of the nonce and the machine's own number, null where it has none"
    )


class EnrolmentFile(Message):
    """What `ctl device add` writes and `sluice-agent enroll` reads, once: it holds a credential.

    Either `certificate` and `key`, or `username` and `password`.
    """

    KIND: ClassVar[str] = "enrolment file"

    fleet: Name
    device: Name
    labels: dict[str, str] = {}
    broker_url: str
    ca: str = Field(description="PEM: who signs the broker's certificate")
    certificate: str | None = Field(None, description="PEM, of the device")
    key: str | None = Field(None, repr=False, description="PEM, the certificate's private key")
    username: str | None = None
    password: str | None = Field(None, repr=False)
    trust: str = Field(description="the fleet's trust.json, as it is")
    nonce: str = Field(repr=False, pattern=r"^[0-9a-f]{16,128}$")
    created_ts: float

    @property
    def digest(self) -> str:
        """What roster and inventory call this file."""
        return file_digest(self.nonce)


def file_digest(nonce: str) -> str:
    """Return the name of the enrolment file with this nonce."""
    return hashlib.sha256(b"sluice enrolment\0" + nonce.encode()).hexdigest()


def enrolment_of(nonce: str, machine: str | None) -> Enrolment:
    """Return what a device says of its enrolment.

    Args:
        nonce: of its enrolment file.
        machine: what tells this machine from any other, None where nothing does.
    """
    if machine is None:
        return Enrolment(file=file_digest(nonce))
    mixed = b"sluice machine\0" + nonce.encode() + b"\0" + machine.encode()
    return Enrolment(file=file_digest(nonce), machine=hashlib.sha256(mixed).hexdigest())
