import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from controller.compress.timings import cpu_share, timings, was_disturbed


@given(st.lists(st.floats(0.01, 1e7), min_size=1, max_size=50))
def test_figures_are_in_order(runs: list[float]) -> None:
    found = timings(3.0, runs)
    assert found.count == len(runs)
    assert found.min <= found.p5 <= found.median <= found.p95 <= found.max
    assert found.min - 0.001 <= found.avg <= found.max + 0.001
    assert found.std <= found.max - found.min + 0.001


def test_names_and_values() -> None:
    found = timings(9.0, [float(n) for n in range(1, 101)])
    assert (found.first, found.min, found.max, found.median) == (9.0, 1.0, 100.0, 50.5)
    assert found.std == round(float(np.std(range(1, 101))), 3)


def test_disturbance_is_seen() -> None:
    found = timings(9.0, [1000.0, 3000.0])
    assert cpu_share(found, 0.001) == 0.5
    assert was_disturbed(found, 0.001, threads=1)
    assert not was_disturbed(found, 0.0019, threads=1)
    assert not was_disturbed(found, 0.001, threads=2)
