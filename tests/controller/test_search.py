import json
import math
from pathlib import Path

import numpy as np
import pytest

from controller.calibrate import EPS_LADDER, NEVER, binomial_tail
from controller.errors import BuildError
from controller.pool import Entry, profile_costs
from controller.search import METRICS, Member, Search, on, search, upper_bound


def member(name: str, cost: float, skill: float, n: int = 3000, seed: int = 0) -> Member:
    """A model that is right where a sample is easier than its skill; about so sure is it, too.

    The samples are the same for all seeds: what differs is noise of each model's own.
    """
    hard = np.random.default_rng(99).random(n)
    noise = np.random.default_rng(seed).normal(0, 0.03, n)
    right = hard + noise < skill
    sure = np.clip(1 - 0.5 * hard / skill - 0.3 * (~right), 0, 1)
    return Member(name, cost, right, {metric: sure**k for k, metric in enumerate(METRICS, 1)})


def halves(pool: list[Member]) -> tuple[list[Member], list[Member]]:
    n = len(pool[0].right)
    order = np.random.default_rng(5).permutation(n)
    return (
        [on(one, order[: n // 3]) for one in pool],
        [on(one, order[n // 3 :]) for one in pool],
    )


POOL = [
    member("large", 100.0, 0.97, seed=1),
    member("small", 1.0, 0.8, seed=2),
    member("medium", 12.0, 0.92, seed=3),
    member("useless", 50.0, 0.3, seed=4),
]


@pytest.fixture(scope="module")
def found() -> Search:
    return search(*halves(POOL))


def test_wider_eps_is_cheaper_and_all_of_it_is_certified(found: Search) -> None:
    assert found.reference == "large"
    costs = [row.cascade.cost for row in found.rows if row.cascade is not None]
    assert len(costs) == len(EPS_LADDER)
    assert costs == sorted(costs, reverse=True)
    for row in found.rows:
        cascade = row.cascade
        assert cascade is not None
        assert cascade.eps + cascade.bound <= row.eps + 1e-9
        assert cascade.loss <= row.eps
        assert row.cascade_wins
        for gates in cascade.calibration.gates.values():
            step = gates[cascade.step]
            assert step.threshold < NEVER
            assert binomial_tail(step.harms, step.n, step.eps) <= step.delta


def test_stages_stand_in_order_of_cost_and_useless_models_are_left_out(found: Search) -> None:
    order = ["small", "medium", "useless", "large"]
    for row in found.rows:
        assert row.cascade is not None
        places = [order.index(stage) for stage in row.cascade.stages]
        assert places == sorted(places)
        assert "useless" not in row.cascade.stages


def test_more_stages_are_never_worse() -> None:
    choose, _ = halves(POOL)
    costs = []
    for most in (2, 3, 4):
        rows = search(choose, choose, (0.02,), most).rows
        assert rows[0].cascade is not None
        costs.append(rows[0].cascade.cost)
    assert costs == sorted(costs, reverse=True)


def test_the_pruned_search_finds_what_all_cascades_have() -> None:
    """Every pair and metric by hand, on the samples that choose."""
    choose, _ = halves(POOL)
    (row,) = search(choose, choose, (0.02,), 2).rows
    pairs = [
        rows[0].cascade.cost
        for a in choose
        for b in choose
        if a.cost < b.cost
        for rows in [search([a, b], [a, b], (0.02,), 2).rows]
        if rows[0].cascade is not None and b.name == "large"
    ]
    assert row.cascade is not None
    assert row.cascade.cost == min(pairs)


def test_a_single_model_wins_where_costs_lie_close() -> None:
    pool = [member("a", 9.0, 0.9, seed=1), member("b", 10.0, 0.99, seed=2)]
    rows = search(*halves(pool), (0.01,)).rows
    assert not rows[0].cascade_wins
    assert rows[0].single.name == "b"


def test_bytes_add_up() -> None:
    found = search(*halves(POOL), (0.05,), add_up=True)
    (row,) = found.rows
    assert not row.cascade_wins
    assert row.cascade is None or row.cascade.cost > 100


def test_a_last_stage_that_is_almost_the_best_costs_part_of_eps() -> None:
    best = member("best", 1000.0, 0.97, seed=1)
    almost = Member("almost", 100.0, best.right.copy(), best.confidence)
    almost.right[np.flatnonzero(best.right)[:3]] = False
    rows = search(*halves([best, almost, member("small", 1.0, 0.8, seed=2)])).rows
    cascade = rows[-1].cascade
    assert cascade is not None
    assert cascade.stages[-1] == "almost"
    assert 0 < cascade.bound < 0.05 - cascade.eps + 1e-9
    assert rows[-1].single.name == "almost"


@pytest.mark.parametrize(("harms", "n"), [(0, 100), (3, 400), (7, 50)])
def test_the_upper_bound_is_exact(harms: int, n: int) -> None:
    bound = upper_bound(harms, n, 0.05)
    assert math.isclose(binomial_tail(harms, n, bound), 0.05, rel_tol=1e-6)
    assert upper_bound(n, n, 0.05) == 1.0


def test_what_cannot_be_searched() -> None:
    choose, prove = halves(POOL)
    with pytest.raises(BuildError, match="cannot search 1 models: want 2 to 16"):
        search(choose[:1], prove[:1])
    with pytest.raises(BuildError, match=r"cannot choose at eps 5\.0% with 19 samples"):
        search([on(one, np.arange(19)) for one in choose], prove)
    few = [on(one, np.arange(50)) for one in prove]
    with pytest.raises(BuildError, match=r"cannot certify eps 5\.0% with 50 samples"):
        search(choose, few)
    with pytest.raises(BuildError, match=r"certified are 0\.5%, 1\.0%, 2\.0%, 5\.0%"):
        search(choose, prove, (0.03,))


def test_costs_of_a_profile(tmp_path: Path) -> None:
    pool = (Entry("a.tflite", "a", tmp_path / "a.tflite", 0),)
    path = tmp_path / "pi.json"
    path.write_text(json.dumps({"a": {"latency_ms": 3.5}}))
    assert profile_costs("latency", pool, path).values == {"a": 3.5}
    for document, why in (
        ("{}", "no 'a'"),
        ('{"a": {"latency_ms": -1}}', "latency_ms of a is not positive"),
        ("junk", "cannot use profile"),
        ("[]", "cannot use profile"),
    ):
        path.write_text(document)
        with pytest.raises(BuildError, match=why):
            profile_costs("latency", pool, path)
    with pytest.raises(BuildError, match="cannot read profile"):
        profile_costs("latency", pool, tmp_path / "none.json")


def test_energy_of_a_profile(tmp_path: Path) -> None:
    pool = tuple(Entry(f"{n}.tflite", n, tmp_path / f"{n}.tflite", 0) for n in "ab")
    path = tmp_path / "pi.json"
    rail = {"energy_mj": 3.5, "energy_method": "rail", "cpu_ms": 2.0}
    path.write_text(json.dumps({"a": rail, "b": rail}))
    measured = profile_costs("energy", pool, path)
    assert (measured.values, measured.method) == ({"a": 3.5, "b": 3.5}, "rail")
    estimated = profile_costs("energy", pool, path, watts=2.5)
    assert (estimated.values, estimated.method) == ({"a": 5.0, "b": 5.0}, "model")
    assert "times 2.5 W: an estimate" in estimated.source
    assert profile_costs("cpu", pool, path).method is None
    for other, why in (
        ({**rail, "energy_method": "battery"}, "figures of two methods cannot be compared"),
        ({**rail, "energy_method": "guess"}, "want one of meter, rail, battery, model"),
        ({"energy_mj": 3.5}, "no 'energy_method'; it takes .*\"energy_method\": meter"),
    ):
        path.write_text(json.dumps({"a": rail, "b": other}))
        with pytest.raises(BuildError, match=why):
            profile_costs("energy", pool, path)
