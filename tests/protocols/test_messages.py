"""Every message, to bytes and back; what readers forgive and what they refuse."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from protocols.audit import AuditEntry
from protocols.bundle import Bundle
from protocols.desired import ControllerStatus, Deployment, Desired, Pins
from protocols.device import (
    CascadeStats,
    Event,
    Inventory,
    Reported,
    StageStats,
    Status,
    Telemetry,
)
from protocols.enrolment import EnrolmentFile
from protocols.envelope import Envelope, KeySet
from protocols.errors import MessageError
from protocols.message import Message
from protocols.rollout import Rollout
from protocols.roster import RosterEntry
from protocols.schedule import Schedule
from tests.protocols.strategies import messages

CLASSES: tuple[type[Message], ...] = (
    AuditEntry,
    Bundle,
    ControllerStatus,
    Deployment,
    Desired,
    EnrolmentFile,
    Envelope,
    Event,
    Inventory,
    KeySet,
    Pins,
    Reported,
    Rollout,
    RosterEntry,
    Schedule,
    Status,
    Telemetry,
)
GOLDEN = Path(__file__).parent / "golden"

every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


def golden(cls: type[Message]) -> dict[str, Any]:
    """Return the frozen example of a message."""
    found: dict[str, Any] = json.loads((GOLDEN / f"{cls.__name__}.json").read_bytes())
    return found


def required(cls: type[Message]) -> list[str]:
    return [name for name, field in cls.model_fields.items() if field.is_required()]


def test_every_message_of_the_wire_is_tested_here() -> None:
    defined = {c for c in Message.__subclasses__() if c.__module__.startswith("protocols.")}
    assert defined == set(CLASSES)


@every_class
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_it_survives_the_wire(cls: type[Message], data: st.DataObject) -> None:
    message = data.draw(messages(cls))
    assert cls.decode(message.encode()) == message


@every_class
def test_the_frozen_example_reads_and_writes_as_it_always_did(cls: type[Message]) -> None:
    frozen = golden(cls)
    message = cls.decode(json.dumps(frozen).encode())
    assert json.loads(message.model_dump_json(exclude_unset=True)) == frozen
    assert cls.decode(message.encode()) == message


@every_class
def test_the_frozen_example_shows_every_field(cls: type[Message]) -> None:
    assert set(golden(cls)) == set(cls.model_fields)


@every_class
def test_unknown_fields_are_ignored_at_every_depth(cls: type[Message]) -> None:
    frozen = golden(cls)
    message = cls.decode(json.dumps(frozen).encode())
    later = json.dumps(_with_more(message))
    assert later.count(_LATER) > 0
    assert cls.decode(later.encode()) == message


_LATER = "a field of a later version"


def _with_more(value: object) -> object:
    """Return JSON as a later version might write it: one more field in every object."""
    match value:
        case BaseModel():
            known = {name: _with_more(part) for name, part in value}
            return {**known, _LATER: [1, {"deep": None}]}
        case tuple():
            return [_with_more(part) for part in value]
        case dict():
            return {name: _with_more(part) for name, part in value.items()}
        case _:
            return value


@every_class
def test_a_missing_field_is_named(cls: type[Message]) -> None:
    for name in required(cls):
        rest = {n: v for n, v in golden(cls).items() if n != name}
        with pytest.raises(MessageError, match=rf"^cannot read {cls.KIND}: .*{name}"):
            cls.decode(json.dumps(rest).encode())


@every_class
@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_refused(cls: type[Message], version: object) -> None:
    with pytest.raises(MessageError, match=rf"^cannot read {cls.KIND}: v:"):
        cls.decode(json.dumps({**golden(cls), "v": version}).encode())


@every_class
def test_too_many_bytes_are_refused_unread(cls: type[Message]) -> None:
    payload = b" " * (cls.MAX_BYTES + 1)
    with pytest.raises(MessageError, match=f"{len(payload)} bytes, at most {cls.MAX_BYTES}"):
        cls.decode(payload)


@every_class
@settings(max_examples=25, deadline=None)
@given(payload=st.binary(max_size=200))
def test_any_bytes_are_a_message_error_or_a_message(cls: type[Message], payload: bytes) -> None:
    try:
        cls.decode(payload)
    except MessageError as error:
        assert str(error).startswith(f"cannot read {cls.KIND}: ")  # noqa: PT017


@every_class
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_message_is_a_message_error_or_a_message(
    cls: type[Message], data: st.DataObject
) -> None:
    payload = bytearray(json.dumps(golden(cls)).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(payload) - 1))
        payload[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        cls.decode(bytes(payload))
    except MessageError as error:
        assert str(error).startswith(f"cannot read {cls.KIND}: ")  # noqa: PT017


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    text = json.dumps(golden(Event)).replace('"ts": 1764000000.5', f'"ts": {number}')
    assert number in text
    with pytest.raises(MessageError, match="cannot read event"):
        Event.decode(text.encode())


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(MessageError, match="cannot read status"):
        Status.decode(b"[" * 100_000)


def test_with_validates_anew() -> None:
    status = Status(device="pi-1", online=True, boot_id="b", version="0.1.0")
    assert status.with_(online=False) == Status(
        device="pi-1", online=False, boot_id="b", version="0.1.0"
    )
    with pytest.raises(ValueError, match="device"):
        status.with_(device="no/slash")


@pytest.mark.parametrize("wrong", [-1, 10**400])
def test_a_count_is_one_that_can_be_computed_with(wrong: int) -> None:
    said = {"name": "small", "variant": "int8", "loaded": True}
    stage = StageStats.model_validate({**said, "confidence": (0, 7)})
    assert stage.confidence == (0, 7)
    with pytest.raises(ValidationError):
        StageStats.model_validate({**said, "confidence": (0, wrong)})
    with pytest.raises(ValidationError):
        CascadeStats.model_validate({"name": "d", "version": 1, "stages": (), "answers": wrong})
