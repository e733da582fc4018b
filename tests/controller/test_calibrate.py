import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from controller.calibrate import (
    DELTA,
    EPS_LADDER,
    GRID,
    NEVER,
    GateRecord,
    binomial_tail,
    calibrate,
    certify,
    confidence_shares,
    most_harms,
    samples_needed,
)
from controller.errors import BuildError
from protocols.bundle import CONFIDENCE_BINS
from protocols.inference.gate import confidence_bin

sizes = st.integers(90, 1500)
seeds = st.integers(0, 2**32 - 1)


def exact_tail(harms: int, n: int, eps: Fraction) -> float:
    terms = (math.comb(n, k) * eps**k * (1 - eps) ** (n - k) for k in range(harms + 1))
    return float(sum(terms, Fraction(0)))


@pytest.mark.parametrize("n", [1, 7, 100, 999])
@pytest.mark.parametrize(
    "eps", [Fraction(1, 200), Fraction(1, 100), Fraction(1, 20), Fraction(1, 2)]
)
def test_the_binomial_tail_is_exact(n: int, eps: Fraction) -> None:
    for harms in {0, 1, n // 100, n // 20, n // 2, n - 1} - {-1}:
        expected = exact_tail(harms, n, eps)
        assert binomial_tail(harms, n, float(eps)) == pytest.approx(expected, rel=1e-9, abs=1e-300)
    assert binomial_tail(n, n, float(eps)) == 1.0


def test_the_binomial_tail_of_many_samples() -> None:
    # Recurrence in exact integers: P(Bin(100000, 1/200) <= 450) from its terms.
    n, eps = 100_000, Fraction(1, 200)
    term = math.exp(n * math.log1p(-float(eps)))
    terms = [term]
    for k in range(450):
        term *= (n - k) / (k + 1) * float(eps / (1 - eps))
        terms.append(term)
    assert binomial_tail(450, n, 0.005) == pytest.approx(math.fsum(terms), rel=1e-9)


@pytest.mark.parametrize(
    ("eps", "delta", "n"), [(0.01, 0.05, 299), (0.01, 0.0125, 437), (0.05, 0.0125, 86)]
)
def test_how_many_samples_are_needed(eps: float, delta: float, n: int) -> None:
    assert samples_needed(eps, delta) == n
    assert most_harms(n, eps, delta) == 0
    assert most_harms(n - 1, eps, delta) == -1


def test_the_grid_falls_from_one_to_zero() -> None:
    assert GRID[0] == 1.0
    assert GRID[-1] == 0.0
    assert (np.diff(GRID) < 0).all()


def population(n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Confidences uniform in 0..1; an exit harms with probability 0.2 * (1 - confidence)."""
    draw = np.random.default_rng(seed)
    confidence = draw.random(n)
    return confidence, draw.random(n) < 0.2 * (1 - confidence)


def true_harm(threshold: float) -> float:
    """E[harm] of the population: the integral of 0.2 * (1 - c) from the threshold to 1."""
    return 0.1 * (1 - min(threshold, 1.0)) ** 2


@given(sizes, seeds)
def test_what_is_certified_passes_its_own_test(n: int, seed: int) -> None:
    confidence, harmful = population(n, seed)
    before = NEVER
    for eps in EPS_LADDER:
        threshold, harms = certify(confidence, harmful, eps, 0.0125)
        assert harms == int((harmful & (confidence >= threshold)).sum())
        if threshold < NEVER:
            assert binomial_tail(harms, n, eps) <= 0.0125
            assert threshold in GRID
        assert threshold <= before
        before = threshold


@given(sizes, seeds)
def test_the_walk_goes_as_far_as_it_may(n: int, seed: int) -> None:
    confidence, harmful = population(n, seed)
    threshold, _ = certify(confidence, harmful, 0.02, 0.0125)
    place = 0 if threshold == NEVER else int(np.flatnonzero(threshold == GRID)[0]) + 1
    if place < len(GRID):
        following = int((harmful & (confidence >= GRID[place])).sum())
        assert binomial_tail(following, n, 0.02) > 0.0125


def test_certificates_hold_as_often_as_they_promise() -> None:
    trials, eps, delta = 1000, 0.02, 0.05
    broken = sum(
        true_harm(certify(*population(1000, seed), eps, delta)[0]) > eps for seed in range(trials)
    )
    error = 3 * math.sqrt(delta * (1 - delta) / trials)
    assert 0 < broken <= trials * (delta + error)


def test_a_whole_cascade_loses_as_little_as_it_promises() -> None:
    """Two gates: the loss against the last stage, in the population, at every step."""
    trials, broken = 200, 0
    for seed in range(trials):
        gates, last = cascade(2200, seed)
        found = calibrate(gates, "last", last)
        truth = cascade(20_000, 10_000 + seed)
        for step, eps in enumerate(found.eps):
            limits = [found.gates[name][step].threshold for name in ("a", "b")]
            if loss(truth, limits) > eps + 0.004:  # sampling error of the truth itself
                broken += 1
                break
    assert broken <= trials * (DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / trials))


def cascade(n: int, seed: int) -> tuple[dict[str, GateRecord], NDArray[np.bool_]]:
    draw = np.random.default_rng(seed)
    hardness = draw.random(n)
    gates = {}
    for name, skill in (("a", 0.5), ("b", 0.25)):
        confidence = np.clip(1 - hardness + draw.normal(0, 0.1, n), 0, 1)
        gates[name] = GateRecord(confidence, draw.random(n) >= skill * hardness)
    return gates, draw.random(n) >= 0.05 * hardness


def loss(truth: tuple[dict[str, GateRecord], NDArray[np.bool_]], thresholds: list[float]) -> float:
    gates, last = truth
    right = last.copy()
    for record, threshold in reversed(list(zip(gates.values(), thresholds, strict=True))):
        right = np.where(record.confidence >= threshold, record.right, right)
    return float(last.mean() - right.mean())


def test_a_gate_that_is_never_wrong_lets_everything_leave() -> None:
    sure = GateRecord(np.linspace(0, 1, 1000), np.ones(1000, np.bool_))
    found = calibrate({"small": sure}, "large", np.ones(1000, np.bool_))
    assert found.eps == EPS_LADDER
    assert [step.threshold for step in found.gates["small"]] == [0.0] * 4
    assert {step.escalated for step in found.gates["small"]} == {0.0}
    assert {step.delta for step in found.gates["small"]} == {DELTA / 4}
    assert found.saves


def test_a_gate_that_is_surely_wrong_lets_nothing_leave() -> None:
    wrong = GateRecord(np.ones(1000), np.zeros(1000, np.bool_))
    found = calibrate({"small": wrong}, "large", np.ones(1000, np.bool_))
    steps = found.gates["small"]
    assert {(s.threshold, s.harms, s.escalated) for s in steps} == {(NEVER, 0, 1.0)}
    assert set(found.accuracy) == {1.0}
    assert not found.saves


def test_wrong_where_the_last_stage_is_wrong_too_is_no_harm() -> None:
    wrong = GateRecord(np.ones(1000), np.zeros(1000, np.bool_))
    found = calibrate({"small": wrong}, "large", np.zeros(1000, np.bool_))
    assert found.gates["small"][0].threshold == 0.0


def test_gates_share_what_may_be_lost() -> None:
    gates, last = cascade(2200, 3)
    found = calibrate(gates, "last", last)
    for ladder in found.gates.values():
        assert [s.eps for s in ladder] == [eps / 2 for eps in found.eps]
        assert {s.delta for s in ladder} == {DELTA / 8}
    for step in range(len(found.eps)):
        first, second = (found.gates[name][step] for name in ("a", "b"))
        assert first.escalated == pytest.approx((found.exits[step] > 0).mean())
        assert second.escalated == pytest.approx((found.exits[step] > 1).mean())


@given(st.lists(st.floats(-0.01, 1.01) | st.just(float("nan")), min_size=1, max_size=50))
def test_shares_of_confidences_are_shares(values: list[float]) -> None:
    shares = confidence_shares(np.array(values))
    assert len(shares) == CONFIDENCE_BINS
    known = [value for value in values if not math.isnan(value)]
    assert sum(shares) == pytest.approx(1.0 if known else 0.0, abs=1e-4)
    if known:
        assert shares[confidence_bin(known[0]) or 0] >= 1 / len(known) - 1e-6


def test_few_samples_prove_few_steps() -> None:
    def record(n: int) -> GateRecord:
        return GateRecord(np.linspace(0, 1, n), np.ones(n, np.bool_))

    found = calibrate({"small": record(300)}, "large", np.ones(300, np.bool_))
    assert found.eps == (0.02, 0.05)
    with pytest.raises(BuildError, match=r"with 85 samples.*at least 86 for 5\.0%"):
        calibrate({"small": record(85)}, "large", np.ones(85, np.bool_))
