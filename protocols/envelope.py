"""DSSE envelopes signed with Ed25519: bytes in, verified payload out, no I/O.

The envelope and its pre-authentication encoding are those of the DSSE v1.0.2 specification
(https://github.com/secure-systems-lab/dsse): the signature covers the payload's type and bytes, so
that a payload of one type can never pass as another. Keys carry a role, as in TUF: the release key
says what may run anywhere, the controller key says which of it a device should run.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable
from typing import ClassVar, Literal

from pydantic import Field

from protocols.errors import MessageError, TrustError
from protocols.message import Message, Part

Role = Literal["release", "controller"]
PayloadType = Literal[
    "application/vnd.sluice.bundle+json",
    "application/vnd.sluice.deployment+json",
    "application/vnd.sluice.desired+json",
    "application/vnd.sluice.pins+json",
    "application/vnd.sluice.keys+json",
    "application/vnd.sluice.rollout+json",
    "application/vnd.sluice.roster+json",
]
StatementType = Literal["application/vnd.sluice.audit+json"]
BUNDLE: PayloadType = "application/vnd.sluice.bundle+json"
DEPLOYMENT: PayloadType = "application/vnd.sluice.deployment+json"
DESIRED: PayloadType = "application/vnd.sluice.desired+json"
PINS: PayloadType = "application/vnd.sluice.pins+json"
KEYS: PayloadType = "application/vnd.sluice.keys+json"
ROLLOUT: PayloadType = "application/vnd.sluice.rollout+json"
ROSTER: PayloadType = "application/vnd.sluice.roster+json"
AUDIT: StatementType = "application/vnd.sluice.audit+json"
"""Of one who acted: a single signature is enough, by a key of whichever role."""

ROLE_OF: dict[PayloadType, Role] = {
    BUNDLE: "release",
    DEPLOYMENT: "release",
    PINS: "release",
    KEYS: "release",
    ROSTER: "release",
    DESIRED: "controller",
    ROLLOUT: "controller",
}
"""Which role's keys may sign a payload of each type."""

Holds = Callable[[bytes, bytes, bytes], bool]
"""Public key, signature, message -> whether the signature holds."""

ROLES: tuple[Role, ...] = ("release", "controller")
MAX_KEYS = 32

KEY_BYTES = 32
_MAX_SIGNATURES = 16


class PublicKey(Part):
    """An Ed25519 public key and the role it signs for."""

    key_id: str
    role: Role
    public: str = Field(description="the 32 raw bytes in base64")


class KeySet(Message):
    """The keys that a fleet trusts, and how many distinct ones must have signed, for each role.

    `keys/<version>`: retained envelope, signed by the release role of the version before it and by
    its own (`verify_rotation`). The first one is no envelope: every device gets it as a file.
    """

    KIND: ClassVar[str] = "key set"

    fleet: str
    version: int = Field(0, ge=0, description="rises by one with every change of the keys")
    keys: tuple[PublicKey, ...] = Field(max_length=MAX_KEYS)
    threshold: dict[Role, int] = {"release": 1, "controller": 1}
    former: tuple[PublicKey, ...] = Field(
        (), max_length=MAX_KEYS, description="trusted once: the audit trail still names them"
    )

    def of(self, role: Role) -> tuple[PublicKey, ...]:
        """Return the keys of a role."""
        return tuple(key for key in self.keys if key.role == role)

    def needed(self, role: Role) -> int:
        """Return how many distinct keys of a role must have signed; at least one."""
        return max(1, self.threshold.get(role, 1))


class Signature(Part):
    """One signature of an envelope."""

    keyid: str
    sig: str


class Envelope(Message):
    """A DSSE envelope: a payload in base64, its type, and who signed it."""

    KIND: ClassVar[str] = "envelope"

    payload: str
    payloadType: str  # noqa: N815 - the name that DSSE gives it
    signatures: tuple[Signature, ...] = Field(max_length=_MAX_SIGNATURES)


def key_id(public: bytes) -> str:
    """Return the name of a key: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def generate_key() -> bytes:
    """Return a new Ed25519 private key, 32 raw bytes."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PrivateKey,
    )

    return Ed25519PrivateKey.generate().private_bytes_raw()


def public_key(private: bytes, role: Role) -> PublicKey:
    """Return the public half of a private key, for a role."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PrivateKey,
    )

    raw = Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    return PublicKey(key_id=key_id(raw), role=role, public=base64.b64encode(raw).decode())


def sign(
    payload: Message, payload_type: PayloadType | StatementType, private_keys: Iterable[bytes]
) -> Envelope:
    """Put a message into an envelope signed by each of the keys (32 raw bytes each)."""
    bare = Envelope(
        payload=base64.b64encode(payload.encode()).decode(), payloadType=payload_type, signatures=()
    )
    return add_signatures(bare, private_keys)


def add_signatures(envelope: Envelope, private_keys: Iterable[bytes]) -> Envelope:
    """Return an envelope that these keys have signed too; the payload stays, byte by byte.

    Raises:
        MessageError: the payload is not base64.
        TrustError: it would have more signatures than a reader takes.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PrivateKey,
    )

    body = decode64(envelope.payload, "envelope")
    signatures = {one.keyid: one for one in envelope.signatures}
    for private in private_keys:
        key = Ed25519PrivateKey.from_private_bytes(private)
        keyid = key_id(key.public_key().public_bytes_raw())
        signature = key.sign(_pre_authentication(envelope.payloadType, body))
        signatures[keyid] = Signature(keyid=keyid, sig=base64.b64encode(signature).decode())
    if len(signatures) > _MAX_SIGNATURES:
        raise TrustError(f"cannot sign: an envelope holds at most {_MAX_SIGNATURES} signatures")
    return envelope.with_(signatures=tuple(signatures.values()))


def ed25519_holds(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a signature over a message is that of an Ed25519 public key (32 raw bytes)."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PublicKey,
    )

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def verify(
    envelope: bytes, payload_type: PayloadType, keys: KeySet, holds: Holds = ed25519_holds
) -> bytes:
    """Return the payload of an envelope that enough keys of the right role have signed.

    Args:
        envelope: the envelope as it came from the wire or from a file.
        payload_type: the one type that the caller is ready to read.
        keys: the keys that this fleet trusts.
        holds: checks one signature; an agent has it done by a process of its own.

    Raises:
        TrustError: the envelope is of another type, or fewer distinct trusted keys of the type's
            role have signed it than the key set's threshold demands.
        MessageError: the bytes are no envelope.
    """
    parsed, body = open_as(envelope, payload_type)
    check_threshold(parsed, body, ROLE_OF[payload_type], keys, holds)
    return body


def open_unverified(envelope: bytes) -> tuple[str, bytes]:
    """Return type and payload of an envelope that nobody has vouched for yet: to show, to sign.

    Raises:
        MessageError: the bytes are no envelope.
    """
    parsed = Envelope.decode(envelope)
    return parsed.payloadType, decode64(parsed.payload, "envelope")


def open_as(envelope: bytes, payload_type: PayloadType | StatementType) -> tuple[Envelope, bytes]:
    """Return an envelope of the one expected type, and its payload, which nobody has vouched for.

    Raises:
        TrustError: it is of another type.
        MessageError: the bytes are no envelope.
    """
    parsed = Envelope.decode(envelope)
    what = short(payload_type)
    if parsed.payloadType != payload_type:
        raise TrustError(f"cannot trust {what}: the envelope holds {parsed.payloadType[:80]!r}")
    return parsed, decode64(parsed.payload, what)


def check_threshold(
    envelope: Envelope, body: bytes, role: Role, keys: KeySet, holds: Holds
) -> None:
    """Check that enough distinct keys of a role have signed an envelope; raises TrustError."""
    signers = signers_of(envelope, body, keys.of(role), holds)
    if len(signers) < keys.needed(role):
        raise TrustError(
            f"cannot trust {short(envelope.payloadType)}: {len(signers)} of {keys.needed(role)} "
            f"needed signatures by a trusted {role} key of fleet {keys.fleet!r} "
            f"(signed by: {named_signers(envelope)})"
        )


def named_signers(envelope: Envelope) -> str:
    """Return who claims to have signed, for a person."""
    return ", ".join(s.keyid[:16] for s in envelope.signatures) or "nobody"


def signers_of(
    envelope: Envelope, body: bytes, keys: Iterable[PublicKey], holds: Holds
) -> set[str]:
    """Return the ids of these keys that have signed an envelope of this payload."""
    trusted = {key.key_id: decode64(key.public, "key set") for key in keys}
    message = _pre_authentication(envelope.payloadType, body)
    signers = set()
    for signature in envelope.signatures:
        raw = trusted.get(signature.keyid)
        if raw is None or len(raw) != KEY_BYTES or key_id(raw) != signature.keyid:
            continue
        try:
            bits = decode64(signature.sig, "signature")
        except MessageError:
            continue
        if holds(raw, bits, message):
            signers.add(signature.keyid)
    return signers


def _pre_authentication(payload_type: str, body: bytes) -> bytes:
    """Return DSSE's PAE: what is signed, with lengths so that it reads in one way only."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)


def decode64(text: str, what: str) -> bytes:
    """Return what base64 holds; raises MessageError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MessageError(f"cannot read {what}: not base64") from error


def short(payload_type: str) -> str:
    """Return a payload's type for a person: `desired`."""
    return payload_type.removeprefix("application/vnd.sluice.").removesuffix("+json")
