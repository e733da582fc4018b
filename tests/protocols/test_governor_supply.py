"""A supply that is too weak asks for what throttling asks for, before the board throttles."""

import pytest

from protocols.device import Sample
from protocols.governor import State, rungs, start, step, value_of
from protocols.schedule import Schedule

SCHEDULE = Schedule()


def play(*samples: Sample) -> State:
    state = start(0, SCHEDULE)
    for sample in samples:
        state = step(state, sample, SCHEDULE, lambda _: True).state
    return state


@pytest.mark.parametrize(
    ("word", "throttled"), [(None, None), (0x50001, 0.0), (0b0001, 0.0), (0b0010, 1.0), (8, 1.0)]
)
def test_the_word_and_the_voltage_are_two_signals(
    word: int | None, throttled: float | None
) -> None:
    sample = Sample(time_s=1, throttled=word, low_voltage=True)
    assert value_of("throttled", sample) == throttled
    assert value_of("low_voltage", sample) == 1.0
    assert value_of("low_voltage", Sample(time_s=1, throttled=word)) is None


def test_a_weak_supply_takes_the_compute_ladder_to_rung_2_after_the_hold() -> None:
    state = play(*(Sample(time_s=t, low_voltage=True) for t in range(1, 5)))
    assert rungs(state).compute == 0
    state = play(*(Sample(time_s=t, low_voltage=True) for t in range(1, 7)))
    assert (rungs(state).compute, rungs(state).residency) == (2, 0)
    assert rungs(state).compute_cause == "the supply's voltage is too low for 4 s"


def test_what_is_not_known_any_more_lets_nothing_recover_though_the_other_is_well() -> None:
    weak = [Sample(time_s=t, low_voltage=True, throttled=2) for t in range(1, 7)]
    later = range(7, 700)
    for seen in ({"throttled": 0}, {"low_voltage": False}, {}):
        blind = play(*weak, *(Sample(time_s=t, **seen) for t in later))
        assert rungs(blind).compute == 2
    well = play(*weak, *(Sample(time_s=t, low_voltage=False, throttled=0) for t in later))
    assert rungs(well).compute == 0
