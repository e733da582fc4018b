"""The audit trail: what an entry says, what never gets into one, and whose word counts."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.audit import (
    KEPT,
    Recorded,
    Trail,
    keep,
    new_entry,
    read_entry,
    read_trail,
    surplus,
    without_secrets,
)
from controller.signing import Signer
from protocols.audit import Act, AuditEntry
from protocols.envelope import generate_key, public_key
from protocols.errors import MessageError, TrustError
from tests.controller.world import CONTROLLER, FLEET, KEYS, RELEASE, TOPICS

STRANGER_KEY = generate_key()
STRANGER = Signer(public_key(STRANGER_KEY, "release"), STRANGER_KEY)


def entry(
    key_id: str = RELEASE.key_id, now_s: float = 1764000000.5, act: Act = "pinned"
) -> AuditEntry:
    return new_entry(
        FLEET, act, "pi-1", "pin on pi-1", by="alice@laptop", key_id=key_id, now_s=now_s
    )


def envelopes(count: int, signer: Signer = RELEASE) -> dict[str, bytes]:
    """Return entries by topic, made at 0, 1, 2, ... seconds."""
    made = [entry(signer.key_id, float(second)) for second in range(count)]
    return {TOPICS.audit(one.id): signer.sign_entry(one) for one in made}


@given(raw=st.binary(min_size=32, max_size=64), words=st.text(max_size=30))
def test_a_key_in_base64_never_gets_in(raw: bytes, words: str) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        secret = encode(raw).decode()
        kinds = (str.isupper, str.islower, str.isdigit)
        if all(any(map(kind, secret)) for kind in kinds):
            said = new_entry(
                FLEET, "pinned", secret, f"{words} {secret}", by=secret, key_id="k", now_s=1.0
            )
            assert secret.rstrip("=") not in said.model_dump_json()


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("mqtts://ctl:hunter2@broker.example:8883", "mqtts://broker.example:8883"),
        ("put digits@2: " + "0123456789abcdef" * 4, "put digits@2: 0123456789ab"),
        ("a-device-with-a-very-long-name-that-nobody-would-ever-give-1", None),
        ("deployment digits-v2-1a2b3c of digits@2", None),
    ],
)
def test_credentials_go_and_digests_are_cut(words: str, shown: str | None) -> None:
    assert without_secrets(words) == (words if shown is None else shown)
    assert without_secrets(without_secrets(words)) == without_secrets(words)


def test_ids_sort_by_time_and_the_oldest_are_too_many() -> None:
    ids = [entry(now_s=float(second)).id for second in (5, 900, 2, 1764000000)]
    assert sorted(ids) == [ids[2], ids[0], ids[1], ids[3]]
    held = Recorded(entry())
    many = {entry(now_s=float(second)).id: held for second in range(KEPT + 3)}
    assert surplus(Trail(many, {}, ())) == sorted(many)[:3]
    assert surplus(Trail(dict.fromkeys(ids, held), {}, ())) == []


def test_junk_crowds_no_entry_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.audit.KEPT", 6)
    good, forged = envelopes(4), envelopes(4, STRANGER)
    junk = {TOPICS.audit("9999999999999-z"): b"{}", **forged}
    trail = read_trail({**good, **junk, TOPICS.audit("-x"): b"y"}, TOPICS, KEYS)
    assert trail.entries.keys() == good.keys()
    assert trail.junk.keys() == junk.keys()
    assert trail.misplaced == (TOPICS.audit("-x"),)
    assert surplus(trail) == [TOPICS.audit("-x"), *sorted(junk)[:3]]
    assert surplus(read_trail(good, TOPICS, KEYS)) == []


@pytest.mark.parametrize(
    ("act", "mine", "other"),
    [
        ("pinned", RELEASE, CONTROLLER),
        ("keys-changed", RELEASE, CONTROLLER),
        ("rollout-undone", RELEASE, CONTROLLER),
        ("rollout-started", CONTROLLER, RELEASE),
        ("rollout-stopped", CONTROLLER, RELEASE),
        ("rollout-completed", CONTROLLER, RELEASE),
    ],
)
def test_whoever_acts_signs_with_the_own_key(act: Act, mine: Signer, other: Signer) -> None:
    made = entry(mine.key_id, act=act)
    assert read_entry(made.id, mine.sign_entry(made), FLEET, KEYS.keys, ()) == Recorded(made)
    forged = entry(other.key_id, act=act)
    with pytest.raises(TrustError, match=f"needs a {mine.public.role} key"):
        read_entry(forged.id, other.sign_entry(forged), FLEET, KEYS.keys, ())


def test_one_key_may_have_both_roles() -> None:
    both = KEYS.with_(keys=(CONTROLLER.public.with_(role="release"), *KEYS.keys))
    for act in ("pinned", "rollout-started"):
        made = entry(CONTROLLER.key_id, act=act)
        envelope = CONTROLLER.sign_entry(made)
        assert read_entry(made.id, envelope, FLEET, both.keys, ()) == Recorded(made)


def test_what_a_former_key_has_signed_stays_and_is_marked() -> None:
    made = entry(STRANGER.key_id)
    envelope = STRANGER.sign_entry(made)
    with pytest.raises(TrustError, match="no trusted key"):
        read_entry(made.id, envelope, FLEET, KEYS.keys, ())
    found = read_entry(made.id, envelope, FLEET, KEYS.keys, (STRANGER.public,))
    assert found == Recorded(made, former=True)


def test_an_entry_in_another_place_or_name_is_refused() -> None:
    made = entry()
    envelope = RELEASE.sign_entry(made)
    with pytest.raises(MessageError, match="in place of"):
        read_entry("0000000000001-a", envelope, FLEET, KEYS.keys, ())
    with pytest.raises(MessageError, match="of fleet 'test'"):
        read_entry(made.id, envelope, "other", KEYS.keys, ())
    with pytest.raises(TrustError, match="it names key"):
        read_entry(made.id, CONTROLLER.sign_entry(made), FLEET, KEYS.keys, ())


def test_the_home_keeps_every_entry_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "home" / "audit.jsonl"
    made = [entry(now_s=1.0), entry(now_s=2.0)]
    for one in made:
        keep(path, one)
    lines = path.read_text().splitlines()
    assert [AuditEntry.model_validate(json.loads(line)) for line in lines] == made
    assert path.stat().st_mode & 0o077 == 0
