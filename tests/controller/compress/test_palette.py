import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from controller.compress.palette import nearest, palette

REALS = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-100, 100))
SIZES = st.integers(1, 16)


def loss(values: np.ndarray, centres: np.ndarray) -> float:
    return float(np.square(values - nearest(values, centres)).sum())


@given(REALS, SIZES)
@example(np.array([5e-324, 0.0]), 1)
@example(np.array([1.0, np.nextafter(1.0, 2.0), np.nextafter(1.0, 0.0)]), 2)
def test_a_palette_is_small_and_rising_and_within_the_values(values: np.ndarray, size: int) -> None:
    centres = palette(values, size)
    assert 1 <= len(centres) <= size
    assert np.all(np.diff(centres) > 0)
    spans_zero = np.count_nonzero(values == 0) > 0
    low, high = min(values.min(), 0.0 if spans_zero else np.inf), max(values.max(), -np.inf)
    assert low - 1e-9 <= centres[0] <= centres[-1] <= high + 1e-9


@given(REALS, SIZES)
@example(np.array([5e-324, 0.0]), 1)
@example(np.array([1.0, np.nextafter(1.0, 2.0), np.nextafter(1.0, 0.0)]), 2)
def test_a_second_time_changes_nothing(values: np.ndarray, size: int) -> None:
    once = nearest(values, palette(values, size))
    assert np.array_equal(nearest(once, palette(once, size)), once)


@given(REALS, SIZES)
@example(np.array([5e-324, 0.0]), 1)
@example(np.array([1.0, np.nextafter(1.0, 2.0), np.nextafter(1.0, 0.0)]), 2)
def test_values_that_are_few_stay(values: np.ndarray, size: int) -> None:
    few = values[:size]
    assert np.array_equal(nearest(few, palette(few, size)), few)


@given(REALS, SIZES)
@example(np.array([5e-324, 0.0]), 1)
@example(np.array([1.0, np.nextafter(1.0, 2.0), np.nextafter(1.0, 0.0)]), 2)
def test_every_value_gets_its_nearest(values: np.ndarray, size: int) -> None:
    centres = palette(values, size)
    best = np.abs(values[:, None] - centres).min(axis=1)
    assert np.allclose(np.abs(values - nearest(values, centres)), best)


def test_it_comes_near_to_the_best_quantizer_of_a_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(size=100_000)
    # Max, "Quantizing for minimum distortion", 1960, table I: 0.1175, 0.009497, 0.002499
    for size, least in ((4, 0.1175), (16, 0.009497), (32, 0.002499)):
        assert loss(values, palette(values, size)) / values.size < least * 1.03


def test_mass_draws_the_palette() -> None:
    values = np.array([0.1, 0.2, 0.3, 10.0])
    assert palette(values, 1)[0] > 2
    assert palette(values, 1, np.array([1.0, 1.0, 1.0, 1e-6]))[0] < 0.21


def test_zeros_stay_where_they_are_many() -> None:
    values = np.concatenate([np.zeros(50), np.random.default_rng(1).normal(1, 0.5, 50)])
    kept = nearest(values, palette(values, 4))
    assert not kept[:50].any()
