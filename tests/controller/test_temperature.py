import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.errors import BuildError
from controller.temperature import fit, halves, likelihood_loss, logits, reordered, softmax


def drawn(classes: int, heat: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are drawn at another temperature than 1."""
    draw = np.random.default_rng(0)
    z = draw.normal(0, 3, (n, classes))
    chances = softmax(z, heat).cumsum(axis=1)
    y = (draw.random(n)[:, None] > chances).sum(axis=1)
    return z, np.minimum(y, classes - 1)


@pytest.mark.parametrize("heat", [0.5, 1.0, 2.5])
def test_the_temperature_that_drew_the_labels_is_found(heat: float) -> None:
    z, y = drawn(6, heat)
    found = fit(z, y)
    assert found == pytest.approx(heat, rel=0.1)
    best = likelihood_loss(z, y, found)
    assert all(best <= likelihood_loss(z, y, found * k) + 1e-12 for k in (0.9, 1.1))


def test_labels_that_are_all_right_do_not_make_a_model_sure_beyond_measure() -> None:
    z = np.random.default_rng(0).normal(0, 3, (100, 3))
    y = z.argmax(axis=1)
    assert 0.1 < fit(z, y) < 0.5
    assert 0.8 < fit(z[:3], y[:3]) <= 1


@given(st.integers(0, 99), st.integers(1, 40), st.floats(0.01, 100))
def test_it_lies_between_1_and_where_more_of_the_same_labels_put_it(
    seed: int, n: int, size: float
) -> None:
    draw = np.random.default_rng(seed)
    z, y = draw.normal(0, size, (n, 4)), draw.integers(0, 4, n)
    few, more = fit(z, y), fit(np.tile(z, (50, 1)), np.tile(y, 50))
    assert 0.001 <= few <= 1000
    assert min(1.0, more) - 1e-6 <= few <= max(1.0, more) + 1e-6


def test_halves() -> None:
    fits, proves = halves(501, 1)
    assert (len(fits), len(proves)) == (251, 250)
    assert sorted([*fits, *proves]) == list(range(501))
    again = halves(501, 1)
    assert np.array_equal(again[1], proves)
    with pytest.raises(BuildError, match=r"cannot fit temperatures with 171 samples: .* least 172"):
        halves(171, 1)
    assert len(halves(172, 1)[1]) == 86
    with pytest.raises(BuildError, match="cannot fit temperatures with 172 samples"):
        halves(172, 2)


def test_with_two_classes_nothing_changes_its_place() -> None:
    z, _ = drawn(2, 1.0)
    before, after = softmax(z).max(axis=1), softmax(z, 3.0).max(axis=1)
    assert reordered(before, after) == 0


def test_with_more_classes_answers_change_their_places() -> None:
    z, _ = drawn(10, 1.0)
    before, after = softmax(z).max(axis=1), softmax(z, 3.0).max(axis=1)
    assert 0.01 < reordered(before, after) < 0.5
    assert (softmax(z).argmax(axis=1) == softmax(z, 3.0).argmax(axis=1)).all()


def test_logits_of_probabilities_and_of_a_single_score() -> None:
    rows = np.array([[0.2, 0.8], [1.0, 0.0]], np.float32)
    np.testing.assert_allclose(softmax(logits(rows, "probabilities")), rows, atol=1e-6)
    one = np.array([[0.25]], np.float32)
    np.testing.assert_allclose(softmax(logits(one, "probabilities")), [[0.75, 0.25]], atol=1e-6)
    assert logits(np.array([[2.0]], np.float32), "logits").tolist() == [[0.0, 2.0]]
