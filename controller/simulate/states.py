"""The panels of what was decided: rungs, memory, threads, and the planner's forms. Pure."""

from collections.abc import Callable, Iterable

from controller.compress.svg import (
    COLOURS,
    Scale,
    area,
    circle,
    polyline,
    rect,
    shortened,
    text,
    width_of,
)
from controller.simulate.panels import LANE, SMALL, Panel
from controller.simulate.replay import Course, Frame, Move
from controller.simulate.strokes import Points, spells, stairs, stretches
from protocols.schedule import RUNGS, WORST, Ladder

FORMS = ("#c9dcee", "#f6cfa8", "#bfe0cb", "#dcc6ea", "#f0b9b2", "#b9e3e7", "#e6d9a8", "#d0d5da")
_FILL = "#dbe6f1"
_REPORTED = "as the device reported"
_FEWEST = 8
"""Characters of words that are worth writing."""
_LETTERS: dict[Ladder, str] = {"residency": "R", "compute": "C"}


def rung_panel(ladder: Ladder, course: Course, x: Scale, top: float) -> Panel:
    """Draw where a ladder stands, 0 on top, and where the device said that it stood."""
    height = 78.0
    letter = _LETTERS[ladder]
    y = Scale(0, WORST, top + 6, top + height - 6)

    def rung(frame: Frame) -> float:
        return float(getattr(frame.rungs, ladder))

    def reported(frame: Frame) -> float | None:
        return None if frame.line.rungs is None else float(getattr(frame.line.rungs, ladder))

    parts: list[str] = []
    for part in stretches(course.frames, rung):
        walk = stairs(part, x, y)
        parts.append(area([(walk[0][0], y.at(0)), *walk, (walk[-1][0], y.at(0))], _FILL))
        parts.append(polyline(walk, COLOURS[0]))
    said = stretches(course.frames, reported)
    parts += [polyline(stairs(part, x, y), COLOURS[1], "4 3") for part in said]
    parts += [_dot(move, x, y) for move in course.moves if move.change.ladder == ladder]
    key = [(COLOURS[0], "replayed")]
    key += [(COLOURS[1], _REPORTED)] if said else []
    ticks = tuple((y.at(n), f"{letter}{n}") for n in range(RUNGS))
    return Panel(f"Rung, {ladder}", tuple(key), tuple(parts), ticks, height)


def _dot(move: Move, x: Scale, y: Scale) -> str:
    change, letter = move.change, _LETTERS[move.change.ladder]
    words = f"{letter}{change.before} -> {letter}{change.after}: {change.cause}"
    return circle(x.at(move.at_s), y.at(change.after), 3.2, COLOURS[0], words)


def memory_panel(course: Course, x: Scale, top: float) -> Panel:
    """Draw the memory of the models: what stays, and what requests may bring in besides."""
    height = 84.0
    said = stretches(course.frames, _reported_mib)
    most = max(frame.holding.most_mib for frame in course.frames)
    most = max(most, *(value for part in said for _, value in part), 0.0)
    y = Scale(0, 1.1 * most or 1.0, top + height, top)
    with_loads = stretches(course.frames, lambda frame: frame.holding.most_mib)
    parts = [polyline(stairs(part, x, y), COLOURS[2], "2 2") for part in with_loads]
    for part in stretches(course.frames, lambda frame: frame.holding.resident_mib):
        walk = stairs(part, x, y)
        parts.insert(0, area([(walk[0][0], y.start), *walk, (walk[-1][0], y.start)], _FILL))
        parts.append(polyline(walk, COLOURS[0]))
    parts += [polyline(stairs(part, x, y), COLOURS[1], "4 3") for part in said]
    key = [(COLOURS[0], "resident"), (COLOURS[2], "with loads on demand")]
    key += [(COLOURS[1], _REPORTED)] if said else []
    ticks = tuple((y.at(tick), f"{tick:g}") for tick in y.ticks())
    return Panel("Models, MiB", tuple(key), tuple(parts), ticks, height)


def _reported_mib(frame: Frame) -> float | None:
    """Return what the device said that its loaded stages take; None: it did not say of all."""
    stages = [s for one in frame.line.cascades or () for s in one.stages if s.loaded]
    sizes = [stage.loaded_mib for stage in stages if stage.loaded_mib is not None]
    known = frame.line.cascades is not None and len(sizes) == len(stages)
    return sum(sizes) if known else None


def thread_panel(course: Course, x: Scale, top: float) -> Panel:
    """Draw the threads that each stage may use; stages that are always alike share a line."""
    height = 84.0
    stages = list(course.frames[0].holding.threads)
    alike: dict[tuple[int, ...], list[str]] = {}
    for stage in stages:
        course_of_it = tuple(frame.holding.threads[stage] for frame in course.frames)
        alike.setdefault(course_of_it, []).append(stage)
    y = Scale(0, max(1, *map(max, alike)) + 0.4, top + height, top)
    parts, key = [], []
    for number, names in enumerate(alike.values()):
        colour = COLOURS[number % len(COLOURS)]
        key.append((colour, ", ".join(names)))
        for part in stretches(course.frames, _threads_of(names[0])):
            shifted = [(at, place - 1.5 * number) for at, place in stairs(part, x, y)]
            parts.append(polyline(shifted, colour))
    step = max(1, round(y.high / 5))
    ticks = tuple((y.at(n), str(n)) for n in range(0, int(y.high) + 1, step))
    return Panel("Threads a stage may use", tuple(key), tuple(parts), ticks, height)


def _threads_of(stage: str) -> Callable[[Frame], float]:
    return lambda frame: float(frame.holding.threads[stage])


def shed_panel(course: Course, x: Scale, top: float) -> Panel:
    """Draw how many steps of the threads and thresholds the planner has taken back."""
    height = 44.0
    most = max(frame.desired.shed for frame in course.frames)
    y = Scale(0, max(1, most) + 0.4, top + height, top)
    found = stretches(course.frames, lambda frame: float(frame.desired.shed))
    parts = tuple(polyline(stairs(part, x, y), COLOURS[0]) for part in found)
    ticks = tuple((y.at(n), str(n)) for n in sorted({0, max(1, most)}))
    return Panel("Steps shed by the planner", (), parts, ticks, height)


def form_panel(course: Course, x: Scale, top: float) -> Panel:
    """Draw which form of each cascade is in force: a lane each, a colour a form."""
    names = [one.bundle.name for one in course.frames[0].desired.cascades]
    parts: list[str] = []
    ticks: list[tuple[float, str]] = []
    known: dict[str, int] = {}
    for number, name in enumerate(names):
        y = top + number * LANE
        ticks.append((y + LANE / 2, shortened(name, 11)))
        form_at = _form_of(number, f"{name}: " if len(names) > 1 else "")
        parts += _lane([(f.at_s, form_at(f)) for f in course.frames], known, x, y)
    key = tuple((_form_colour(number), words) for words, number in known.items())
    height = max(LANE * len(names), 16.0 * len(key) + 4)
    return Panel("Forms by the planner", key, tuple(parts), tuple(ticks), height)


def _lane(
    course: Iterable[tuple[float, str]], known: dict[str, int], x: Scale, top: float
) -> Iterable[str]:
    """Draw a bar for each time in which the words are the same, with them where they fit."""
    numbers: Points = [(at_s, known.setdefault(words, len(known))) for at_s, words in course]
    words = list(known)
    for begin, end, value in spells(numbers):
        said, left = words[int(value)], x.at(begin)
        width = max(x.at(end) - left, 1.5)
        yield rect(left, top + 2, width, LANE - 4, _form_colour(int(value)), said)
        room = int((width - 8) / width_of("x", SMALL))
        if room >= min(len(said), _FEWEST):
            yield text(left + 4, top + LANE / 2 + 3.5, shortened(said, room), size=SMALL)


def _form_colour(number: int) -> str:
    return FORMS[number % len(FORMS)]


def _form_of(number: int, before: str) -> Callable[[Frame], str]:
    def words(frame: Frame) -> str:
        wanted = frame.desired.cascades[number]
        return before + ", ".join(
            f"{stage} {'dropped' if stage in wanted.dropped else variant}"
            for stage, variant in wanted.variants.items()
        )

    return words
