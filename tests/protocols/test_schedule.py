"""Schedules: which lines and rungs fit together."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from protocols.schedule import (
    DEFAULT_THRESHOLDS,
    LADDER_OF,
    RUNGS,
    CascadeSchedule,
    Dwell,
    Power,
    Schedule,
    StageCompute,
    Threshold,
    Window,
    default_cascade_schedule,
)

STAGES = ("small", "large")


def test_the_default_lines_are_the_documented_ones() -> None:
    lines = {signal: (line.enter, line.hard) for signal, line in DEFAULT_THRESHOLDS.items()}
    assert lines == {
        "memory_available_percent": ((25, 18, 13, 8), 6),
        "psi_memory_some_avg10": ((5, 10, 20, 40), None),
        "psi_memory_full_avg10": ((None, None, None, None), 10),
        "foreign_cpu_percent": ((45, 70, 85, 95), None),
        "temperature_c": ((70, 75, 79, 82), 83),
        "throttled": ((None, 1, None, None), None),
        "low_voltage": ((None, 1, None, None), None),
        "battery_percent": ((40, 25, 15, 7), None),
        "battery_temperature_c": ((39, 42, 45, 47), 48),
    }
    assert set(LADDER_OF) == set(DEFAULT_THRESHOLDS)
    falling = {signal for signal, line in DEFAULT_THRESHOLDS.items() if line.falling}
    assert falling == {"memory_available_percent", "battery_percent"}
    assert Dwell() == Dwell(hold_s=4, recover_s=120, up_moves_per_hour=6)


@given(st.lists(st.none() | st.floats(-100, 100), min_size=5, max_size=5), st.booleans())
def test_lines_must_rise_or_fall_in_order(lines: list[float | None], falling: bool) -> None:  # noqa: FBT001
    set_lines = [line for line in lines if line is not None]
    steps = list(pairwise(set_lines))
    fits = all((a >= b) if falling else (a <= b) for a, b in steps)
    enter = (lines[0], lines[1], lines[2], lines[3])
    if fits:
        assert Threshold(enter=enter, hard=lines[4], falling=falling).enter == enter
    else:
        with pytest.raises(ValueError, match="lines must " + ("fall" if falling else "rise")):
            Threshold(enter=enter, hard=lines[4], falling=falling)


@pytest.mark.parametrize(
    "number", [float("nan"), float("inf"), -float("inf")], ids=["nan", "inf", "-inf"]
)
def test_a_line_is_a_finite_number(number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Threshold(enter=(1, 2, 3, number))


@pytest.mark.parametrize(
    "change",
    [
        {"hold_s": -1},
        {"recover_s": 0},
        {"up_moves_per_hour": 0},
        {"stale_s": 0},
    ],
)
def test_dwell_times_have_bounds(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Dwell().with_(**change)


@pytest.mark.parametrize("minute", [-1, 1440])
def test_windows_lie_within_a_day(minute: int) -> None:
    with pytest.raises(ValueError, match="end_minute"):
        Window(start_minute=0, end_minute=minute)
    with pytest.raises(ValueError, match="compute"):
        Window(start_minute=0, end_minute=60, compute=RUNGS)


@given(threads=st.integers(1, 16), base=st.integers(0, 3))
def test_worse_rungs_never_allow_more(threads: int, base: int) -> None:
    schedule = default_cascade_schedule(STAGES, threads, tuple(range(threads)), base)
    for better, worse in pairwise(schedule.compute):
        for stage in STAGES:
            a, b = better.stages[stage], worse.stages[stage]
            assert b.threads <= a.threads
            assert b.nice >= a.nice
        assert worse.threshold_step >= better.threshold_step
        assert worse.paused >= better.paused
    loaded = [len(rung.resident) + len(rung.on_demand) for rung in schedule.residency]
    assert loaded == sorted(loaded, reverse=True)
    assert loaded[-1] == 0


@given(threads=st.integers(1, 16))
def test_no_stage_has_more_threads_than_cpus(threads: int) -> None:
    schedule = default_cascade_schedule(STAGES, threads, tuple(range(threads)))
    for rung in schedule.compute:
        for stage in rung.stages.values():
            assert stage.cpus is not None
            assert len(stage.cpus) == stage.threads


def test_the_default_ladders_read_as_documented() -> None:
    schedule = default_cascade_schedule(STAGES, 4)
    c0, c1, c2, c3, c4 = schedule.compute
    r0, r1, r2, r3, r4 = schedule.residency
    assert c0.stages["large"] == StageCompute(threads=4)
    assert c1.stages["large"] == StageCompute(threads=2, nice=5)
    assert (c1.threshold_step, c2.threshold_step) == (0, 1)
    assert c2.escalations_per_s is not None
    assert c3.stages["large"].threads == 1
    assert (c2.spaced, c3.spaced, c3.paused, c4.paused) == (False, True, False, True)
    assert r0.resident == STAGES
    assert (r1.resident, r1.on_demand) == (("small",), ("large",))
    assert r1.idle_unload_s
    assert (r2.on_demand, r2.one_at_a_time) == (STAGES, True)
    assert (r3.resident, r3.on_demand) == (("small",), ())
    assert (r4.resident, r4.on_demand) == ((), ())


def test_what_the_first_answer_takes_stays_together() -> None:
    schedule = default_cascade_schedule(("trunk", "exit", "rest"), 1, first=2)
    _, r1, r2, r3, _ = schedule.residency
    assert (r1.resident, r1.on_demand) == (("trunk", "exit"), ("rest",))
    assert r2.on_demand == ("trunk", "exit", "rest")
    assert (r3.resident, r3.on_demand) == (("trunk", "exit"), ())


def test_every_ladder_has_five_rungs() -> None:
    whole = default_cascade_schedule(STAGES, 1)
    for ladder in ("compute", "residency"):
        rungs = getattr(whole, ladder)
        for wrong in (rungs[:4], (*rungs, rungs[-1]), ()):
            with pytest.raises(ValueError, match=ladder):
                CascadeSchedule.model_validate({**dict(whole), ladder: wrong})


def test_an_unknown_signal_is_refused() -> None:
    with pytest.raises(ValueError, match="thresholds"):
        Schedule().with_(thresholds={"phase_of_the_moon": Threshold(enter=(1, 2, 3, 4))})


def test_a_bundle_that_waits_for_charge_goes_on_no_sooner_than_it_began_to_wait() -> None:
    assert Schedule().power == Power(apply_percent=15, resume_percent=30)
    assert Power(apply_percent=0, resume_percent=0)
    with pytest.raises(ValidationError, match="resume_percent must be at least apply_percent"):
        Power(apply_percent=40)
    with pytest.raises(ValidationError):
        Power(apply_percent=-1)
