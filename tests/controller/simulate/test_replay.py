import math
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given, settings

from controller.errors import ControllerError, FitError
from controller.planner import PlannerPolicy
from controller.simulate.loops import SWITCH_S
from controller.simulate.made import LENGTH_S, Kind, make
from controller.simulate.replay import STALE_INTERVALS, Course, replay
from controller.simulate.subject import example, of_bundle
from controller.simulate.trace import Trace, trace_of
from protocols import governor
from protocols.schedule import WORST, Dwell, Ladder, Schedule, Window
from tests.controller.simulate.traces import PATIENT, course_of, digits, line, traces

LADDERS: tuple[Ladder, ...] = get_args(Ladder)
NEVER = PlannerPolicy(revise_after_s=math.inf)


def walk(course: Course, ladder: Ladder) -> list[int]:
    """Return the rungs that a ladder goes to, in order."""
    return [move.change.after for move in course.moves if move.change.ladder == ladder]


@given(traces())
@settings(max_examples=50)
def test_without_a_planner_it_is_the_bare_governor(trace: Trace) -> None:
    """Sample by sample, on a clock that only rises. No sample says how many MiB: all fits."""
    dwell = Dwell(stale_s=max(10.0, STALE_INTERVALS * trace.interval_s))
    schedule = Schedule(dwell=dwell)
    state = governor.start(0.0, schedule, trace.lines[0].local_minute)
    course = replay(trace, digits(memory_mib=None), NEVER)
    for one, at_s, begins, frame in zip(
        trace.lines, trace.at_s, trace.begins, course.frames, strict=True
    ):
        if begins:
            state = governor.start(at_s, schedule, one.local_minute)
        sample = one.with_(time_s=at_s)
        state = governor.step(state, sample, schedule, lambda _: True, one.local_minute).state
        assert frame.rungs == governor.rungs(state)


@given(traces())
@settings(max_examples=50)
def test_all_time_is_accounted_for(trace: Trace) -> None:
    course = replay(trace, digits(), PATIENT)
    assert [frame.at_s for frame in course.frames] == list(trace.at_s)
    for ladder in LADDERS:
        known_s = sum(course.seconds_at(ladder))
        assert known_s + course.gaps_s == pytest.approx(course.span_s)
    for move in course.moves:
        assert move.change.before != move.change.after
        assert move.change.cause
    generations = [one.desired.generation for one in course.revisions]
    assert generations == list(range(1, len(generations) + 1))
    assert all(one.desired.reason for one in course.revisions)


def test_a_hard_line_acts_at_the_sample_and_a_soft_one_after_the_hold() -> None:
    course = replay(course_of((10, 60, 5), (10, 5, 5)), digits(), PATIENT)
    (move,) = course.moves
    assert (move.at_s, move.change.after) == (10.0, WORST)
    assert course.frames[10].holding.resident_mib == 0
    soft = replay(course_of((10, 60, 5), (10, 60, 90)), digits(), PATIENT)
    assert [(move.at_s, move.change.after) for move in soft.moves] == [(14.0, 3)]


def test_what_the_planner_writes_comes_back_to_the_device() -> None:
    """CPU: threads at once. Memory: another form once it could be fetched and swapped."""
    busy = replay(course_of((700, 60, 75)), digits(), PATIENT)
    assert [one.desired.shed for one in busy.revisions] == [0, 1, 2]
    at_s = busy.revisions[1].at_s
    assert 300 <= at_s <= 310
    written = next(n for n, frame in enumerate(busy.frames) if frame.at_s == at_s)
    assert busy.frames[written].desired is busy.revisions[1].desired
    assert busy.frames[written - 1].desired is busy.revisions[0].desired
    assert [busy.frames[n].holding.threads["digits/large"] for n in (written - 1, written)] == [
        2,
        1,
    ]

    short = replay(course_of((700, 17, 5)), digits(), PATIENT)
    first, second = short.revisions[1:]
    assert [dict(one.desired.cascades[0].variants)["large"] for one in (first, second)] == [
        "int8",
        "int8",
    ]
    assert second.desired.cascades[0].dropped == ("large",)
    for frame in short.frames:
        large_int8 = first.at_s + SWITCH_S <= frame.at_s < second.at_s + SWITCH_S
        if large_int8:
            assert frame.desired is first.desired
            assert frame.holding.most_mib == 60
        elif frame.at_s >= 4:
            assert frame.holding.most_mib == (200 if frame.at_s < second.at_s else 4)
    assert "memory short" in first.desired.reason


def test_memory_and_threads_follow_from_both_rungs() -> None:
    course = replay(course_of((10, 60, 5), (20, 24, 5), (20, 12, 5), (10, 7, 97)), digits(), NEVER)
    held = [course.frames[at].holding for at in (5, 20, 40, 59)]
    assert [one.resident_mib for one in held] == [204, 4, 4, 0]
    assert [one.most_mib for one in held] == [204, 204, 4, 0]
    assert [one.threads["digits/large"] for one in held] == [4, 4, 0, 0]
    assert [one.threads["digits/small"] for one in held] == [1, 1, 1, 0]


def test_a_recovery_waits_until_what_it_loads_would_stay() -> None:
    """R1 to R0 loads 200 of 1000 MiB: 40 % is not enough to stay above 25 % and a bit, 50 % is."""
    tight = course_of((10, 20, 5), (300, 40, 5))
    course = replay(tight, digits(), NEVER)
    assert walk(course, "residency") == [1]
    assert "R0 does not fit into memory" in course.frames[-1].rungs.residency_cause
    wide = course_of((10, 20, 5), (300, 50, 5))
    assert walk(replay(wide, digits(), NEVER), "residency") == [1, 0]


def test_an_agent_that_starts_anew_begins_at_its_best_rung() -> None:
    pressed = [line(float(n), 60, 90, boot_id="a") for n in range(10)]
    again = [line(float(n), 60, 90, boot_id="b") for n in range(10)]
    course = replay(trace_of([*pressed, *again]), digits(), PATIENT)
    assert course.starts_s == [10.0]
    assert [frame.rungs.compute for frame in course.frames[8:12]] == [3, 3, 0, 0]
    assert [move.at_s for move in course.moves] == [4.0, 14.0]


def test_windows_go_by_the_minute_that_a_line_has() -> None:
    night = Schedule(windows=(Window(start_minute=60, end_minute=61, compute=2),))
    lines = [line(float(n), local_minute=59 + n // 60) for n in range(180)]
    course = replay(trace_of(lines), digits(schedule=night), PATIENT)
    assert [(move.at_s, move.change.after) for move in course.moves] == [(60.0, 2)]
    assert course.moves[0].change.cause == "time window 01:00-01:01"
    unset = [one.with_(local_minute=None) for one in lines]
    assert replay(trace_of(unset), digits(schedule=night), PATIENT).moves == []


@pytest.mark.parametrize("kind", ["square", "ramp"])
def test_every_fifth_sample_tells_much_the_same_a_bit_later(kind: Kind) -> None:
    """What telemetry keeps of what was sensed: the same way, each step up to a few samples off."""
    ref, bundle = example()
    every_s = {
        apart_s: replay(
            trace_of(make(kind, LENGTH_S[kind], apart_s)),
            of_bundle(ref, bundle, cpus=4, memory_mib=4096),
            NEVER,
        )
        for apart_s in (1.0, 5.0)
    }
    for ladder in LADDERS:
        whole, thin = (walk(every_s[apart_s], ladder) for apart_s in (1.0, 5.0))
        assert whole == thin
        pairs = zip(every_s[1.0].moves, every_s[5.0].moves, strict=True)
        assert all(abs(one.at_s - other.at_s) <= 10 for one, other in pairs)


def test_one_missing_sample_is_bridged_and_two_are_a_gap() -> None:
    def with_hole(missing: int) -> Course:
        times = [5.0 * n for n in range(20) if not 8 <= n < 8 + missing]
        return replay(trace_of(line(at_s, 60, 90) for at_s in times), digits(), PATIENT)

    assert with_hole(1).gaps_s == 0
    assert with_hole(2).gaps_s == 15
    assert [sum(with_hole(n).seconds_at("compute")) for n in (1, 2)] == [95, 80]


def test_it_says_how_far_the_device_did_the_same() -> None:
    lines = [line(float(n), rungs={"residency": 0, "compute": int(n >= 5)}) for n in range(10)]
    course = replay(trace_of(lines), digits(), PATIENT)
    assert course.agreement("residency") == 1.0
    assert course.agreement("compute") == 0.5
    assert replay(course_of((5, 60, 5)), digits(), PATIENT).agreement("compute") is None


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(FitError, match="cannot run digits@1 on simulated: its smallest form"):
        replay(course_of((5, 60, 5)), digits(memory_mib=100.0), PATIENT)


def test_a_schedule_for_another_cascade_is_refused() -> None:
    rows = digits().ruling[0].schedule, example()[1].schedule
    with pytest.raises(ControllerError, match="it has rows for example"):
        digits(schedule=Schedule(cascades={"example": rows[1]}))


@pytest.mark.parametrize(("kind", "apart_s"), [("square", 5.0), ("ramp", 5.0), ("day", 30.0)])
def test_made_traces_are_always_the_same_and_use_the_ladders(kind: Kind, apart_s: float) -> None:
    lines = list(make(kind, LENGTH_S[kind], apart_s))
    assert lines == list(make(kind, LENGTH_S[kind], apart_s))
    trace = trace_of(lines)
    assert trace.at_s[-1] == LENGTH_S[kind]
    for one in lines:
        assert 0 <= (one.memory_available_percent or -1) <= 100
        assert 0 <= (one.foreign_cpu_percent or -1) <= (one.cpu_percent or -1) <= 100
    ref, bundle = example()
    course = replay(trace, of_bundle(ref, bundle, cpus=4, memory_mib=4096), PATIENT)
    for ladder in LADDERS:
        found = walk(course, ladder)
        assert max(found) >= (1 if kind == "square" else WORST)
        assert any(after < before for before, after in pairwise(found))
