"""The document in force: what comes in, what lasts, and what is taken again."""

from pathlib import Path

import pytest

from agent.cascades.desired import DesiredDocument
from agent.errors import ChildError
from agent.storage.ledger import Ledger, LedgerFile
from protocols.desired import Desired
from protocols.envelope import (
    DESIRED,
    Holds,
    KeySet,
    ed25519_holds,
    generate_key,
    public_key,
    sign,
)
from protocols.schedule import Schedule
from tests.agent.reporting.test_publisher import Wire, speak

KEY = generate_key()
KEYS = KeySet(fleet="home", keys=(public_key(KEY, "controller"),))


def signed(generation: int, device: str = "pi") -> bytes:
    desired = Desired(fleet="home", device=device, generation=generation, schedule=Schedule())
    return sign(desired, DESIRED, [KEY]).encode()


def document(
    folder: Path, holds: Holds = ed25519_holds
) -> tuple[DesiredDocument, LedgerFile, Wire]:
    wire, publisher = speak()
    ledger = LedgerFile(folder / "ledger.json")
    return DesiredDocument("pi", KEYS, holds, ledger, publisher), ledger, wire


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
