import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.compress.convert.comparison import compare

SCORES = np.array([[1.0, 4.0, 2.0], [3.0, 0.5, 1.0]], np.float32)


def test_what_is_equal_does_not_differ() -> None:
    found = compare(["y"], [SCORES], [SCORES.copy()])

    assert found.rows == 2
    assert (found.worst.largest, found.worst.difference) == (4.0, 0.0)
    assert found.worst.agreement == 1.0
    assert found.is_within(0.0)


def test_the_largest_difference_counts_as_a_share_of_the_largest_value() -> None:
    other = SCORES.copy()
    other[1] = [0.5, 3.0, 1.0]  # another place is first

    found = compare(["y"], [SCORES], [other])

    assert found.worst.difference == 2.5
    assert found.worst.relative == 2.5 / 4
    assert found.worst.agreement == 0.5
    assert found.is_within(0.63)
    assert not found.is_within(0.62)


def test_the_worst_output_is_the_one_that_differs_most_by_its_own_measure() -> None:
    small, large = SCORES / 1000, SCORES * 1000

    found = compare(["small", "large"], [small, large], [small + 1e-3, large + 1e-2])

    assert found.worst.name == "small"


def test_an_output_of_zeros_is_compared_as_it_is() -> None:
    zeros = np.zeros((3, 2), np.float32)

    assert compare(["y"], [zeros], [zeros + 0.25]).worst.relative == 0.25


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_agrees_with_its_like_alone(value: float) -> None:
    broken = SCORES.copy()
    broken[0, 0] = value

    assert compare(["y"], [broken], [broken.copy()]).is_within(0.0)
    assert not compare(["y"], [SCORES], [broken]).is_within(1e9)
    assert not compare(["y"], [broken], [SCORES]).is_within(1e9)


@pytest.mark.parametrize("shape", [(4, 1, 1), (4, 2, 3), (4,)])
def test_only_rows_of_scores_have_a_first(shape: tuple[int, ...]) -> None:
    values = np.ones(shape, np.float32)

    assert compare(["y"], [values], [values]).worst.agreement is None


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"output 'y' has shape \[3, 1\], the source's \[3\]"):
        compare(["y"], [SCORES], [SCORES[..., np.newaxis]])


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20),
    st.floats(-1e3, 1e3, width=32),
)
def test_a_shift_of_all_values_is_the_difference(values: list[float], shift: float) -> None:
    expected = np.array([values])

    found = compare(["y"], [expected], [expected + shift]).worst

    assert found.difference == pytest.approx(abs(shift), abs=1e-6)
