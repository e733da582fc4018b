from itertools import permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from controller.compress.assignment import best_assignment

SQUARES = st.integers(1, 6).flatmap(
    lambda n: hnp.arrays(np.float64, (n, n), elements=st.integers(-9, 9).map(float))
)


@settings(max_examples=80, deadline=None)
@given(SQUARES)
def test_no_other_assignment_costs_less(costs: np.ndarray) -> None:
    count = len(costs)
    found = best_assignment(costs)
    assert sorted(found) == list(range(count))
    least = min(costs[range(count), list(order)].sum() for order in permutations(range(count)))
    assert costs[range(count), found].sum() == least


def test_a_shuffle_is_undone() -> None:
    draw = np.random.default_rng(0)
    rows, order = draw.normal(size=(100, 7)), draw.permutation(100)
    apart = np.square(rows[:, None] - rows[order]).sum(axis=2)
    assert np.array_equal(order[best_assignment(apart)], np.arange(100))
