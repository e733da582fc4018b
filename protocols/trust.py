"""How keys follow keys, and who made a statement: the rules of trust beyond one envelope. Pure."""

from collections.abc import Iterable

from protocols.envelope import (
    KEY_BYTES,
    KEYS,
    ROLE_OF,
    ROLES,
    Holds,
    KeySet,
    PayloadType,
    PublicKey,
    StatementType,
    check_threshold,
    decode64,
    ed25519_holds,
    key_id,
    named_signers,
    open_as,
    short,
    signers_of,
)
from protocols.errors import TrustError


def verify_rotation(envelope: bytes, keys: KeySet, holds: Holds = ed25519_holds) -> KeySet:
    """Return the key set that succeeds another one, as TUF rotates its root.

    It must be the very next version, so that nobody can lead a device past a key set that took a
    key away; the threshold of the release keys that are trusted now must have signed it, and that
    of its own release keys, which shows that they are in somebody's hands.

    Args:
        envelope: as it came.
        keys: what is trusted now.
        holds: checks one signature.

    Raises:
        TrustError: it is not signed so, not the next version, of another fleet, or nobody could
            sign anything with it.
        MessageError: it is no envelope of a key set.
    """
    parsed, body = open_as(envelope, KEYS)
    check_threshold(parsed, body, "release", keys, holds)
    new = KeySet.decode(body)
    if new.fleet != keys.fleet:
        raise TrustError(f"cannot trust keys: they are of fleet {new.fleet!r}, not {keys.fleet!r}")
    if new.version != keys.version + 1:
        raise TrustError(
            f"cannot trust keys: version {new.version} does not follow version {keys.version}"
        )
    check_usable(new)
    check_threshold(parsed, body, "release", new, holds)
    return new


def check_usable(keys: KeySet) -> None:
    """Check that a key set can be lived with.

    Raises:
        TrustError: a role has fewer keys than its threshold, or a key is not what it is named.
    """
    names = [(key.role, key.key_id) for key in keys.keys]
    if len(set(names)) < len(names):
        raise TrustError("cannot trust keys: a key is named twice")
    for key in keys.keys:
        raw = decode64(key.public, "key set")
        if len(raw) != KEY_BYTES or key_id(raw) != key.key_id:
            raise TrustError(f"cannot trust keys: {key.key_id[:16]!r} is not the name of its key")
    for role in ROLES:
        needed, there = keys.threshold.get(role, 1), len(keys.of(role))
        if not 1 <= needed <= there:
            raise TrustError(
                f"cannot trust keys: {needed} signatures of the {role} role are needed, and it has "
                f"{there} keys"
            )


def verify_statement(
    envelope: bytes, payload_type: StatementType, keys: Iterable[PublicKey]
) -> tuple[bytes, PublicKey]:
    """Return the payload of a statement, and the one of these keys that has signed it.

    Raises:
        TrustError: the envelope is of another type, or none of the keys has signed it.
        MessageError: the bytes are no envelope.
    """
    parsed, body = open_as(envelope, payload_type)
    known = list(keys)
    signers = signers_of(parsed, body, known, ed25519_holds)
    for key in known:
        if key.key_id in signers:
            return body, key
    raise TrustError(
        f"cannot trust {short(payload_type)}: no trusted key has signed it "
        f"(signed by: {named_signers(parsed)})"
    )


def count_signers(envelope: bytes, payload_type: PayloadType, keys: KeySet) -> int:
    """Return how many distinct trusted keys of the right role have signed an envelope.

    Raises:
        TrustError: it is of another type.
        MessageError: the bytes are no envelope.
    """
    parsed, body = open_as(envelope, payload_type)
    return len(signers_of(parsed, body, keys.of(ROLE_OF[payload_type]), ed25519_holds))
