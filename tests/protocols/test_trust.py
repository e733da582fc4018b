"""Keys that follow keys: signed by those of before and by their own, one version at a time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.audit import AuditEntry
from protocols.desired import Pins
from protocols.envelope import (
    AUDIT,
    KEYS,
    PINS,
    Envelope,
    KeySet,
    add_signatures,
    public_key,
    sign,
)
from protocols.errors import TrustError
from protocols.trust import check_usable, count_signers, verify_rotation, verify_statement

KEYRING = [bytes([number]) * 32 for number in range(1, 7)]
OLD, NEW = KEYRING[:3], KEYRING[2:5]
SERVER = bytes([9]) * 32
PAYLOAD = Pins(fleet="home", device="pi-1")


def key_set(version: int, release: list[bytes], threshold: int) -> KeySet:
    keys = (*(public_key(key, "release") for key in release), public_key(SERVER, "controller"))
    return KeySet(
        fleet="home",
        version=version,
        keys=keys,
        threshold={"release": threshold, "controller": 1},
    )


@settings(max_examples=150, deadline=None)
@given(
    signers=st.sets(st.sampled_from([*KEYRING, SERVER])),
    before=st.integers(1, 3),
    after=st.integers(1, 3),
)
def test_a_rotation_needs_enough_of_both(signers: set[bytes], before: int, after: int) -> None:
    now, then = key_set(4, OLD, before), key_set(5, NEW, after)
    envelope = sign(then, KEYS, sorted(signers)).encode()
    enough = len(signers & set(OLD)) >= before and len(signers & set(NEW)) >= after
    if enough:
        assert verify_rotation(envelope, now) == then
    else:
        with pytest.raises(TrustError, match="needed signatures by a trusted release key"):
            verify_rotation(envelope, now)


@given(step=st.integers(-4, 10).filter(lambda step: step != 1))
@settings(max_examples=14, deadline=None)
def test_no_version_is_left_out_or_taken_back(step: int) -> None:
    envelope = sign(key_set(4 + step, NEW, 1), KEYS, KEYRING).encode()
    with pytest.raises(TrustError, match=f"version {4 + step} does not follow version 4"):
        verify_rotation(envelope, key_set(4, OLD, 1))


@pytest.mark.parametrize("threshold", [0, -1, 4])
def test_a_threshold_that_means_nothing_is_refused(threshold: int) -> None:
    with pytest.raises(TrustError, match="signatures of the release role"):
        check_usable(key_set(1, NEW, threshold))


def test_a_key_that_is_named_twice_is_refused() -> None:
    with pytest.raises(TrustError, match="named twice"):
        check_usable(key_set(1, [NEW[0], NEW[0]], 1))


def test_signatures_come_one_after_the_other() -> None:
    trust = key_set(0, OLD, 2)
    envelope = sign(PAYLOAD, PINS, [OLD[0]])
    assert count_signers(envelope.encode(), PINS, trust) == 1
    both = add_signatures(envelope, [OLD[1]])
    assert both.payload == envelope.payload
    assert count_signers(both.encode(), PINS, trust) == 2
    assert add_signatures(both, [OLD[0]]) == both
    stranger = add_signatures(envelope, [KEYRING[5]])
    assert count_signers(stranger.encode(), PINS, trust) == 1


def test_an_envelope_is_never_given_more_signatures_than_a_reader_takes() -> None:
    envelope = sign(PAYLOAD, PINS, [bytes([number]) * 32 for number in range(20, 36)])
    assert Envelope.decode(envelope.encode()) == envelope
    with pytest.raises(TrustError, match="at most 16"):
        add_signatures(envelope, [OLD[0]])


def test_a_statement_needs_one_of_the_keys() -> None:
    entry = AuditEntry(
        id="1-a", fleet="home", ts=1.0, by="alice", key_id="", act="pinned", target="pi"
    )
    envelope = sign(entry, AUDIT, [SERVER]).encode()
    keys = key_set(0, OLD, 2).keys
    assert verify_statement(envelope, AUDIT, keys) == (entry.encode(), keys[-1])
    with pytest.raises(TrustError, match="no trusted key has signed it"):
        verify_statement(envelope, AUDIT, keys[:-1])
    with pytest.raises(TrustError, match="the envelope holds"):
        verify_statement(sign(PAYLOAD, PINS, [OLD[0]]).encode(), AUDIT, keys)
