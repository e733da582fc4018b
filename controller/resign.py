"""Documents that would lose their word with a key, signed by another one as well. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from controller.steps import PutSigned
from protocols.envelope import (
    BUNDLE,
    KEYS,
    ROLE_OF,
    Envelope,
    KeySet,
    PayloadType,
    Role,
    short,
    verify,
)
from protocols.errors import MessageError, TrustError

AddTo = Callable[[Role, Envelope], Envelope]
"""Adds the signatures of the keys of a role that are here; returns it as it is where none is."""


@dataclass(frozen=True, slots=True)
class Resigned:
    """What a change of keys means for the documents that there are.

    Attributes:
        steps: what is published, before the keys change: good under the old ones and the new ones.
        lost: the topics of those that nobody here can sign anew.
    """

    steps: tuple[PutSigned, ...]
    lost: tuple[str, ...]


def resign(documents: Mapping[str, bytes], before: KeySet, after: KeySet, add: AddTo) -> Resigned:
    """Return what keeps good documents good when the keys change.

    Args:
        documents: signed payloads by topic; what is no envelope, or not good now, is left alone.
        before: the keys of now.
        after: those that will be.
        add: signs with the keys that are here.
    """
    steps: list[PutSigned] = []
    lost: list[str] = []
    for topic, payload in sorted(documents.items()):
        kind = _kind(payload)
        if kind in {None, KEYS} or not _is_good(payload, kind, before):
            continue
        if _is_good(payload, kind, after):
            continue
        envelope = add(ROLE_OF[kind], _without_strangers(payload, before, after)).encode()
        if _is_good(envelope, kind, after) and _is_good(envelope, kind, before):
            steps.append(PutSigned(topic, envelope, f"{short(kind)} {_place(topic)}"))
        else:
            lost.append(topic)
    return Resigned(tuple(steps), tuple(lost))


def distrusted(
    bundles: Iterable[tuple[str, bytes]], before: KeySet, after: KeySet
) -> tuple[str, ...]:
    """Return the names of the bundles that only keys which go have signed well.

    Args:
        bundles: names and envelopes.
        before: the keys of now.
        after: those that will be.
    """
    return tuple(
        name
        for name, envelope in bundles
        if _is_good(envelope, BUNDLE, before) and not _is_good(envelope, BUNDLE, after)
    )


def _kind(payload: bytes) -> PayloadType | None:
    try:
        said = Envelope.decode(payload).payloadType
    except MessageError:
        return None
    return next((kind for kind in ROLE_OF if kind == said), None)


def _without_strangers(payload: bytes, *keys: KeySet) -> Envelope:
    """Return an envelope without the signatures of keys that are in none of these sets.

    An envelope holds a limited number: those of keys long gone must not crowd new ones out.
    """
    known = {key.key_id for one in keys for key in one.keys}
    envelope = Envelope.decode(payload)
    return envelope.with_(signatures=tuple(s for s in envelope.signatures if s.keyid in known))


def _is_good(payload: bytes, kind: PayloadType | None, keys: KeySet) -> bool:
    if kind is None:
        return False
    try:
        verify(payload, kind, keys)
    except (TrustError, MessageError):
        return False
    return True


def _place(topic: str) -> str:
    return "/".join(topic.split("/")[3:])
