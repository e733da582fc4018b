"""The audit trail: an entry for every act, signed by who acted, on the broker and in the home.

Entries are made by `Executor.record`; here is what they say, and what is read out of them. Pure,
but for `keep`, which appends one to the home's own copy, `HOME/audit.jsonl`.
"""

import os
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.errors import HomeError
from protocols.audit import Act, AuditEntry
from protocols.envelope import AUDIT, PublicKey
from protocols.errors import MessageError, TrustError
from protocols.trust import verify_statement

KEPT = 1000
"""Entries on the broker; who acts as controller clears the oldest beyond these."""

MAX_ENVELOPE_BYTES = 8192

_TARGET_CHARACTERS, _MESSAGE_CHARACTERS, _BY_CHARACTERS = 128, 512, 128
_RUN = re.compile(r"[A-Za-z0-9+/_-]{40,}={0,2}")
_HEX = re.compile(r"[0-9a-f]+")
_DIGEST_CHARACTERS = 12
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]*@")
_HIDDEN = "(hidden)"


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry whose signature holds.

    Attributes:
        entry: what was done.
        former: the key that signed it is trusted no more.
    """

    entry: AuditEntry
    former: bool = False


def new_entry(  # noqa: PLR0913 - an entry has this many facts
    fleet: str, act: Act, target: str, message: str, *, by: str, key_id: str, now_s: float
) -> AuditEntry:
    """Return an entry about an act. Whatever looks like a secret is left out of its words.

    Args:
        fleet: where.
        act: what was done.
        target: to which deployment, device or key set.
        message: for a person: what, and why.
        by: who did it.
        key_id: of the key that will sign the entry.
        now_s: Unix time in seconds.
    """
    return AuditEntry(
        id=f"{max(0, int(now_s * 1000)):013d}-{uuid.uuid4().hex[:8]}",
        fleet=fleet,
        ts=now_s,
        by=without_secrets(by)[:_BY_CHARACTERS],
        key_id=key_id,
        act=act,
        target=without_secrets(target)[:_TARGET_CHARACTERS],
        message=without_secrets(message)[:_MESSAGE_CHARACTERS],
    )


def without_secrets(words: str) -> str:
    """Return words without keys, tokens and an URL's credentials; digests are cut short.

    A key of 32 bytes is 43 characters of base64, which no name or sentence looks like.
    """
    return _RUN.sub(lambda found: _shown(found[0]), _CREDENTIALS.sub("", words))


def _shown(run: str) -> str:
    if _HEX.fullmatch(run):
        return run[:_DIGEST_CHARACTERS]
    kinds = (str.isupper, str.islower, str.isdigit)
    return _HIDDEN if all(any(map(is_kind, run)) for is_kind in kinds) else run


def read_entry(
    name: str, envelope: bytes, fleet: str, keys: Iterable[PublicKey], former: Iterable[PublicKey]
) -> Recorded:
    """Return the entry of an envelope.

    Args:
        name: the id that its topic has.
        envelope: as it came.
        fleet: whose it must be.
        keys: that are trusted now.
        former: that were trusted once. What they have signed stays in the trail, and is marked:
            who took such a key can write entries of any date with it.

    Raises:
        TrustError: none of these keys has signed it, or it says that another one has.
        MessageError: it is no entry, or not that of its topic.
    """
    trusted = tuple(keys)
    body, key = verify_statement(envelope, AUDIT, (*trusted, *former))
    entry = AuditEntry.decode(body)
    if (entry.id, entry.fleet) != (name, fleet):
        raise MessageError(
            f"cannot accept audit entry {entry.id!r} of fleet {entry.fleet!r} in place of {name!r}"
        )
    if entry.key_id != key.key_id:
        raise TrustError(
            f"cannot trust audit entry {name}: it names key {entry.key_id!r}, {key.key_id} signed"
        )
    return Recorded(entry, former=key not in trusted)


def surplus(entries: Mapping[str, bytes]) -> list[str]:
    """Return the ids of the entries that are too many, the oldest."""
    return sorted(entries)[: max(0, len(entries) - KEPT)]


def keep(path: Path, entry: AuditEntry) -> None:
    """Append an entry to the home's own copy, which is never cut.

    Raises:
        HomeError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "wb") as file:
            file.write(entry.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise HomeError(f"cannot write {path}: {error.strerror or error}") from error
