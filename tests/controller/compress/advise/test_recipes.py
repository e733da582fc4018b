"""What can be tried, in legal orders, and what is next in the time that is left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.compress.advise.plan import (
    Base,
    Effort,
    Estimates,
    is_hopeless,
    patience_s,
    timing_s,
    why_not,
    with_loss,
)
from controller.compress.advise.recipes import (
    QUANTIZED,
    Technique,
    family_of,
    name_of,
    recipes,
    slug_of,
)
from tests.controller.compress.advise.forms import (
    INT8,
    MIXED,
    PALETTE_4,
    PALETTE_AUTO,
    PRUNE,
    PRUNE_AUTO,
)

BASE = Base(Effort(measure_s=2.0, half_s=0.5), layers=10)


@pytest.mark.parametrize("is_float", [True, False])
def test_every_recipe_is_legal_and_comes_after_what_it_builds_on(*, is_float: bool) -> None:
    found = recipes(is_float=is_float, channels=["macs=0.1"])

    order = list(Technique)
    for number, recipe in enumerate(found):
        techniques = [step.technique for step in recipe]
        assert techniques == sorted(techniques, key=order.index)
        assert sum(technique in QUANTIZED for technique in techniques) <= 1
        unpackable = {Technique.INT4, Technique.FP16} & set(techniques[:-1])
        assert not unpackable
        assert len(recipe) == 1 or recipe[:-1] in found[:number]
    assert len({slug_of(recipe) for recipe in found}) == len(found)


def test_what_is_narrow_already_is_not_quantized_again() -> None:
    used = {step.technique for recipe in recipes(is_float=False) for step in recipe}

    assert not used & QUANTIZED
    assert {Technique.PRUNE, Technique.PALETTE, Technique.TIE, Technique.DEDUPE} <= used


def test_names_read_as_they_are_done() -> None:
    recipe = (PRUNE, INT8, PALETTE_4)

    assert name_of(recipe) == "prune 0.5 + int8 + palette 4"
    assert slug_of(recipe) == "prune-0.5-int8-palette-4"
    assert name_of(()) == slug_of(()) == "original"


def test_what_is_searched_may_lose_what_is_left_of_the_loss() -> None:
    assert with_loss(PALETTE_AUTO, 0.005, 0.002).max_loss == "0.3"
    assert with_loss(MIXED, 0.005, 0.006).max_loss == "0"
    assert with_loss(PALETTE_AUTO, 0.005, -0.01).max_loss == "1.5"
    assert with_loss(INT8, 0.005, 0.0).max_loss is None


def test_nothing_builds_on_what_is_missing_or_loses_too_much() -> None:
    losses = {(): 0.0, family_of((INT8,)): 0.02}

    assert why_not((INT8,), losses, 0.005) == ""
    assert why_not((INT8, PALETTE_4), losses, 0.02) == ""
    assert why_not((INT8, PALETTE_4), losses, None) == ""
    assert why_not((INT8, PALETTE_4), losses, 0.005) == "int8 alone loses 2.00pp already"
    assert why_not((PRUNE, INT8), losses, 0.005) == "it needs prune 0.5, which there is not"


def test_estimates_learn_from_what_such_steps_took() -> None:
    estimates = Estimates()
    before = estimates.seconds(PALETTE_AUTO, BASE)
    known = estimates.seconds(PALETTE_4, BASE)
    assert before > known > estimates.seconds(INT8, BASE) > 0

    estimates.learn(PALETTE_AUTO, BASE, 3 * before)

    assert estimates.seconds(PALETTE_AUTO, BASE) == pytest.approx(3 * before)
    assert estimates.seconds(PRUNE_AUTO, BASE) > 3 * before
    assert estimates.seconds(PALETTE_4, BASE) == known


def test_teaching_takes_what_the_probe_found() -> None:
    (first, *_) = recipes(is_float=True, channels=["macs=0.1"])
    base = Base(BASE.effort, 10, training_s=100)

    assert Estimates().seconds(first[0], base) > 100


def test_a_step_that_will_clearly_not_end_in_time_is_ended_early() -> None:
    assert is_hopeless(done=20, total=100, spent_s=40, limit_s=100)
    assert not is_hopeless(done=20, total=100, spent_s=25, limit_s=100)
    assert not is_hopeless(done=5, total=100, spent_s=90, limit_s=100)  # too early to tell
    assert not is_hopeless(done=1, total=2, spent_s=90, limit_s=100)  # a search's last part


@given(st.floats(0, 1e4), st.floats(0, 1e4))
def test_patience_ends_with_the_time_that_is_left(estimate_s: float, left_s: float) -> None:
    assert patience_s(estimate_s, left_s) <= left_s


@given(st.integers(1, 100), st.floats(1, 1e4))
def test_timing_leaves_most_of_the_budget_for_trying(forms: int, budget_s: float) -> None:
    assert timing_s(forms, budget_s) <= budget_s / 3
