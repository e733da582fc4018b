import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.compress.errors import CompressError
from controller.compress.training.choice import Goals, Loss, Row, choose, parse_goals

ORIGINAL = Row(
    form="original",
    files=("fp32",),
    parameters=1000,
    nonzero=1000,
    file_bytes=4000,
    wire_bytes=4000,
    macs=1_000,
    samples=10_000,
    right=8_700,
    spoiled=0,
    mended=0,
    mean_ms=2.0,
    median_ms=2.0,
    p95_ms=2.5,
    cpu_ms=2.0,
    escalated=None,
)


def form(name: str, spoiled: int, mended: int, cpu_ms: float, nonzero: int = 100) -> Row:
    return replace(
        ORIGINAL,
        form=name,
        right=ORIGINAL.right - spoiled + mended,
        spoiled=spoiled,
        mended=mended,
        cpu_ms=cpu_ms,
        mean_ms=cpu_ms,
        nonzero=nonzero,
        wire_bytes=nonzero,
    )


def test_a_form_that_keeps_the_goals_goes_before_a_cheaper_one() -> None:
    cheap = form("cheap", 20, 10, 0.1, nonzero=300)
    small = form("small", 30, 10, 0.2)

    assert choose([ORIGINAL, cheap, small], 0.5) is cheap
    assert choose([ORIGINAL, cheap, small], 0.5, Goals()) is small
    assert Goals().missed(cheap, ORIGINAL) == ("nonzero", "wire")


def test_of_those_that_cost_about_the_same_the_smaller_is_chosen() -> None:
    fast = form("fast", 0, 0, 0.100, nonzero=60)
    small = form("small", 0, 0, 0.104, nonzero=50)
    smallest = form("smallest", 0, 0, 0.106, nonzero=10)

    assert choose([ORIGINAL, fast, small, smallest], 0.5) is small


def test_a_loss_of_exactly_what_is_allowed_is_allowed() -> None:
    fast = form("fast", 50, 0, 0.1)

    assert choose([ORIGINAL, fast], 0.5) is fast
    assert choose([ORIGINAL, fast], 0.49) is ORIGINAL


def test_of_the_forms_that_keep_the_goals_the_cheapest_that_is_sure_is_chosen() -> None:
    doubtful = form("doubtful", 200, 155, 0.1)
    sure = form("sure", 60, 40, 0.2)
    surer = form("surer", 30, 30, 0.3)

    assert choose([ORIGINAL, doubtful, sure, surer], 0.5, Goals()) is sure


def test_where_nothing_is_sure_the_one_that_loses_least_is_chosen() -> None:
    few = replace(ORIGINAL, samples=500, right=435)
    cheap = replace(form("cheap", 20, 18, 0.1), samples=500, right=433)
    safe = replace(form("safe", 20, 20, 0.2), samples=500, right=435)

    assert choose([few, cheap, safe], 0.5, Goals()) is safe


def test_the_original_is_chosen_where_nothing_else_is_good_enough() -> None:
    assert choose([ORIGINAL, form("bad", 300, 0, 0.1)], 0.5, Goals()) is ORIGINAL


@given(st.integers(1, 10_000), st.data())
def test_a_loss_is_the_mean_of_the_changes_with_its_standard_error(
    samples: int, data: st.DataObject
) -> None:
    spoiled = data.draw(st.integers(0, samples))
    mended = data.draw(st.integers(0, samples - spoiled))
    loss = Loss(samples, spoiled, mended)
    mean = (spoiled - mended) / samples
    square = (spoiled + mended) / samples - mean**2

    assert loss.points == pytest.approx(100 * mean)
    assert loss.error_points >= 100 * math.sqrt(max(0.0, square) / samples) - 1e-9
    assert loss.error_points >= 100 / samples
    assert loss.is_within(loss.points)
    assert not loss.is_surely_within(loss.points)


def test_goals_are_read_and_the_others_keep_their_default() -> None:
    assert parse_goals("nonzero=0.2, cpu=.3") == Goals(nonzero=0.2, cpu=0.3)
    assert parse_goals("") == Goals()


@pytest.mark.parametrize("text", ["size=1", "nonzero", "wire=-1", "wire=a"])
def test_goals_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(CompressError, match="cannot use goal"):
        parse_goals(text)
