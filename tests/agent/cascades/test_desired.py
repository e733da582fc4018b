"""The document in force: what comes in, what lasts, and what is taken again."""

from pathlib import Path

import pytest

from agent.cascades.desired import DesiredDocument
from agent.errors import ChildError
from agent.storage.ledger import Ledger, LedgerFile
from agent.trust import KeySets
from protocols.desired import Desired
from protocols.envelope import (
    DESIRED,
    Envelope,
    Holds,
    KeySet,
    add_signatures,
    ed25519_holds,
    generate_key,
    public_key,
    sign,
)
from protocols.schedule import Schedule
from tests.agent.reporting.test_publisher import Wire, speak

KEY = generate_key()
KEYS = KeySet(fleet="home", keys=(public_key(KEY, "controller"),))


def signed(generation: int, device: str = "pi", **more: float) -> bytes:
    desired = Desired(
        fleet="home", device=device, generation=generation, schedule=Schedule(), **more
    )
    return sign(desired, DESIRED, [KEY]).encode()


class Clock:
    """Unix time in seconds, or None: it is not synchronized."""

    def __init__(self) -> None:
        self.now_s: float | None = None

    def __call__(self) -> float | None:
        return self.now_s


def document(
    folder: Path, holds: Holds = ed25519_holds, clock: Clock | None = None
) -> tuple[DesiredDocument, LedgerFile, Wire]:
    wire, publisher = speak()
    ledger = LedgerFile(folder / "ledger.json")
    trust, clock = KeySets((KEYS,)), clock or Clock()
    return DesiredDocument("pi", trust, holds, ledger, publisher, clock), ledger, wire


class Failing:
    """A check that cannot be made until it is mended."""

    def __init__(self) -> None:
        self.mended = False

    def __call__(self, public: bytes, signature: bytes, message: bytes) -> bool:
        if not self.mended:
            raise ChildError("cannot check a signature: no memory")
        return ed25519_holds(public, signature, message)


def test_what_is_in_force_is_on_disk(tmp_path: Path) -> None:
    found, _, _ = document(tmp_path)
    assert not found.take(b"")
    assert found.take(signed(3))
    assert not found.take(signed(3))
    assert LedgerFile(tmp_path / "ledger.json").now.generation == 3
    assert not found.take(signed(2))
    assert found.refusal is not None
    again, _, _ = document(tmp_path)
    assert again.desired is not None
    assert again.desired.generation == 3


def test_a_disk_that_takes_nothing_costs_no_generation(tmp_path: Path) -> None:
    found, ledger, _ = document(tmp_path / "nowhere")
    assert not found.take(signed(1))
    assert found.desired is None
    assert ledger.now == Ledger()
    assert found.refusal is not None
    assert found.refusal.generation == 1
    assert found.refusal.message.startswith("cannot apply generation 1: cannot write")
    assert not found.retry()
    (tmp_path / "nowhere").mkdir()
    assert found.retry()
    assert found.refusal is None
    assert not found.retry()
    assert LedgerFile(tmp_path / "nowhere" / "ledger.json").now.generation == 1


@pytest.mark.parametrize("by", ["the broker", "itself"])
def test_what_could_not_be_checked_at_the_start_is_taken_again(tmp_path: Path, by: str) -> None:
    document(tmp_path)[0].take(signed(5))
    holds = Failing()
    found, _, _ = document(tmp_path, holds)
    assert found.desired is None
    assert not found.retry()
    holds.mended = True
    assert found.take(signed(5)) if by == "the broker" else found.retry()
    assert found.desired is not None
    assert found.desired.generation == 5
    assert found.refusal is None


def test_the_memory_of_another_device_is_not_acted_on(tmp_path: Path) -> None:
    envelope = signed(5, "the-device-whose-card-was-copied")
    LedgerFile(tmp_path / "ledger.json").write(Ledger(generation=5, desired=envelope.decode()))
    found, _, _ = document(tmp_path)
    assert found.desired is None
    assert found.refusal is not None
    assert "the-device-whose-card-was-copied" in found.refusal.message
    assert not found.take(signed(5))
    assert found.take(signed(6))


def test_what_has_expired_is_refused_by_a_clock_that_is_right(tmp_path: Path) -> None:
    clock = Clock()
    found, ledger, _ = document(tmp_path, clock=clock)
    clock.now_s = 1000.0
    assert found.take(signed(1, ts=900.0, expires_ts=1001.0))
    assert not found.take(signed(2, ts=900.0, expires_ts=1000.0))
    assert found.refusal is not None
    assert found.refusal.message.startswith("cannot apply generation 2: it expired 0 s ago")
    assert found.refusal.generation == 2
    assert ledger.now.generation == 1
    clock.now_s = None
    assert found.take(signed(3, ts=800.0, expires_ts=900.0)), "nobody can say that it is late"


def test_what_is_in_force_never_expires(tmp_path: Path) -> None:
    clock = Clock()
    clock.now_s = 1000.0
    envelope = signed(1, ts=900.0, expires_ts=1001.0)
    document(tmp_path, clock=clock)[0].take(envelope)
    clock.now_s = 5000.0
    found, _, _ = document(tmp_path, clock=clock)
    assert found.desired is not None
    assert not found.take(envelope)
    assert found.refusal is None


def test_it_is_no_earlier_than_the_newest_document_says(tmp_path: Path) -> None:
    clock = Clock()
    clock.now_s = 1000.0
    found, ledger, _ = document(tmp_path, clock=clock)
    assert found.take(signed(1, ts=2000.0))
    assert ledger.now.newest_ts == 2000.0
    assert not found.take(signed(2, ts=900.0, expires_ts=1500.0))
    assert found.take(signed(2, ts=900.0, expires_ts=2001.0))
    assert LedgerFile(tmp_path / "ledger.json").now.newest_ts == 2000.0


def test_the_same_document_with_one_more_signature_is_no_other(tmp_path: Path) -> None:
    found, ledger, _ = document(tmp_path)
    found.take(signed(1))
    more = add_signatures(Envelope.decode(signed(1)), [generate_key()]).encode()
    found.take(more)
    assert found.refusal is None
    assert ledger.now.desired.encode() == more


def test_a_key_that_comes_later_vouches_for_what_came_before_it(tmp_path: Path) -> None:
    found, _, _ = document(tmp_path)
    found.take(signed(1))
    new = generate_key()
    desired = Desired(fleet="home", device="pi", generation=2, schedule=Schedule())
    assert not found.take(sign(desired, DESIRED, [new]).encode())
    assert not found.retry()
    keys = KEYS.with_(version=1, keys=(public_key(new, "controller"),))
    found.renew(KeySets((KEYS, keys)))
    assert found.desired is not None
    assert found.desired.generation == 1, "what is in force stays"
    assert found.retry()
    assert found.desired.generation == 2
    assert not found.take(signed(3)), "by the key that went"
