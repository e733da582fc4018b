"""What waits for charge, and what does not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cascades.battery import held, low
from agent.cascades.choice import Choice, Facts
from agent.cascades.reported import Running
from agent.cascades.verdicts import Verdict
from agent.storage.ledger import Ledger
from protocols.desired import DesiredCascade
from protocols.device import Sample
from protocols.schedule import Power
from tests.agent.bundles import make_bundle, wanted

POWER = Power()
ONE, TWO, THREE = (wanted(make_bundle(version=number)) for number in (1, 2, 3))
OTHER = wanted(make_bundle(name="faces"))
LOW = "waits: battery 12 %, unplugged; applies from 30 % or when plugged"


def battery(percent: float | None, *, plugged: bool | None = False) -> Sample:
    return Sample(time_s=0, battery_percent=percent, battery_plugged=plugged)


def test_it_says_what_it_waits_for_until_it_is_plugged_or_charged() -> None:
    assert low(battery(12.4), POWER, "") == LOW
    assert low(battery(29.9), POWER, LOW) == LOW
    assert low(battery(5), POWER, LOW) == LOW, "told once, not at every percent"
    assert low(battery(30), POWER, LOW) == ""
    assert low(battery(6, plugged=True), POWER, LOW) == ""


@pytest.mark.parametrize(
    ("percent", "plugged", "waits"),
    [
        (14.9, False, True),
        (15, False, False),
        (20, False, False),
        (3, True, False),
        (None, None, False),
        (None, False, False),
        (12, None, True),
    ],
)
def test_only_a_low_charge_that_is_known_and_not_known_to_be_plugged(
    percent: float | None,
    plugged: bool | None,  # noqa: FBT001 - a parameter of the test
    waits: bool,  # noqa: FBT001
) -> None:
    assert bool(low(battery(percent, plugged=plugged), POWER, "")) == waits


def test_a_charge_that_is_told_no_more_is_as_low_as_it_was() -> None:
    assert low(battery(None), POWER, LOW) == LOW
    assert low(battery(None, plugged=True), POWER, LOW) == ""


def test_at_zero_percent_the_policy_is_off() -> None:
    off = Power(apply_percent=0, resume_percent=0)
    assert low(battery(0), off, "") == ""


@given(
    st.lists(st.tuples(st.floats(0, 100), st.sampled_from([True, False, None])), max_size=30),
    st.floats(0, 100),
    st.floats(0, 100),
)
def test_between_the_levels_nothing_changes(
    course: list[tuple[float, bool | None]], one: float, other: float
) -> None:
    power = Power(apply_percent=min(one, other), resume_percent=max(one, other))
    said = ""
    for percent, plugged in course:
        before, said = said, low(battery(percent, plugged=plugged), power, said)
        if plugged is not True and power.apply_percent <= percent < power.resume_percent:
            assert said == before
        assert not (said and (plugged is True or percent >= power.resume_percent))


# --- what it means for the choices


def ready(cascade: DesiredCascade) -> Choice:
    return Choice(cascade, "verified", cascade)


def served(*cascades: DesiredCascade) -> Facts:
    names = frozenset(cascade.bundle.name for cascade in cascades)
    ledger = Ledger()
    for cascade in cascades:
        ledger = ledger.with_good((cascade,), names)
    return Facts(ledger, None)


def test_a_new_version_waits_and_the_old_one_goes_on() -> None:
    (found,) = held([ready(TWO)], Running((ONE,)), served(ONE), LOW)
    assert found == Choice(TWO, "verified", ONE, message=LOW)
    assert held([ready(TWO)], Running((ONE,)), served(ONE), "") == (ready(TWO),)


def test_a_new_cascade_beside_others_waits() -> None:
    found = held([ready(ONE), ready(OTHER)], Running((ONE,)), served(ONE), LOW)
    assert [choice.serve for choice in found] == [ONE, None]


def test_with_nothing_that_would_serve_meanwhile_nothing_waits() -> None:
    assert held([ready(TWO)], Running(), served(), LOW) == (ready(TWO),)
    assert held([ready(OTHER)], Running((ONE,)), served(ONE), LOW) == (ready(OTHER),)


def test_going_back_to_what_has_served_does_not_wait() -> None:
    assert held([ready(ONE)], Running((TWO,)), served(ONE, TWO), LOW) == (ready(ONE),)


def test_a_version_that_is_condemned_is_replaced_at_once() -> None:
    facts = served(ONE)
    quarantined = replace(
        facts, ledger=facts.ledger.with_(quarantined={ONE.bundle.artifact.sha256: "it kills"})
    )
    rejected = replace(facts, verdicts={ONE.identity: Verdict("rejected", "wrong answers")})
    for found in (quarantined, rejected):
        assert held([ready(TWO)], Running((ONE,)), found, LOW) == (ready(TWO),)


def test_another_form_of_what_serves_does_not_wait() -> None:
    smaller = ONE.with_(variants={**ONE.variants, "large": "int8"})
    assert held([ready(smaller)], Running((ONE,)), served(ONE), LOW) == (ready(smaller),)


def test_what_is_being_loaded_is_not_given_up() -> None:
    assert held([ready(TWO)], Running((ONE,), (TWO,)), served(ONE), LOW) == (ready(TWO),)


def test_what_is_not_here_yet_or_has_an_older_one_in_its_place_is_no_matter_of_charge() -> None:
    fetching = Choice(THREE, "fetching", ONE)
    assert held([fetching], Running((ONE,)), served(ONE), LOW) == (fetching,)
