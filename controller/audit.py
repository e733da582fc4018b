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
from protocols.audit import Act, AuditEntry, role_of
from protocols.envelope import AUDIT, KeySet, PublicKey
from protocols.errors import MessageError, SluiceError, TopicError, TrustError
from protocols.topics import Topics
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
        TrustError: none of these keys has signed it, it says that another one has, or that key is
            not of the role that does such acts.
        MessageError: it is no entry, or not that of its topic.
    """
    trusted = tuple(keys)
    known = (*trusted, *former)
    body, key = verify_statement(envelope, AUDIT, known)
    entry = AuditEntry.decode(body)
    if (entry.id, entry.fleet) != (name, fleet):
        raise MessageError(
            f"cannot accept audit entry {entry.id!r} of fleet {entry.fleet!r} in place of {name!r}"
        )
    if entry.key_id != key.key_id:
        raise TrustError(
            f"cannot trust audit entry {name}: it names key {entry.key_id!r}, {key.key_id} signed"
        )
    role = role_of(entry.act)
    able = [one for one in known if (one.key_id, one.role) == (key.key_id, role)]
    if not able:
        raise TrustError(
            f"cannot trust audit entry {name}: {entry.act!r} needs a {role} key, {key.key_id} is "
            f"a {key.role} key"
        )
    return Recorded(entry, former=able[0] not in trusted)


@dataclass(frozen=True, slots=True)
class Trail:
    """What the broker has of the trail.

    Attributes:
        entries: those that hold, by topic.
        junk: why others do not, by topic.
        misplaced: topics that can be of no entry.
    """

    entries: dict[str, Recorded]
    junk: dict[str, str]
    misplaced: tuple[str, ...]


def read_trail(found: Mapping[str, bytes], topics: Topics, keys: KeySet) -> Trail:
    """Return what is in the trail: one that is wrong hides no other.

    Args:
        found: envelopes by topic.
        topics: of the fleet.
        keys: of the fleet.
    """
    trail = Trail({}, {}, tuple(topic for topic in found if not _is_place(topic, topics)))
    for topic in found.keys() - set(trail.misplaced):
        name = topics.parse(topic).name
        try:
            entry = read_entry(name, found[topic], topics.fleet, keys.keys, keys.former)
        except SluiceError as error:
            trail.junk[topic] = str(error)
        else:
            trail.entries[topic] = entry
    return trail


def surplus(trail: Trail) -> list[str]:
    """Return the topics to clear: what can be no entry, and of more than `KEPT` the oldest.

    What does not hold goes first: who may only write to the broker cannot crowd entries out. It
    goes for room alone, since keys may yet come that it was signed with.
    """
    too_many = max(0, len(trail.entries) + len(trail.junk) - KEPT)
    ordered = [*sorted(trail.junk), *sorted(trail.entries)]
    return [*trail.misplaced, *ordered[:too_many]]


def _is_place(topic: str, topics: Topics) -> bool:
    try:
        return topics.parse(topic).kind == "audit"
    except TopicError:
        return False


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
