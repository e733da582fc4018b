"""What the panels of a replay's drawing have in common: frame, key and legend. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from controller.compress.svg import COLOURS, INK, SOFT, Scale, line, rect, shortened, text, width_of

ASKS = ("#fdf4e3", "#fbe3bd", "#f6c795", "#eda27a")
"""Behind a signal: where it asks for rung 1 to 4."""
HARD = COLOURS[4]
SMALL = 10.5
LANE = 20.0
"""Height of one lane, where a panel has lanes."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A drawn panel.

    Attributes:
        title: above it.
        key: (colour, words) beside it, from the top.
        parts: within its frame.
        ticks: (y, words) at its left.
        height: in pixels.
    """

    title: str
    key: tuple[tuple[str, str], ...]
    parts: tuple[str, ...]
    ticks: tuple[tuple[float, str], ...]
    height: float


def frame_of(panel: Panel, x: Scale, top: float, right: float) -> Iterable[str]:
    """Draw what stands around a panel: title, ticks, edges and the key."""
    yield text(x.start, top - 7, panel.title, size=11.5, bold=True)
    for at, words in panel.ticks:
        yield text(x.start - 7, at + 3.5, words, size=SMALL, anchor="end", fill=SOFT)
    bottom = top + panel.height
    yield line((x.start, top, x.start, bottom), stroke=SOFT)
    yield line((x.start, bottom, x.end, bottom), stroke=SOFT)
    for number, (colour, words) in enumerate(panel.key):
        y = top + 10 + 16 * number
        yield rect(x.end + 14, y - 6, 16, 5, colour)
        most = int((right - x.end - 36) / width_of("x", SMALL))
        yield text(x.end + 36, y, shortened(words, most), size=SMALL)


def legend(x: float, y: float) -> Iterable[str]:
    """Draw what the marks mean that several panels share."""
    place = x
    for rung, colour in enumerate(ASKS, start=1):
        yield rect(place, y - 10, 16, 12, colour)
        yield text(place + 4, y, str(rung), size=SMALL)
        place += 18
    words = "shaded: asks for that rung"
    yield text(place + 4, y, words, size=SMALL)
    place += 24 + width_of(words, SMALL)
    marks = [(HARD, "5 3", "hard line"), (INK, "1 3", "the planner has written (generation)")]
    for colour, dash, said in marks:
        yield line((place, y - 4, place + 22, y - 4), stroke=colour, width=1.5, dash=dash)
        yield text(place + 28, y, said, size=SMALL)
        place += 48 + width_of(said, SMALL)
