"""The audit trail: what an entry says, what never gets into one, and whose word counts."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.audit import KEPT, Recorded, keep, new_entry, read_entry, surplus, without_secrets
from controller.signing import Signer
from protocols.audit import AuditEntry
from protocols.envelope import generate_key, public_key
from protocols.errors import MessageError, TrustError
from tests.controller.world import CONTROLLER, FLEET, KEYS, RELEASE

STRANGER_KEY = generate_key()
STRANGER = Signer(public_key(STRANGER_KEY, "release"), STRANGER_KEY)


def entry(key_id: str = RELEASE.key_id, now_s: float = 1764000000.5) -> AuditEntry:
    return new_entry(
        FLEET, "pinned", "pi-1", "pin on pi-1", by="alice@laptop", key_id=key_id, now_s=now_s
    )


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
    many = {entry(now_s=float(second)).id: b"" for second in range(KEPT + 3)}
    assert surplus(many) == sorted(many)[:3]
    assert surplus(dict.fromkeys(ids, b"")) == []


@pytest.mark.parametrize("signer", [RELEASE, CONTROLLER], ids=["release", "controller"])
def test_whoever_acts_signs_with_the_own_key(signer: Signer) -> None:
    made = entry(signer.key_id)
    assert read_entry(made.id, signer.sign_entry(made), FLEET, KEYS.keys, ()) == Recorded(made)


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
