from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.compress.svg import Scale
from controller.simulate.replay import replay
from controller.simulate.strokes import Points, slope, spells, stairs, stretches, time_ticks
from controller.simulate.trace import Trace
from tests.controller.simulate.traces import PATIENT, digits, traces

X, Y = Scale(0, 1000, 50, 150), Scale(0, 10, 90, 10)
courses = st.lists(st.integers(0, 10).map(float), min_size=1, max_size=400).map(
    lambda values: [(1000 * n / len(values), value) for n, value in enumerate(values)]
)


@given(courses)
def test_a_slope_keeps_the_extremes_in_four_points_a_pixel(points: Points) -> None:
    line = slope(points, X, Y)
    assert {f([v for _, v in points]) for f in (min, max)} == {
        round(10 - (f(y for _, y in line) - 10) / 8, 6) for f in (min, max)
    }
    assert all(before[0] <= after[0] for before, after in pairwise(line))
    columns = [int(x) for x, _ in line]
    assert len(points) == 1 or max(columns.count(column) for column in columns) <= 4


@given(courses)
def test_stairs_stand_on_each_value_until_the_next(points: Points) -> None:
    line = stairs(points, X, Y)
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in pairwise(line))
    assert line[-1][0] >= X.at(points[-1][0])
    turns = sum(before != after for (_, before), (_, after) in pairwise(points))
    assert len(line) == 2 + 2 * turns


@given(courses)
def test_spells_follow_each_other_and_differ(points: Points) -> None:
    found = spells(points)
    assert (found[0][0], found[-1][1]) == (points[0][0], points[-1][0])
    assert all(a[1] == b[0] and a[2] != b[2] for a, b in pairwise(found))


@given(traces())
@settings(max_examples=25)
def test_a_stretch_ends_where_nothing_is_known(trace: Trace) -> None:
    course = replay(trace, digits(), PATIENT)
    found = stretches(course.frames, lambda frame: frame.line.temperature_c)
    known = [f.at_s for f in course.frames if f.line.temperature_c is not None]
    assert [at_s for part in found for at_s, _ in part] == known
    place = {frame.at_s: n for n, frame in enumerate(course.frames)}
    for part in found:
        for (earlier, _), (later, _) in pairwise(part):
            assert place[later] == place[earlier] + 1
            assert course.frames[place[earlier]].lasts_s == pytest.approx(later - earlier)


@pytest.mark.parametrize(
    ("span_s", "last", "unit"),
    [(0, "0", "s"), (8, "8", "s"), (90, "90", "s"), (3600, "60", "min"), (86400, "24", "h")],
)
def test_ticks_of_time_are_round_and_few(span_s: float, last: str, unit: str) -> None:
    ticks, show, title = time_ticks(span_s)
    assert ticks[0] == 0
    assert show(ticks[-1]) == last
    assert title.endswith(f", {unit}")
    assert len(time_ticks(span_s * 777)[0]) <= 12
