"""When power says something of a trial, and whether figures can be compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tuner.energy import by_one_method, extra_w
from protocols.profile import Energy, EnergyMethod, LayoutRun


def run(joules: float | None, method: EnergyMethod = "rail", cpu_ms: float = 10.0) -> LayoutRun:
    return LayoutRun(
        count=50,
        p50_ms=1,
        p95_ms=1,
        answers_per_s=1,
        cpu_ms=cpu_ms,
        load_ms=1,
        peak_rss_mib=1,
        energy=None if joules is None else Energy(joules=joules, method=method),
    )


@pytest.mark.parametrize(
    ("idle_w", "busy_w", "more_w"),
    [
        ([3.0, 3.1, 2.9, 3.0, 3.0], [5.0, 5.2, 4.8, 5.0, 5.0], 2.0),
        ([3.0] * 5, [3.0] * 5, None),
        ([3.0] * 5, [2.0] * 5, None),
        ([3.0] * 4, [5.0] * 5, None),
        ([3.0] * 5, [3.0, 3.0, 3.0, 5.0, 5.0, 5.0], None),
        ([2.0, 4.0, 2.0, 4.0, 3.0], [5.0] * 5, None),
    ],
    ids=["clear", "stuck", "less", "few", "a gauge that moves in the midst of it", "noise"],
)
def test_power_that_stands_out(
    idle_w: list[float], busy_w: list[float], more_w: float | None
) -> None:
    assert extra_w(idle_w, busy_w) == (None if more_w is None else pytest.approx(more_w))


@given(
    st.lists(st.tuples(st.sampled_from([None, "rail", "meter", "battery"]), st.floats(0, 9))),
    st.none() | st.floats(0.1, 9),
)
def test_the_runs_of_a_model_can_always_be_compared(
    found: list[tuple[EnergyMethod | None, float]], watts: float | None
) -> None:
    runs = [run(None) if method is None else run(joules, method) for method, joules in found]
    methods = {one.energy.method if one.energy else None for one in by_one_method(runs, watts)}
    assert len(methods) <= 1
    if len({method for method, _ in found}) == 1 and found[0][0] is not None:
        assert by_one_method(runs, watts) == tuple(runs)
    elif found:
        assert methods == {None if watts is None else "model"}


def test_the_estimate_is_cpu_time_times_watts() -> None:
    one, other = by_one_method([run(0.5), run(None, cpu_ms=20.0)], 3.0)
    assert one.energy == Energy(joules=0.03, method="model")
    assert other.energy == Energy(joules=0.06, method="model")
