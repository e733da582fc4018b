from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.compress.budget import Option, Point, furthest, halves, path
from controller.compress.errors import CompressError
from controller.samples import Samples

Table = dict[int, list[Option[int]]]
SIZES = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 50)), min_size=1, max_size=5)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    return {
        layer: [
            Option(None, 100.0, 0.0),
            *(Option(n, float(size), float(harm)) for n, (size, harm) in enumerate(several)),
        ]
        for layer, several in enumerate(draw(st.lists(SIZES, min_size=1, max_size=3)))
    }


def cost(table: Table, chosen: Mapping[int, int]) -> tuple[float, float]:
    picked = [
        next(option for option in several if option.choice == chosen.get(layer))
        for layer, several in table.items()
    ]
    return sum(one.size for one in picked), sum(one.damage for one in picked)


@given(tables())
def test_a_path_begins_with_nothing_and_shrinks(table: Table) -> None:
    allocations = path(table)
    assert allocations[0] == {}
    sizes = [cost(table, chosen)[0] for chosen in allocations]
    assert all(after < before for before, after in pairwise(sizes))
    least = sum(min(option.size for option in several) for several in table.values())
    assert sizes[-1] == least


@given(tables(), st.floats(0.01, 100))
def test_no_price_has_a_better_allocation_than_the_path(table: Table, price: float) -> None:
    best = sum(min(one.size + price * one.damage for one in several) for several in table.values())
    found = (cost(table, chosen) for chosen in path(table))
    assert min(size + price * damage for size, damage in found) == pytest.approx(best)


@given(st.integers(1, 60), st.integers(0, 60))
def test_the_furthest_place_that_holds_is_found(length: int, last: int) -> None:
    allocations = [{0: number} for number in range(length)]

    def measure(chosen: Mapping[int, int]) -> Point[int]:
        return Point(chosen, 1000 - chosen[0], 0.0 if chosen[0] <= last else 0.01)

    best, curve = furthest(allocations, measure, 0.005)
    assert best.chosen == {0: min(last, length - 1)}
    assert [point.wire_bytes for point in curve] == sorted(
        (point.wire_bytes for point in curve), reverse=True
    )
    assert len(curve) <= 8 + 6


def test_a_budget_that_nothing_holds_is_refused() -> None:
    with pytest.raises(CompressError, match="cannot hold a loss"):
        furthest([{}], lambda chosen: Point[int](chosen, 1, 0.5), 0.1)


def test_halves_are_apart_and_together_all() -> None:
    x = np.arange(41, dtype=np.float32).reshape(41, 1)
    ours, theirs = halves(Samples(x, np.arange(41), "", "file"))
    assert len(ours.x) == 21
    assert ours.y is not None
    assert np.array_equal(ours.x[:, 0], ours.y)
    assert sorted([*ours.x[:, 0], *theirs.x[:, 0]]) == list(range(41))


@pytest.mark.parametrize(
    ("labels", "why"), [(None, "no labels"), (np.zeros(19, np.int64), "19 samples, want 20")]
)
def test_samples_that_cannot_hold_a_budget(labels: np.ndarray | None, why: str) -> None:
    with pytest.raises(CompressError, match=why):
        halves(Samples(np.zeros((19, 1), np.float32), labels, "", "file"))
