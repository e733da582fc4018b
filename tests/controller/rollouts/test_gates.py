"""What each gate calls unhealthy, and what it does not."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.rollouts.drift import (
    CHI2_99,
    WINDOW_ANSWERS,
    Seen,
    allowed_psi,
    collect,
    drift,
    psi,
)
from controller.rollouts.gates import (
    MISTAKE,
    Sight,
    baseline,
    exceeds,
    expected_escalations,
    is_slow,
    judge,
)
from protocols.bundle import CONFIDENCE_BINS, Certificate
from protocols.desired import DesiredCascade
from protocols.device import CascadeStats, Sample, StageStats
from protocols.rollout import Baseline, ConfidenceWindow, Gates
from tests.controller.cascades import make_bundle, ref_of

BEFORE = Baseline(p95_ms=20.0, degraded=0.05, deaths=1, battery_percent=80.0)
FLAT = tuple(1 / CONFIDENCE_BINS for _ in range(CONFIDENCE_BINS))


def stats(**more: object) -> CascadeStats:
    usual = {"name": "digits", "version": 2, "stages": (), "answers": 1000, "p95_ms": 21.0}
    return CascadeStats.model_validate({**usual, "deaths": 1, **more})


def gates_of(
    found: CascadeStats,
    gates: Gates = Gates(),  # noqa: B008 - frozen
    before: Baseline | None = BEFORE,
    sample: Sample = Sample(time_s=1.0, battery_percent=79.0, battery_plugged=False),  # noqa: B008
    soaked_s: float = 3600.0,
) -> list[str]:
    sight = Sight("pi", found, sample, before, soaked_s, expected=0.25)
    return [one.gate for one in judge(gates, sight)]


def test_a_device_that_does_as_before_is_healthy() -> None:
    assert gates_of(stats(escalated=250, degraded=50, failed=1)) == []


@pytest.mark.parametrize(
    ("gate", "worse"),
    [
        ("failed", {"failed": 40}),
        ("degraded", {"degraded": 400}),
        ("degraded", {"refused": 900}),
        ("deaths", {"deaths": 2}),
        ("p95", {"p95_ms": 31.0}),
        ("escalated", {"escalated": 450}),
    ],
)
def test_each_gate_sees_its_own(gate: str, worse: dict[str, float]) -> None:
    assert gates_of(stats(**worse)) == [gate]
    off = Gates.model_validate({gate: None})
    assert gates_of(stats(**worse), off) == []


def test_escalations_that_were_there_before_are_no_fault_of_the_bundle() -> None:
    assert gates_of(stats(escalated=450), before=BEFORE.with_(escalated=0.44)) == []
    assert gates_of(stats(escalated=700), before=BEFORE.with_(escalated=0.44)) == ["escalated"]


def test_a_p95_that_a_moment_has_lifted_is_forgiven() -> None:
    slow = stats(p95_ms=44.0)
    sight = Sight("pi", slow, Sample(time_s=1.0), BEFORE, slow_for_s=59.0, soak_s=600.0)
    assert is_slow(Gates(), sight)
    assert list(judge(Gates(), sight)) == []
    assert [f.gate for f in judge(Gates(), replace(sight, slow_for_s=60.0))] == ["p95"]
    assert [f.gate for f in judge(Gates(), replace(sight, slow_for_s=2.0, soak_s=10.0))] == ["p95"]


def test_a_battery_that_empties_too_fast() -> None:
    def level(percent: float, *, plugged: bool | None = False) -> Sample:
        return Sample(time_s=1.0, battery_percent=percent, battery_plugged=plugged)

    assert gates_of(stats(), sample=level(50.0)) == ["battery"]
    assert gates_of(stats(), sample=level(50.0, plugged=True)) == []
    assert gates_of(stats(), sample=level(50.0, plugged=None)) == []
    assert gates_of(stats(), sample=level(65.0)) == []
    assert gates_of(stats(), sample=level(79.0), soaked_s=60.0) == [], "one point is no slope"
    assert gates_of(stats(), sample=level(78.0), soaked_s=60.0) == ["battery"]


def test_figures_that_say_nothing_yet_are_not_judged() -> None:
    assert gates_of(stats(p95_ms=400.0, answers=49)) == []
    assert gates_of(stats(p95_ms=400.0), before=Baseline(deaths=1)) == []
    assert gates_of(stats(p95_ms=0.9), before=BEFORE.with_(p95_ms=0.3)) == [], "a scheduler's noise"
    assert gates_of(stats(deaths=0, degraded=900), before=None) == []
    assert gates_of(stats(answers=0, p95_ms=None)) == []


def test_deaths_are_known_without_a_baseline() -> None:
    assert gates_of(stats(deaths=1), before=None) == ["deaths"]


def test_what_is_remembered() -> None:
    found = baseline(stats(degraded=100, refused=250), 2)
    assert found == Baseline(p95_ms=21.0, degraded=350 / 1250, escalated=0.0, deaths=1)
    assert baseline(stats(answers=10), 2) == Baseline(deaths=1)
    assert baseline(stats(answers=10), 3) == Baseline(), "deaths of another version"
    assert baseline(None, 2) == Baseline()


def upper_tail(n: int, p: float, k: int) -> float:
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))


@given(n=st.integers(1, 120), k=st.integers(0, 120), limit=st.sampled_from([0.01, 0.05, 0.2, 0.5]))
def test_chance_alone_hardly_ever_fails_a_gate(n: int, k: int, limit: float) -> None:
    k = min(k, n)
    if exceeds(k, n, limit):
        assert k / n > limit
        assert upper_tail(n, limit, k) <= MISTAKE * (1 + 1e-9)


def test_counts_at_the_edges() -> None:
    assert exceeds(2, 2, 0.01)
    assert not exceeds(1, 1, 0.01)
    assert exceeds(1, 10_000, 0.0)
    assert not exceeds(0, 10, 0.0)
    assert not exceeds(5, 0, 0.0)
    assert not exceeds(10, 10, 1.0)
    assert exceeds(30_000, 1_000_000, 0.029)
    assert exceeds(25, 20, 0.6), "several gates may escalate one answer"


def test_escalations_follow_from_the_certificate() -> None:
    bundle = make_bundle()
    cascade = DesiredCascade(bundle=ref_of(bundle), variants={"small": "int8", "large": "fp32"})
    assert expected_escalations(bundle, cascade, 0) == 0.25
    assert expected_escalations(bundle, cascade, 9) == 0.25
    other = cascade.with_(variants={"small": "fp32"})
    assert expected_escalations(bundle, other, 0) is None


def counted(*bins: int) -> tuple[int, ...]:
    return (*bins, *[0] * (CONFIDENCE_BINS - len(bins)))


def test_a_drift_needs_two_windows_on_end() -> None:
    bad = counted(WINDOW_ANSWERS)
    first = drift({}, {"small": Seen(bad, FLAT, 1000)})
    assert first.finding is None
    assert first.windows == {"small": ConfidenceWindow(start=bad, shifted=True)}
    few = drift(first.windows, {"small": Seen(counted(WINDOW_ANSWERS + 499), FLAT, 1000)})
    assert few.windows == first.windows
    second = drift(first.windows, {"small": Seen(counted(2 * WINDOW_ANSWERS), FLAT, 1000)})
    assert second.finding is not None
    assert second.finding.gate == "confidence"
    assert "small" in second.finding.message


def test_what_drifts_without_the_bundle_too_is_excused() -> None:
    bad, good = counted(WINDOW_ANSWERS), tuple(100 for _ in range(CONFIDENCE_BINS))
    drifted = ConfidenceWindow(start=counted(), shifted=True)
    seen = {"small": Seen(bad, FLAT, 1000)}
    after = drift({"small": drifted}, seen, {"small": Seen(bad, FLAT, 1000)})
    assert after.windows["small"] == ConfidenceWindow(start=bad, shifted=False, excused=True)
    none_left = drift(after.windows, {"small": Seen(counted(1000), FLAT, 1000)})
    assert none_left.windows["small"].excused
    assert drift({"small": drifted}, seen, {"small": Seen(good, FLAT, 1000)}).finding is not None
    few = {"small": Seen(counted(WINDOW_ANSWERS - 1), FLAT, 1000)}
    assert drift({"small": drifted}, seen, few).finding is not None


def test_a_good_window_between_two_bad_ones_forgives() -> None:
    good = tuple(100 for _ in range(CONFIDENCE_BINS))
    window = ConfidenceWindow(start=counted(), shifted=True)
    after = drift({"small": window}, {"small": Seen(good, FLAT, 1000)})
    assert after.finding is None
    assert after.windows["small"] == ConfidenceWindow(start=good, shifted=False)


def test_windows_grow_with_a_busy_fleet() -> None:
    window = ConfidenceWindow(start=counted(90_000))
    same = drift({"small": window}, {"small": Seen(counted(99_999), FLAT, 1000)})
    assert same.windows["small"] == window
    after = drift({"small": window}, {"small": Seen(counted(100_000), FLAT, 1000)})
    assert after.windows["small"] == ConfidenceWindow(start=counted(100_000), shifted=True)


def test_a_runner_that_starts_anew_starts_a_window() -> None:
    window = ConfidenceWindow(start=counted(400), shifted=True)
    after = drift({"small": window}, {"small": Seen(counted(3), FLAT, 1000)})
    assert after.windows["small"] == ConfidenceWindow(start=counted(3), shifted=True)


def test_sampling_alone_is_no_drift() -> None:
    assert allowed_psi(500, 1000) == CHI2_99 * 0.003
    assert allowed_psi(10**6, 10**6) == 0.1
    assert psi(FLAT, FLAT, 500, 1000) == 0
    assert psi((1.0, 0.0), (0.0, 1.0), 500, 1000) > 5


def test_confidences_are_summed_and_weighted() -> None:
    def device(counts: tuple[int, ...] | None, shares: tuple[float, ...]) -> object:
        stage = StageStats(name="small", variant="int8", loaded=True, confidence=counts)
        known = make_bundle().certificates[0].with_(confidence={"small": shares} if shares else {})
        return stats(stages=(stage,)), known

    left, right = counted(30), (0,) * (CONFIDENCE_BINS - 1) + (10,)
    shares = (1.0, *[0.0] * (CONFIDENCE_BINS - 1))
    pairs: list[tuple[CascadeStats, Certificate]] = [
        device(left, FLAT),  # type: ignore[list-item]
        device(right, shares),  # type: ignore[list-item]
        device(None, FLAT),  # type: ignore[list-item]
        device(left, ()),  # type: ignore[list-item]
        device((1, 2), FLAT),  # type: ignore[list-item]
    ]
    (found,) = collect(pairs).values()
    assert found.counts == tuple(a + b for a, b in zip(left, right, strict=True))
    assert found.shares[0] == pytest.approx(0.75 / CONFIDENCE_BINS + 0.25)
    assert sum(found.shares) == pytest.approx(1.0)
    assert found.n == 1000
