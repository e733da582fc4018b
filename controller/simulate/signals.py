"""The panels of what was measured: one a unit, and one for what is or is not. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from controller.compress.svg import COLOURS, Scale, line, polyline, rect
from controller.simulate.panels import ASKS, HARD, LANE, Panel
from controller.simulate.replay import Course, Frame
from controller.simulate.strokes import slope, spells, stretches
from protocols.governor import value_of
from protocols.schedule import Signal, Threshold

_HEIGHT = 96.0
_NEAR = 25.0
"""Of a signal's unit: lines that lie further from all its values are not shown."""


@dataclass(frozen=True, slots=True)
class Track:
    """What a panel of signals shows: a unit, its signals, and what else stands beside them."""

    title: str
    signals: tuple[tuple[Signal, str], ...]
    besides: tuple[tuple[str, str], ...] = ()


TRACKS = (
    Track("Memory available, %", (("memory_available_percent", "available"),)),
    Track(
        "Memory stalls (PSI, 10 s), %",
        (("psi_memory_some_avg10", "some"), ("psi_memory_full_avg10", "full (hard line)")),
    ),
    Track(
        "CPU, % of all",
        (("foreign_cpu_percent", "others"),),
        (("own_cpu_percent", "agent and runner"),),
    ),
    Track("Temperature, \N{DEGREE SIGN}C", (("temperature_c", "CPU"),)),
    Track("Battery, %", (("battery_percent", "charge"),)),
    Track("Battery temperature, \N{DEGREE SIGN}C", (("battery_temperature_c", "battery"),)),
)
FLAGS: tuple[tuple[str, str], ...] = (
    ("throttled", "throttled"),
    ("low_voltage", "low voltage"),
    ("battery_plugged", "plugged in"),
)


def signal_panel(track: Track, course: Course, x: Scale, top: float) -> Panel | None:
    """Draw signals of one unit; None: the trace has none of them."""
    drawn = [
        *((words, stretches(course.frames, _signal(name))) for name, words in track.signals),
        *((words, stretches(course.frames, _field(name))) for name, words in track.besides),
    ]
    shown = [(COLOURS[n], words, found) for n, (words, found) in enumerate(drawn) if found]
    if not shown:
        return None
    values = [v for _, _, found in shown for part in found for _, v in part]
    thresholds = course.frames[-1].desired.schedule.thresholds
    lines = [thresholds[name] for name, _ in track.signals if name in thresholds]
    y = Scale(*_range(values, lines), top + _HEIGHT, top)
    parts = [*_asks(lines[:1], x, y)]
    parts += [p for one in lines for p in _hard(one, x, y)]
    parts += [polyline(slope(part, x, y), colour) for colour, _, found in shown for part in found]
    ticks = tuple((y.at(tick), f"{tick:g}") for tick in y.ticks())
    return Panel(track.title, tuple((c, w) for c, w, _ in shown), tuple(parts), ticks, _HEIGHT)


def _signal(name: Signal) -> Callable[[Frame], float | None]:
    return lambda frame: value_of(name, frame.line)


def _field(name: str) -> Callable[[Frame], float | None]:
    def value(frame: Frame) -> float | None:
        found: float | None = getattr(frame.line, name)
        return found

    return value


def _range(values: Sequence[float], thresholds: Iterable[Threshold]) -> tuple[float, float]:
    """Return least and most: of the values, and of the lines that they come near to."""
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or 1.0
    low, high = low - room, high + room
    for threshold in thresholds:
        for edge in (*threshold.enter, threshold.hard):
            if edge is not None and low - _NEAR <= edge <= high + _NEAR:
                low, high = min(low, edge), max(high, edge)
    return (max(low, 0.0) if min(values) >= 0 else low), high


def _asks(lines: Sequence[Threshold], x: Scale, y: Scale) -> Iterable[str]:
    """Shade where the first signal asks for each rung."""
    for threshold in lines:
        worst = y.low if threshold.falling else y.high
        for rung, edge in enumerate(threshold.enter):
            if edge is None:
                continue
            near = min(max(edge, y.low), y.high)
            above, below = sorted((y.at(near), y.at(worst)))
            yield rect(x.start, above, x.end - x.start, below - above, ASKS[rung])


def _hard(threshold: Threshold, x: Scale, y: Scale) -> Iterable[str]:
    if threshold.hard is not None and y.low <= threshold.hard <= y.high:
        at = y.at(threshold.hard)
        yield line((x.start, at, x.end, at), stroke=HARD, dash="5 3")


def flag_panel(course: Course, x: Scale, top: float) -> Panel | None:
    """Draw what is or is not, as bars in lanes; None: the trace knows of none."""
    parts: list[str] = []
    ticks: list[tuple[float, str]] = []
    for name, words in FLAGS:
        found = stretches(course.frames, _flag(name))
        if not found:
            continue
        y = top + LANE * len(ticks)
        ticks.append((y + LANE / 2, words))
        for begin, end, value in (one for part in found for one in spells(part)):
            if value:
                width = max(x.at(end) - x.at(begin), 1.5)
                parts.append(rect(x.at(begin), y + 4, width, LANE - 8, COLOURS[4], words))
    return Panel("State", (), tuple(parts), tuple(ticks), LANE * len(ticks)) if ticks else None


def _flag(name: str) -> Callable[[Frame], float | None]:
    if name == "throttled":
        return _signal("throttled")

    def value(frame: Frame) -> float | None:
        found = getattr(frame.line, name)
        return None if found is None else float(found)

    return value
