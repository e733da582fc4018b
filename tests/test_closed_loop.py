"""Both loops on a device that closes them: nothing swings, and neither works against the other."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import get_args

import pytest

from controller.planner import PlannerPolicy
from protocols.desired import Desired
from protocols.device import Rungs, Sample
from protocols.governor import start, step
from protocols.schedule import DEFAULT_THRESHOLDS, WORST, Ladder, Schedule
from tests.bench.day import dominates, front
from tests.plant.body import Body
from tests.plant.loop import live
from tests.plant.pictures import BIG_LITTLE, PHONE, PI_4, PI_5, PICTURES, WORKS, Picture
from tests.plant.policies import Ours, all_loaded, least_recently_used, small_only
from tests.plant.scenes import HOUR_S, Scene, rough
from tests.plant.serving import Runner, Tally

SECONDS = HOUR_S
IMPATIENT = PlannerPolicy(revise_after_s=60, restore_after_s=300, restore_threads_after_s=120)
"""So that an hour holds many revisions."""
HARD = DEFAULT_THRESHOLDS["memory_available_percent"].hard
ROUGH = [(picture, seed) for picture in PICTURES for seed in range(3)]


@dataclass
class Course:
    """What was seen of a trace: samples and rungs of every second, and whether models were in."""

    ours: Ours
    tally: Tally = field(default_factory=Tally)
    samples: list[Sample] = field(default_factory=list)
    rungs: list[Rungs] = field(default_factory=list)
    loaded: list[bool] = field(default_factory=list)
    warmest_c: float = 0.0

    def note(self, sample: Sample, rungs: Rungs) -> None:
        self.samples.append(sample)
        self.rungs.append(rungs)

    def watch(self, _now_s: float, body: Body, runner: Runner) -> None:
        self.loaded.append(runner.mib > 0)
        self.warmest_c = max(self.warmest_c, body.temperature_c)


def lived(picture: Picture, scene: Scene, patience: PlannerPolicy = IMPATIENT) -> Course:
    course = Course(Ours(picture, patience))
    course.ours.watch = course.note
    course.tally = live(picture, scene, course.ours, course.watch)
    return course


@cache
def rough_course(name: str, seed: int) -> Course:
    picture = next(one for one in PICTURES if one.name == name)
    return lived(picture, rough(picture, seed, SECONDS))


def flat(seconds: int, cores: float, mib: Sequence[float], per_s: int) -> Scene:
    """Return a scene of even load, in which every other request is a hard one."""
    asked = tuple([0.1, 0.9][n % 2] for n in range(per_s))
    return Scene([cores] * seconds, mib, [(asked, asked)] * seconds)


rough_courses = pytest.mark.parametrize(
    "course", [pytest.param((p.name, s), id=f"{p.name}-{s}") for p, s in ROUGH]
)


@rough_courses
def test_no_ladder_swings(course: tuple[str, int]) -> None:
    """Whatever our own load does to the signals, tokens bound the transitions of any hour.

    Six recoveries, and the falls that they make room for: 16. (A square wave makes at most 15.)
    """
    moves = rough_course(*course).ours.moves
    most = 2 * Schedule().dwell.up_moves_per_hour + WORST
    for ladder in get_args(Ladder):
        times = [time_s for time_s, change in moves if change.ladder == ladder]
        assert max((sum(t <= o < t + HOUR_S for o in times) for t in times), default=0) <= most


@rough_courses
def test_below_the_hard_line_everything_leaves_within_a_sample(course: tuple[str, int]) -> None:
    """R4 at that sample; a stage that is in use then is out at the next one."""
    found = rough_course(*course)
    assert HARD is not None
    for now, (sample, rungs) in enumerate(zip(found.samples, found.rungs, strict=True)):
        assert sample.memory_available_percent is not None
        if sample.memory_available_percent <= HARD:
            assert rungs.residency == WORST
            assert not any(found.loaded[now + 1 : now + 2])
    assert found.tally.kills == 0


@rough_courses
def test_the_core_rule_holds_in_the_loop(course: tuple[str, int]) -> None:
    """What was sensed, played again without tokens and with room, is never less permissive."""
    found = rough_course(*course)
    core = Schedule().with_(dwell=Schedule().dwell.with_(up_moves_per_hour=1_000_000))
    state = start(0.0, core)
    for sample, rungs in zip(found.samples, found.rungs, strict=True):
        state = step(state, sample, core, lambda _: True).state
        assert state.residency.rung <= rungs.residency
        assert state.compute.rung <= rungs.compute


@rough_courses
def test_the_planner_keeps_to_its_dwell_and_does_not_go_back_and_forth(
    course: tuple[str, int],
) -> None:
    revisions = rough_course(*course).ours.revisions
    formed_s = revisions[0].at_s
    for earlier, later in pairwise(revisions):
        shed, *forms = zip(steps_down(earlier.desired), steps_down(later.desired), strict=True)
        assert later.at_s - earlier.at_s >= IMPATIENT.revise_after_s
        if any(now < then for then, now in [shed]):
            assert later.at_s - earlier.at_s >= IMPATIENT.restore_threads_after_s
        if any(now < then for then, now in forms):
            assert later.at_s - formed_s >= IMPATIENT.restore_after_s
        if any(now != then for then, now in forms):
            formed_s = later.at_s
    dwells_s = (IMPATIENT.restore_threads_after_s, *[IMPATIENT.restore_after_s] * len(WORKS))
    courses = zip(*(steps_down(one.desired) for one in revisions), strict=True)
    for stands, dwell_s in zip(courses, dwells_s, strict=True):
        changed = [
            (one.at_s, now)
            for one, (then, now) in zip(revisions[1:], pairwise(stands), strict=True)
            if then != now
        ]
        for (left_s, left), _, (back_s, back) in zip(
            changed, changed[1:], changed[2:], strict=False
        ):
            assert left != back or back_s - left_s >= dwell_s


def steps_down(desired: Desired) -> tuple[int, ...]:
    """Return how far the planner has gone down: steps shed, then the form of each cascade."""
    forms = [2 if one.dropped else int(one.variants["large"] != "fp32") for one in desired.cascades]
    return (desired.shed, *forms)


@rough_courses
def test_the_planner_acts_only_on_what_the_reflex_shows(course: tuple[str, int]) -> None:
    """It takes where a ladder stands at 2 or worse, and gives where one stands at its best."""
    for earlier, later in pairwise(rough_course(*course).ours.revisions):
        shed, *forms = zip(steps_down(earlier.desired), steps_down(later.desired), strict=True)
        for rung, changes in ((later.rungs.compute, [shed]), (later.rungs.residency, forms)):
            for before, after in changes:
                assert after <= before or rung >= IMPATIENT.high_rung
                assert after >= before or rung <= IMPATIENT.calm_rung


def test_the_rough_courses_make_both_loops_work() -> None:
    """Else the properties would hold for nothing."""
    found = [rough_course(picture.name, seed) for picture, seed in ROUGH]
    assert {rungs.residency for one in found for rungs in one.rungs} == set(range(5))
    assert {rungs.compute for one in found for rungs in one.rungs} == set(range(5))
    pairs = [
        (steps_down(a.desired), steps_down(b.desired))
        for one in found
        for a, b in pairwise(one.ours.revisions)
    ]
    taken = sum(any(x < y for x, y in zip(*pair, strict=True)) for pair in pairs)
    given = sum(any(x > y for x, y in zip(*pair, strict=True)) for pair in pairs)
    assert min(taken, given) > 5


def test_heat_of_our_own_making_is_taken_back_without_a_swing() -> None:
    """The device is hot because of our answers alone: the ladder settles, the hard line holds."""
    hot = replace(PI_5, kelvin_per_w=12.0)
    found = lived(hot, flat(2 * HOUR_S, 0.1, [200.0] * 2 * HOUR_S, per_s=12))
    compute = [rungs.compute for rungs in found.rungs]
    assert max(compute) >= 2
    assert found.warmest_c < 83
    late = [t for t, change in found.ours.moves if change.ladder == "compute" and t > HOUR_S]
    assert len(late) <= 15
    assert found.ours.revisions[-1].desired.shed > 0


def visited(busy: Sequence[bool]) -> Scene:
    """Return a scene in which others keep four fifths of a Pi 5 busy, or hardly anything."""
    calm = flat(len(busy), 0.1, [200.0] * len(busy), per_s=1)
    return Scene([3.2 if some else 0.1 for some in busy], calm.mib, calm.requests)


@pytest.mark.parametrize("high_s", [240, 600])
def test_others_who_come_every_twenty_minutes_make_the_planner_write_at_most_six_times_an_hour(
    high_s: int,
) -> None:
    """One step down and one back: the two recoveries from C2 take two of the hour's six tokens."""
    busy = [second % 1200 < high_s for second in range(2 * HOUR_S)]
    found = lived(PI_5, visited(busy), PlannerPolicy())
    first, *written = found.ours.revisions
    assert written
    for begin_s in (one.at_s for one in written):
        assert sum(begin_s <= one.at_s < begin_s + HOUR_S for one in written) <= 6
    assert all(one.desired.cascades == first.desired.cascades for one in written)


def test_threads_come_back_within_the_hour_after_a_busy_half_hour() -> None:
    busy = [second < HOUR_S // 2 for second in range(2 * HOUR_S)]
    shed = [
        (one.at_s, one.desired.shed)
        for one in lived(PI_5, visited(busy), PlannerPolicy()).ours.revisions
    ]
    assert max(steps for _, steps in shed) > 1
    assert shed[-1][1] == 0
    assert shed[-1][0] < 1.5 * HOUR_S


def test_a_shortage_that_lasts_changes_the_form_and_its_end_gives_it_back() -> None:
    short = PI_4.memory_mib * 0.70
    mib = [min(short, 30.0 * n) for n in range(900)] + [50.0] * 3000
    found = lived(PI_4, flat(len(mib), 0.1, mib, per_s=2))
    forms = [steps_down(one.desired)[1:] for one in found.ours.revisions]
    assert max(map(sum, forms)) > 0
    assert forms[0] == forms[-1] == (0, 0)
    assert found.tally.kills == 0
    assert found.rungs[-1].residency == 0


class Blinded(Ours):
    """Ours, with sensors that read nothing for a while, again and again."""

    def sense(self, sample: Sample, runner: Runner) -> None:
        blind = sample.time_s % 400 > 250
        lost = {str(signal): None for signal in DEFAULT_THRESHOLDS} if blind else {}
        super().sense(sample.model_copy(update=lost), runner)


def test_blind_in_the_loop_nothing_is_given_back() -> None:
    ours = Blinded(PI_5, IMPATIENT)
    live(PI_5, rough(PI_5, 7, SECONDS), ours)
    ups = [time_s for time_s, change in ours.moves if change.after < change.before]
    assert ups
    assert all(time_s % 400 <= 250 for time_s in ups)


@pytest.mark.parametrize("policy", [Ours, all_loaded, small_only, least_recently_used])
def test_every_request_is_accounted_for_and_a_seed_says_it_all(policy: type[Ours]) -> None:
    scene = rough(PHONE, 3, 600)
    first, again = (live(PHONE, scene, policy(PHONE)) for _ in range(2))
    assert first == again
    assert first.asked == sum(len(some) for asked in scene.requests for some in asked)
    assert sum(first.latency.values()) >= first.served


def test_fixed_policies_hold_what_they_say() -> None:
    calm = flat(600, 0.5, [100.0] * 600, per_s=2)
    kept = {
        policy: live(BIG_LITTLE, calm, policy(BIG_LITTLE))
        for policy in (all_loaded, small_only, least_recently_used)
    }
    everything, small, least = (kept[p] for p in (all_loaded, small_only, least_recently_used))
    assert everything.degraded == least.degraded == 0
    assert small.degraded == small.served // 2
    assert small.mib_s < least.mib_s < everything.mib_s
    assert least.loads > everything.loads == 4


def test_without_memory_the_kernel_takes_who_does_not_give_way() -> None:
    total = PI_4.memory_mib
    mib = [min(total * 0.78, 40.0 * n) for n in range(900)]
    scene = flat(len(mib), 0.1, mib, per_s=2)
    assert live(PI_4, scene, all_loaded(PI_4)).kills > 0
    assert lived(PI_4, scene).tally.kills == 0


def test_the_front_is_what_nothing_beats() -> None:
    points = {
        "a": (3.0, 1.0, 1.0),
        "b": (2.0, 1.0, 1.0),
        "c": (2.0, 0.5, 2.0),
        "d": (3.0, 1.0, 1.0),
    }
    assert front(points) == ["a", "c", "d"]
    assert dominates((3.0, 1.0, 1.0), (2.0, 1.0, 1.0))
    assert not dominates((3.0, 1.0, 1.0), (3.0, 1.0, 1.0))
