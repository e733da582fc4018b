"""The decisions of the search, without any network: what is tried is made up."""

from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.compress.training.choice import Loss
from controller.compress.training.descent import (
    Candidate,
    Descent,
    Move,
    Tried,
    finalists,
    next_move,
)
from controller.compress.training.target import Size

PLAN = Descent(goal=0.12, steps=6, rounds=6)
GOOD, BAD = Loss(1000, 5, 5), Loss(1000, 30, 10)
HALF, QUARTER, GOAL, SMALL, TINY, _ = PLAN.shares


def brief(share: float, loss: Loss = BAD) -> Tried:
    return Tried(share, share, is_long=False, loss=loss)


def long(share: float, loss: Loss, nonzero: float | None = None) -> Tried:
    return Tried(share, nonzero or share, is_long=True, loss=loss)


DOWN = [brief(HALF, GOOD), brief(QUARTER), brief(GOAL), brief(SMALL), brief(TINY)]


def test_the_third_size_is_the_goal() -> None:
    assert pytest.approx(0.12) == GOAL


def test_the_goal_is_taught_first_and_smaller_ones_where_that_holds() -> None:
    assert next_move(DOWN, PLAN) == Move(GOAL, GOAL)
    assert next_move([*DOWN, long(GOAL, GOOD)], PLAN) == Move(SMALL, SMALL)


def test_a_smaller_one_comes_first_where_even_little_teaching_keeps_it() -> None:
    down = [brief(share, GOOD) for share in (HALF, QUARTER, GOAL, SMALL)]

    assert next_move([*down, brief(TINY)], PLAN) == Move(SMALL, SMALL)


def test_between_the_last_good_one_and_the_first_bad_one_lies_one_more() -> None:
    tried = [*DOWN, long(GOAL, GOOD), long(SMALL, BAD)]
    move = next_move(tried, PLAN)

    assert move is not None
    assert SMALL < move.share < GOAL
    assert next_move([*tried, long(move.share, BAD)], PLAN) is None


def test_a_bigger_one_is_tried_where_a_small_one_does_not_hold() -> None:
    assert next_move([*DOWN, long(SMALL, BAD)], PLAN) == Move(GOAL, GOAL)


def test_zeros_bring_a_bigger_one_to_the_goal_where_cutting_to_it_loses_too_much() -> None:
    tried = [*DOWN, long(GOAL, BAD)]
    assert next_move(tried, PLAN) == Move(QUARTER, 0.12)

    tried.append(long(QUARTER, BAD, 0.12))
    assert next_move(tried, PLAN) == Move(HALF, 0.12)
    assert next_move([*tried, long(HALF, GOOD, 0.12)], PLAN) is None
    assert next_move([*tried, long(HALF, BAD, 0.12)], PLAN) is None


@given(st.integers(1, 6), st.lists(st.booleans(), min_size=12, max_size=12), st.integers(1, 8))
def test_a_search_ends_and_tries_nothing_twice(depth: int, holds: list[bool], rounds: int) -> None:
    plan = replace(PLAN, rounds=rounds)
    tried = [brief(share) for share in plan.shares[:depth]]
    outcomes = iter(holds)

    while (move := next_move(tried, plan)) is not None:
        made = long(move.share, GOOD if next(outcomes) else BAD, move.nonzero)
        assert made.name not in {one.name for one in tried if one.is_long}
        tried.append(made)

    assert sum(one.is_long for one in tried) <= rounds


def candidate(tried: Tried) -> Candidate:
    size = Size(parameters=1, macs=round(1e6 * tried.share), bytes=1)
    return Candidate(tried, cast("Any", None), size, 0.0, 0.0, 1)


def test_what_gets_a_file_is_the_smallest_within_and_the_safest() -> None:
    made = [candidate(one) for one in [*DOWN, long(GOAL, Loss(1000, 8, 4)), long(SMALL, BAD)]]

    assert [one.tried.name for one in finalists(made, PLAN)] == ["channels-12", "channels-49"]
    assert finalists(made, PLAN)[0].tried.is_long


def test_the_smallest_that_is_surely_within_gets_a_file_beside_the_smallest_within() -> None:
    surely, slight = Loss(1000, 2, 8), Loss(1000, 8, 4)
    made = [
        candidate(long(*one)) for one in [(GOAL, Loss(1000, 0, 9)), (SMALL, surely), (TINY, slight)]
    ]

    assert [one.tried.name for one in finalists(made, PLAN)] == [
        "channels-2.9",
        "channels-5.9",
        "channels-12",
    ]


def test_something_gets_a_file_where_nothing_is_within() -> None:
    made = [candidate(one) for one in [brief(HALF), long(HALF, BAD, 0.12)]]

    assert {one.tried.name for one in finalists(made, PLAN)} >= {"channels-49-zeros-12"}
