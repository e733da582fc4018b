"""Envelopes: what passes, and everything that does not."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.desired import Pins
from protocols.envelope import (
    DEPLOYMENT,
    DESIRED,
    PINS,
    Envelope,
    KeySet,
    PayloadType,
    PublicKey,
    generate_key,
    key_id,
    public_key,
    sign,
    verify,
)
from protocols.errors import MessageError, SluiceError, TrustError

ALICE, BOB, SERVER, STRANGER = (bytes([number]) * 32 for number in range(1, 5))
PAYLOAD = Pins(fleet="home", device="pi-1", by="alice")
TRUST = KeySet(
    fleet="home",
    keys=(
        public_key(ALICE, "release"),
        public_key(BOB, "release"),
        public_key(SERVER, "controller"),
    ),
)
TWO_OF_THREE = TRUST.with_(threshold={"release": 2, "controller": 1})


def test_a_generated_key_is_new_and_signs() -> None:
    one, other = generate_key(), generate_key()
    assert one != other
    trust = KeySet(fleet="home", keys=(public_key(one, "release"),))
    assert verify(sign(PAYLOAD, PINS, [one]).encode(), PINS, trust) == PAYLOAD.encode()


def edited(envelope: Envelope, edit: Callable[[dict[str, Any]], None]) -> bytes:
    document: dict[str, Any] = json.loads(envelope.encode())
    edit(document)
    return json.dumps(document).encode()


def test_a_signed_payload_comes_back_as_it_was() -> None:
    body = verify(sign(PAYLOAD, PINS, [ALICE]).encode(), PINS, TRUST)
    assert Pins.decode(body) == PAYLOAD


def test_dsse_names_its_fields_so() -> None:
    document = json.loads(sign(PAYLOAD, PINS, [ALICE]).encode())
    assert document["payloadType"] == "application/vnd.sluice.pins+json"
    assert base64.b64decode(document["payload"]) == PAYLOAD.encode()
    assert document["signatures"][0]["keyid"] == public_key(ALICE, "release").key_id


def test_what_is_signed_is_the_encoding_of_the_dsse_specification() -> None:
    asked: list[bytes] = []

    def holds(_public: bytes, _signature: bytes, message: bytes) -> bool:
        asked.append(message)
        return True

    verify(sign(PAYLOAD, PINS, [ALICE]).encode(), PINS, TRUST, holds)
    body = PAYLOAD.encode()
    assert asked == [b"DSSEv1 32 application/vnd.sluice.pins+json %d " % len(body) + body]


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_no_changed_byte_of_the_payload_passes(data: st.DataObject) -> None:
    body = bytearray(PAYLOAD.encode())
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    changed = edited(
        sign(PAYLOAD, PINS, [ALICE]),
        lambda d: d.update(payload=base64.b64encode(bytes(body)).decode()),
    )
    with pytest.raises(TrustError, match=r"^cannot trust pins: 0 of 1 needed signatures"):
        verify(changed, PINS, TRUST)


def test_an_envelope_of_another_type_is_refused() -> None:
    with pytest.raises(TrustError, match=r"^cannot trust desired: the envelope holds .*pins"):
        verify(sign(PAYLOAD, PINS, [SERVER]).encode(), DESIRED, TRUST)


def test_a_relabelled_envelope_is_refused() -> None:
    relabelled = edited(
        sign(PAYLOAD, PINS, [ALICE]), lambda document: document.update(payloadType=DEPLOYMENT)
    )
    with pytest.raises(TrustError, match=r"^cannot trust deployment: 0 of 1 needed"):
        verify(relabelled, DEPLOYMENT, TRUST)


@pytest.mark.parametrize(
    ("payload_type", "signer", "role"),
    [(PINS, SERVER, "release"), (DESIRED, ALICE, "controller")],
    ids=["pins", "desired"],
)
def test_a_key_of_the_other_role_does_not_count(
    payload_type: PayloadType, signer: bytes, role: str
) -> None:
    with pytest.raises(TrustError, match=f"0 of 1 needed signatures by a trusted {role} key"):
        verify(sign(PAYLOAD, payload_type, [signer]).encode(), payload_type, TRUST)


def test_the_error_names_who_signed() -> None:
    stranger = public_key(STRANGER, "release").key_id
    with pytest.raises(TrustError, match=f"of fleet 'home' .signed by: {stranger}"):
        verify(sign(PAYLOAD, PINS, [STRANGER]).encode(), PINS, TRUST)
    with pytest.raises(TrustError, match="signed by: nobody"):
        verify(sign(PAYLOAD, PINS, []).encode(), PINS, TRUST)


def test_a_strangers_signature_under_a_trusted_name_is_refused() -> None:
    def rename(document: dict[str, Any]) -> None:
        document["signatures"][0]["keyid"] = public_key(ALICE, "release").key_id

    with pytest.raises(TrustError, match="0 of 1"):
        verify(edited(sign(PAYLOAD, PINS, [STRANGER]), rename), PINS, TRUST)


def test_a_threshold_counts_distinct_signers() -> None:
    both = sign(PAYLOAD, PINS, [ALICE, BOB])
    assert verify(both.encode(), PINS, TWO_OF_THREE) == PAYLOAD.encode()
    for signers in ([ALICE], [ALICE, ALICE], [ALICE, STRANGER], [ALICE, SERVER]):
        with pytest.raises(TrustError, match="1 of 2 needed signatures"):
            verify(sign(PAYLOAD, PINS, signers).encode(), PINS, TWO_OF_THREE)


def test_a_key_listed_under_two_names_counts_once() -> None:
    alice = public_key(ALICE, "release")
    twice = KeySet(
        fleet="home",
        keys=(alice, PublicKey(key_id="another", role="release", public=alice.public)),
        threshold={"release": 2, "controller": 1},
    )
    signed = sign(PAYLOAD, PINS, [ALICE])
    again = signed.signatures[0].with_(keyid="another")
    with pytest.raises(TrustError, match="1 of 2"):
        verify(signed.with_(signatures=(*signed.signatures, again)).encode(), PINS, twice)


def test_a_threshold_of_nought_still_wants_one() -> None:
    careless = TRUST.with_(threshold={"release": 0, "controller": 0})
    with pytest.raises(TrustError, match="0 of 1"):
        verify(sign(PAYLOAD, PINS, []).encode(), PINS, careless)


@pytest.mark.parametrize("garbage", ["!", "YQ", "YQ==\n", "é", "YQ=", "Y Q=="])
def test_a_payload_that_is_not_base64_is_a_message_error(garbage: str) -> None:
    broken = edited(sign(PAYLOAD, PINS, [ALICE]), lambda document: document.update(payload=garbage))
    with pytest.raises(MessageError, match=r"^cannot read pins: not base64"):
        verify(broken, PINS, TRUST)


@pytest.mark.parametrize("garbage", ["!", "YQ==", "", "é"])
def test_a_signature_that_is_none_is_one_that_does_not_count(garbage: str) -> None:
    signed = sign(PAYLOAD, PINS, [ALICE, BOB])
    first, second = signed.signatures
    broken = signed.with_(signatures=(first.with_(sig=garbage), second))
    assert verify(broken.encode(), PINS, TRUST) == PAYLOAD.encode()
    with pytest.raises(TrustError, match="1 of 2"):
        verify(broken.encode(), PINS, TWO_OF_THREE)


@pytest.mark.parametrize("raw", [b"", b"short", b"x" * 33])
def test_a_trusted_key_that_is_none_trusts_nothing(raw: bytes) -> None:
    key = PublicKey(key_id=key_id(raw), role="release", public=base64.b64encode(raw).decode())
    signed = sign(PAYLOAD, PINS, [ALICE])
    renamed = signed.with_(signatures=(signed.signatures[0].with_(keyid=key_id(raw)),))
    with pytest.raises(TrustError, match="0 of 1"):
        verify(renamed.encode(), PINS, KeySet(fleet="home", keys=(key,)))


def test_too_many_signatures_are_refused_unchecked() -> None:
    signed = sign(PAYLOAD, PINS, [ALICE])
    document = edited(signed, lambda d: d.update(signatures=d["signatures"] * 17))
    with pytest.raises(MessageError, match=r"^cannot read envelope: signatures"):
        verify(document, PINS, TRUST, lambda *_: pytest.fail("a signature was checked"))


def test_an_oversized_envelope_is_refused_unread() -> None:
    payload = sign(PAYLOAD, PINS, [ALICE]).encode() + b" " * Envelope.MAX_BYTES
    with pytest.raises(MessageError, match=f"at most {Envelope.MAX_BYTES} are allowed"):
        verify(payload, PINS, TRUST)


@settings(max_examples=200, deadline=None)
@given(payload=st.binary(max_size=300))
def test_any_bytes_are_an_error_of_ours(payload: bytes) -> None:
    with pytest.raises(SluiceError):
        verify(payload, PINS, TRUST)
