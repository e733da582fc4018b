"""A document for another machine of this name: refused, reported, and nothing changed."""

from pathlib import Path

import pytest

from agent.cascades.acceptance import check_machine
from agent.cascades.desired import DesiredDocument
from agent.errors import RefusalError
from agent.storage.ledger import LedgerFile
from agent.trust import KeySets
from protocols.desired import Desired
from protocols.enrolment import Enrolment, enrolment_of
from protocols.envelope import DESIRED, ed25519_holds, sign
from protocols.schedule import Schedule
from tests.agent.cascades.test_desired import KEY, KEYS
from tests.agent.reporting.test_publisher import speak

MINE, ANOTHER = (enrolment_of("a" * 32, f"machine {n}") for n in (1, 2))


def desired(generation: int, enrolment: Enrolment | None) -> Desired:
    return Desired(
        fleet="home",
        device="pi",
        generation=generation,
        schedule=Schedule(),
        enrolment=enrolment,
    )


def test_what_is_bound_to_no_machine_is_for_all() -> None:
    for mine in (None, MINE):
        check_machine(desired(1, None), mine)
    check_machine(desired(1, MINE), MINE)


@pytest.mark.parametrize("mine", [None, ANOTHER, enrolment_of("b" * 32, "machine 1")])
def test_what_is_bound_to_another_is_refused(mine: Enrolment | None) -> None:
    with pytest.raises(RefusalError, match=r"^cannot apply generation 7: .*another machine"):
        check_machine(desired(7, MINE), mine)


def test_a_copy_goes_on_with_what_it_has_and_takes_nothing_new(tmp_path: Path) -> None:
    _, publisher = speak()
    ledger = LedgerFile(tmp_path / "ledger.json")

    def document(enrolment: Enrolment) -> DesiredDocument:
        return DesiredDocument(
            "pi", KeySets((KEYS,)), ed25519_holds, ledger, publisher, lambda: None,
            enrolment=enrolment,
        )  # fmt: skip

    first, second = (sign(desired(n, MINE), DESIRED, [KEY]).encode() for n in (1, 2))
    original = document(MINE)
    assert original.take(first)
    copy = document(ANOTHER)
    assert copy.desired == desired(1, MINE), "what ran on the card goes on"
    assert not copy.take(second)
    assert copy.refusal is not None
    assert "another machine" in copy.refusal.message
    assert ledger.now.generation == 1
    assert document(MINE).take(second)
