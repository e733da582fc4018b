import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent.runner.cascade import Step, certified, course, steps, threshold
from tests import models
from tests.agent.runner.cascades import Built, Piece, build
from tests.agent.runner.samples import samples

EARLY_EXIT = (
    Step("small", None, "max_prob", answers=True, last=False),
    Step("large", None, None, answers=True, last=True),
)
SPLIT = (
    Step("head", None, None, answers=False, last=False),
    Step("middle", 0, None, answers=False, last=False),
    Step("tail", 1, None, answers=True, last=True),
)
EXIT_BEFORE_SPLIT = (
    Step("small", None, "margin", answers=True, last=False),
    Step("head", None, None, answers=False, last=False),
    Step("tail", 1, None, answers=True, last=True),
)


def test_an_early_exit_cascade_goes_on_without_either_stage() -> None:
    assert course(EARLY_EXIT, {0, 1}) == (0, 1)
    assert course(EARLY_EXIT, {0}) == (0,)
    assert course(EARLY_EXIT, {1}) == (1,)
    assert course(EARLY_EXIT, set()) == ()


def test_the_parts_of_a_split_model_are_useless_alone() -> None:
    assert course(SPLIT, {0, 1, 2}) == (0, 1, 2)
    assert course(SPLIT, {0, 1}) == ()
    assert course(SPLIT, {1, 2}) == ()


def test_a_part_that_nobody_can_read_is_not_run() -> None:
    assert course(EXIT_BEFORE_SPLIT, {0, 1}) == (0,)
    assert course(EXIT_BEFORE_SPLIT, {0, 2}) == (0,)
    assert course(EXIT_BEFORE_SPLIT, {1, 2}) == (1, 2)


@given(st.sets(st.integers(0, 2)), st.sampled_from([SPLIT, EXIT_BEFORE_SPLIT]))
def test_a_course_visits_usable_stages_only_and_ends_with_an_answer(
    usable: set[int], walk: tuple[Step, ...]
) -> None:
    visited = course(walk, usable)
    assert set(visited) <= usable
    assert not visited or walk[visited[-1]].answers
    assert all(walk[at].source in (None, *visited) for at in visited)


def two_stages(folder: Path) -> Built:
    small = models.classifier(models.random_layers(64, 10, seed=1))
    large = models.classifier(models.random_layers(64, 32, 10, seed=2))
    return build(
        folder, [Piece("small", small, "max_prob", 0.9), Piece("large", large)], samples(4)
    )


def test_thresholds_come_from_the_certificate_of_these_variants(tmp_path: Path) -> None:
    bundle = two_stages(tmp_path).bundle
    chosen = {"small": "only", "large": "only"}
    assert threshold(bundle, chosen, "small", 0) == 0.9
    assert threshold(bundle, chosen, "small", 1) == 0.7
    assert threshold(bundle, chosen, "small", 9) == 0.7
    assert threshold(bundle, chosen, "large", 0) == math.inf
    assert threshold(bundle, {**chosen, "large": "int8"}, "small", 0) == math.inf
    assert certified(bundle, chosen)
    assert not certified(bundle, {**chosen, "large": "int8"})


def test_steps_know_their_source_and_who_answers(tmp_path: Path) -> None:
    small, large = two_stages(tmp_path).bundle.stages
    assert steps((small, large)) == EARLY_EXIT
    warm = steps((small.with_(temperature=2.0), large.with_(temperature=0.5)))
    assert [step.temperature for step in warm] == [2.0, 0.5]
