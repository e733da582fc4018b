from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tuner.when import (
    DRIFT_FOR_S,
    Load,
    Memo,
    busy,
    compare,
    failed,
    is_due,
    look,
    measured,
    untuned,
)
from protocols.device import Rungs, Sample, StageStats
from protocols.profile import LayoutRun, ProfileKey, StageProfile

A, B = "a" * 64, "b" * 64
CALM = Sample(
    time_s=0.0,
    foreign_cpu_percent=3.0,
    memory_available_percent=60.0,
)
IDLE = Load(CALM, Rungs())


def profile(artifact: str, p50_ms: float = 10.0, threads: int = 2) -> StageProfile:
    run = LayoutRun(
        threads=threads,
        count=50,
        p50_ms=p50_ms,
        p95_ms=p50_ms,
        answers_per_s=1.0,
        cpu_ms=1.0,
        load_ms=1.0,
        peak_rss_mib=1.0,
    )
    key = ProfileKey(artifact=artifact, runtime="r", kernel="k", cpus=(0, 1))
    return StageProfile(key=key, measured_ts=0.0, runs=(run,))


def stage(p50_ms: float | None, threads: int = 2) -> StageStats:
    return StageStats(
        name="s", variant="v", loaded=True, layout="intra-op", threads=threads, p50_ms=p50_ms
    )


@pytest.mark.parametrize(
    ("load", "why"),
    [
        (IDLE, ""),
        (replace(IDLE, rungs=Rungs(compute=1)), "the governor is at R0 C1"),
        (replace(IDLE, rungs=Rungs(residency=2)), "the governor is at R2 C0"),
        (replace(IDLE, sample=CALM.with_(foreign_cpu_percent=None)), "not known"),
        (replace(IDLE, sample=CALM.with_(foreign_cpu_percent=40.0)), "others use 40 %"),
        (replace(IDLE, sample=CALM.with_(battery_percent=90.0)), "on its battery"),
        (
            replace(IDLE, sample=CALM.with_(battery_percent=90.0, battery_plugged=False)),
            "on its battery",
        ),
        (replace(IDLE, sample=CALM.with_(battery_percent=9.0, battery_plugged=True)), ""),
        (replace(IDLE, sample=CALM.with_(memory_available_percent=20.0)), "20 % of the memory"),
        (replace(IDLE, serving_cpus=0.5), "requests are answered"),
    ],
)
def test_it_measures_only_where_nothing_else_needs_the_device(load: Load, why: str) -> None:
    assert why in busy(load)
    assert bool(busy(load)) == bool(why)


def test_idling_is_counted_from_its_beginning_and_anew_after_every_break() -> None:
    memo = look(Memo(), IDLE, 100.0)
    memo = look(memo, IDLE, 150.0)
    assert not is_due(memo, 60.0, 159.0)
    assert is_due(memo, 60.0, 160.0)

    memo = look(memo, replace(IDLE, serving_cpus=1.0), 170.0)
    assert not is_due(memo, 60.0, 10_000.0)
    assert not is_due(look(memo, IDLE, 180.0), 60.0, 230.0)


def test_what_was_measured_or_failed_is_left_alone_for_its_time() -> None:
    assert untuned(Memo(), (A, B), (profile(A),), 0.0) == (B,)
    memo = failed(Memo(), B, 100.0)
    assert untuned(memo, (A, B), (profile(A),), 3699.0) == ()
    assert untuned(memo, (A, B), (profile(A),), 3700.0) == (B,)


def test_a_latency_that_stays_off_wants_a_new_profile() -> None:
    known = (profile(A, 10.0),)
    memo = compare(Memo(), {A: stage(12.6)}, known, Rungs(), 0.0)
    memo = compare(memo, {A: stage(13.0)}, known, Rungs(), DRIFT_FOR_S - 1)
    assert untuned(memo, (A,), known, DRIFT_FOR_S - 1) == ()
    assert untuned(memo, (A,), known, DRIFT_FOR_S) == (A,)
    assert untuned(measured(memo, A), (A,), known, DRIFT_FOR_S) == ()

    back = compare(memo, {A: stage(12.4)}, known, Rungs(), DRIFT_FOR_S)
    assert untuned(back, (A,), known, DRIFT_FOR_S) == ()


def test_what_does_not_run_as_tuned_is_not_compared() -> None:
    known = (profile(A, 10.0, threads=2),)
    for stages, rungs in (
        ({A: stage(99.0, threads=1)}, Rungs()),
        ({A: stage(99.0)}, Rungs(compute=1)),
        ({A: stage(None)}, Rungs()),
        ({B: stage(99.0)}, Rungs()),
    ):
        assert compare(Memo(), stages, known, rungs, 0.0).drifting_s == {}


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 30.0)), max_size=60))
def test_it_is_due_only_after_an_unbroken_calm(trace: list[tuple[bool, float]]) -> None:
    memo, now_s, calm_s = Memo(), 0.0, None
    for is_idle, span_s in trace:
        now_s += span_s
        load = IDLE if is_idle else replace(IDLE, serving_cpus=1.0)
        memo = look(memo, load, now_s)
        calm_s = (calm_s if calm_s is not None else now_s) if is_idle else None
        assert is_due(memo, 60.0, now_s) == (calm_s is not None and now_s - calm_s >= 60.0)
