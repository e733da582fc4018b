"""From frames to lines on paper: where they break, and no more points than pixels show. Pure."""

from collections.abc import Callable, Iterable, Sequence

from controller.compress.svg import Scale
from controller.simulate.replay import Frame

Points = list[tuple[float, float]]
"""(seconds, value) or (x, y), by rising seconds."""

_DOT_PX = 1.5


def stretches(frames: Iterable[Frame], value: Callable[[Frame], float | None]) -> list[Points]:
    """Return the stretches in which a value is known without a gap.

    Each ends where its last value stops to hold: at the sample that follows, or at itself.
    """
    found: list[Points] = []
    now: Points = []
    for frame in frames:
        known = value(frame)
        if known is not None:
            now.append((frame.at_s, known))
        if now and (known is None or not frame.lasts_s):
            found.append(now)
            now = []
    if now:
        found.append(now)
    return found


def slope(points: Points, x: Scale, y: Scale) -> Points:
    """Return a line from value to value, in pixels: of each column the first, least, most, last."""
    columns: dict[int, Points] = {}
    for at_s, value in points:
        place = (x.at(at_s), y.at(value))
        columns.setdefault(int(place[0]), []).append(place)
    line = [place for column in columns.values() for place in _outline(column)]
    return line if len(line) > 1 else [*line, (line[0][0] + _DOT_PX, line[0][1])]


def _outline(column: Points) -> Points:
    if len(column) <= 4:  # noqa: PLR2004 - as many as are kept
        return column
    least = min(column, key=lambda place: place[1])
    most = max(column, key=lambda place: place[1])
    return [column[0], *sorted((least, most)), column[-1]]


def stairs(points: Points, x: Scale, y: Scale) -> Points:
    """Return a line that holds each value until the next one, in pixels."""
    line = [(x.at(points[0][0]), y.at(points[0][1]))]
    for at_s, value in points[1:]:
        if y.at(value) != line[-1][1]:
            line += [(x.at(at_s), line[-1][1]), (x.at(at_s), y.at(value))]
    end = max(x.at(points[-1][0]), line[-1][0] + _DOT_PX if len(line) == 1 else 0.0)
    return [*line, (end, line[-1][1])]


def spells(points: Points) -> list[tuple[float, float, float]]:
    """Return (from, until, value) of every time in which a value stays the same, in seconds."""
    found: list[tuple[float, float, float]] = []
    for (at_s, value), (end_s, _) in zip(points, [*points[1:], points[-1]], strict=True):
        if found and found[-1][2] == value:
            found[-1] = (found[-1][0], end_s, value)
        else:
            found.append((at_s, end_s, value))
    return found


def time_ticks(span_s: float) -> tuple[Sequence[float], Callable[[float], str], str]:
    """Return about eight round times within a span, how they read, and the axis' title."""
    steps = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
    step = next((s for s in steps if span_s / s <= 10), 86400 * max(1, round(span_s / 864000)))  # noqa: PLR2004
    ticks = [float(n * step) for n in range(int(span_s / step) + 1)]
    if step < 60:  # noqa: PLR2004 - seconds in a minute
        return ticks, lambda s: f"{s:.0f}", "time since the first sample, s"
    if step < 3600:  # noqa: PLR2004 - seconds in an hour
        return ticks, lambda s: f"{s / 60:.0f}", "time since the first sample, min"
    return ticks, lambda s: f"{s / 3600:.0f}", "time since the first sample, h"
