"""The keys of a device: which count after a restart, and what happens where they cannot be kept."""

from pathlib import Path

import pytest

from agent.trust import KeySets, Trust, read_key_sets, resume
from protocols.device import Event
from protocols.envelope import KEYS, KeySet, ed25519_holds, generate_key, public_key, sign
from protocols.errors import TrustError
from tests.agent.cascades.test_desired import Failing
from tests.agent.reporting.test_publisher import INVENTORY, speak

RELEASE, CONTROLLER, NEW = generate_key(), generate_key(), generate_key()


def key_set(version: int, release: bytes = RELEASE) -> KeySet:
    keys = (public_key(release, "release"), public_key(CONTROLLER, "controller"))
    return KeySet(fleet="home", version=version, keys=keys)


FIRST, SECOND, THIRD = key_set(0), key_set(1, NEW), key_set(2)


def envelope(keys: KeySet) -> bytes:
    return sign(keys, KEYS, [RELEASE, NEW]).encode()


@pytest.mark.parametrize(
    ("configured", "kept", "found"),
    [
        (FIRST, (), (FIRST,)),
        (FIRST, (FIRST, SECOND, THIRD), (FIRST, SECOND, THIRD)),
        (SECOND, (FIRST, SECOND, THIRD), (SECOND, THIRD)),
        (THIRD, (FIRST, SECOND), (THIRD,)),
        (key_set(1), (FIRST, SECOND, THIRD), (key_set(1),)),
    ],
    ids=["nothing kept", "goes on", "a newer file", "newest file", "another word of a person"],
)
def test_what_is_kept_counts_where_it_goes_on_from_the_trust_file(
    configured: KeySet, kept: tuple[KeySet, ...], found: tuple[KeySet, ...]
) -> None:
    assert resume(configured, kept) == KeySets(found)


@pytest.mark.parametrize("kept", [(FIRST, THIRD), (FIRST, SECOND.with_(fleet="other"))])
def test_what_is_no_chain_counts_for_nothing(kept: tuple[KeySet, ...]) -> None:
    with pytest.raises(TrustError, match="cannot trust keys"):
        resume(FIRST, kept)


def test_keys_count_once_they_are_on_disk(tmp_path: Path) -> None:
    _, publisher = speak()
    path = tmp_path / "state" / "keys.json"
    trust = Trust(path, FIRST, ed25519_holds, publisher)
    assert not trust.take(envelope(SECOND))
    assert trust.now.keys == FIRST
    assert not trust.retry()
    path.parent.mkdir()
    assert trust.retry()
    assert not trust.retry()
    assert trust.now == KeySets((FIRST, SECOND))
    assert read_key_sets(path, FIRST) == (KeySets((FIRST, SECOND)), "")
    assert not trust.take(b"")
    assert not trust.take(envelope(SECOND)), "the same once more"
    assert trust.take(envelope(THIRD))


def test_a_key_set_that_could_not_be_checked_is_taken_again(tmp_path: Path) -> None:
    wire, publisher = speak()
    publisher.connected(INVENTORY)
    holds = Failing()
    trust = Trust(tmp_path / "keys.json", FIRST, holds, publisher)
    assert not trust.take(envelope(SECOND))
    assert not trust.retry()
    holds.mended = True
    assert trust.retry()
    told = [Event.decode(payload) for kind, payload, *_ in wire.sent if kind == "events"]
    assert [event.kind for event in told] == ["refused", "keys"], "the refusal is said once"
