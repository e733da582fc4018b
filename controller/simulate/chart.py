"""A replay as one drawing: signals, rungs, memory, threads and the planner over time. Pure."""

from collections.abc import Callable, Iterable
from functools import partial

from controller.compress.svg import GRID, INK, SOFT, Scale, drawing, line, text, width_of
from controller.simulate.panels import Panel, frame_of, legend
from controller.simulate.replay import Course
from controller.simulate.signals import TRACKS, flag_panel, signal_panel
from controller.simulate.states import (
    form_panel,
    memory_panel,
    rung_panel,
    shed_panel,
    thread_panel,
)
from controller.simulate.strokes import time_ticks

_WIDTH, _LEFT, _RIGHT = 1040.0, 84.0, 210.0
_TOP, _BETWEEN, _BOTTOM = 104.0, 34.0, 48.0

_PANELS: tuple[Callable[[Course, Scale, float], Panel | None], ...] = (
    *(partial(signal_panel, track) for track in TRACKS),
    flag_panel,
    partial(rung_panel, "residency"),
    partial(rung_panel, "compute"),
    memory_panel,
    thread_panel,
    shed_panel,
    form_panel,
)


def draw(course: Course, title: str, subtitle: str) -> str:
    """Return the drawing as an SVG document that needs nothing else, on paper of its own.

    Args:
        course: of a replay.
        title: above it: what was replayed.
        subtitle: below that: on what.
    """
    x = Scale(0.0, course.span_s or 1.0, _LEFT, _WIDTH - _RIGHT)
    parts: list[str] = []
    frames: list[str] = []
    top = _TOP
    for make in _PANELS:
        panel = make(course, x, top)
        if panel is not None:
            parts += panel.parts
            frames += frame_of(panel, x, top, _WIDTH)
            top += panel.height + _BETWEEN
    bottom = top - _BETWEEN
    head = [
        text(16, 28, title, size=16, bold=True),
        text(16, 48, subtitle, fill=SOFT),
        *legend(16, 70),
    ]
    return drawing(
        _WIDTH,
        bottom + _BOTTOM,
        [*head, *_axis(course, x, bottom), *parts, *_marks(course, x, bottom), *frames],
        f"{title}: {len(course.moves)} transitions, {len(course.revisions) - 1} revisions",
    )


def _axis(course: Course, x: Scale, bottom: float) -> Iterable[str]:
    """Draw the axis of time, and its lines through all panels."""
    ticks, show, title = time_ticks(course.span_s)
    for tick in ticks:
        at = x.at(tick)
        yield line((at, _TOP, at, bottom), stroke=GRID, width=0.6)
        yield text(at, bottom + 16, show(tick), size=11, anchor="middle", fill=SOFT)
    yield text((x.start + x.end) / 2, bottom + 36, title, size=11.5, anchor="middle")


def _marks(course: Course, x: Scale, bottom: float) -> Iterable[str]:
    """Draw lines through all panels: the planner has written, or the agent has started anew."""
    marks = [(one.at_s, str(one.desired.generation), "1 3") for one in course.revisions[1:]]
    marks += [(at_s, "restart", "") for at_s in course.starts_s]
    free = 0.0
    for at_s, words, dash in sorted(marks):
        at, half = x.at(at_s), width_of(words, 9.5) / 2
        yield line((at, _TOP, at, bottom), stroke=INK, width=0.7, dash=dash)
        if at - half >= free:
            yield text(at, _TOP - 20, words, size=9.5, anchor="middle")
            free = at + half + 3
