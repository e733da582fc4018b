"""Drawing in SVG: the elements that our plots are made of, and axes. Pure.

What comes out stands alone: no scripts, no fonts or styles from elsewhere.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
INK, SOFT, GRID, PAPER = "#1f2933", "#62707d", "#e3e8ed", "#ffffff"
COLOURS = (
    "#2563a8",
    "#d2691e",
    "#2e8b57",
    "#8e44ad",
    "#c0392b",
    "#0e8f9c",
    "#a67c00",
    "#5d6d7e",
)
"""Told apart by most people with a colour deficiency too; they repeat beyond eight."""

_CHARACTER = 0.58
"""Mean width of a character, in ems."""

_SI = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels, straight or by the logarithm.

    Attributes:
        low: value at the first pixel; `high` at the last.
        start: the first pixel; `end` the last, smaller where the axis runs up.
        log: equal ratios take equal lengths.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return round values, about five, within the scale."""
        if self.log:
            return _log_ticks(self.low, self.high)
        step = _round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def spanning(values: Iterable[float], start: float, end: float, *, log: bool = False) -> Scale:
    """Return a scale over values with some room at both ends.

    Args:
        values: at least one; positive where `log`.
        start: pixel of the least.
        end: pixel of the most.
        log: by the logarithm.
    """
    known = list(values)
    low, high = min(known), max(known)
    if log:
        room = max((high / low) ** 0.1, 1.25)
        return Scale(low / room, high * room, start, end, log=True)
    room = (high - low) * 0.12 or abs(high) * 0.1 or 1.0
    return Scale(low - room, high + room, start, end)


def text(  # noqa: PLR0913 - as the element has them
    x: float,
    y: float,
    words: str,
    *,
    size: float = 12,
    anchor: str = "start",
    fill: str = INK,
    bold: bool = False,
    halo: bool = False,
) -> str:
    """Return words at their baseline; a halo keeps them legible where they cross lines."""
    weight = ' font-weight="600"' if bold else ""
    rim = f' paint-order="stroke" stroke="{PAPER}" stroke-width="3"' if halo else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}" '
        f'fill="{fill}"{weight}{rim}>{escape(words)}</text>'
    )


def line(
    ends: tuple[float, float, float, float], *, stroke: str = GRID, width: float = 1, dash: str = ""
) -> str:
    """Return a line from x, y to x, y."""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    x1, y1, x2, y2 = (f"{end:.1f}" for end in ends)
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{stroke}" '
        f'stroke-width="{width:g}"{dashed}/>'
    )


def rect(x: float, y: float, width: float, height: float, fill: str, title: str = "") -> str:
    """Return a filled rectangle; a browser shows `title` under the pointer."""
    head = (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" '
        f'height="{max(height, 0):.1f}" fill="{fill}"'
    )
    return f"{head}><title>{escape(title)}</title></rect>" if title else f"{head}/>"


def circle(x: float, y: float, radius: float, fill: str, title: str = "") -> str:
    """Return a dot with a white rim."""
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}" stroke="{PAPER}" '
        f'stroke-width="1.5"><title>{escape(title)}</title></circle>'
    )


def polyline(points: Sequence[tuple[float, float]], stroke: str, dash: str = "") -> str:
    """Return a line through points."""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{places}" fill="none" stroke="{stroke}" stroke-width="1.5"{dashed}/>'


def area(points: Sequence[tuple[float, float]], fill: str) -> str:
    """Return the filled area that a line through points encloses."""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polygon points="{places}" fill="{fill}"/>'


def drawing(width: float, height: float, parts: Iterable[str], label: str) -> str:
    """Return a whole SVG document; `label` is what a screen reader says of it."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label={quoteattr(label)} '
        f'font-family="{FONT}">\n'
        f"{rect(0, 0, width, height, PAPER)}\n{body}\n</svg>\n"
    )


def width_of(words: str, size: float = 12) -> float:
    """Return about how many pixels words take."""
    return len(words) * size * _CHARACTER


def shortened(words: str, most: int) -> str:
    """Return words in at most so many characters; what is left out is left out of the middle."""
    if len(words) <= most:
        return words
    head = (most - 1) // 2
    return f"{words[:head]}\u2026{words[len(words) - (most - 1 - head) :]}"


def si(value: float, unit: str = "") -> str:
    """Return a number with three digits and the letter of its thousands: 12.3k, 4.5 ms, 810 B."""
    rounded = float(f"{value:.{_DIGITS}g}")
    factor, letter = next(
        ((f, letter) for f, letter in _SI if abs(rounded) >= f), (1.0, "") if not value else _SI[-1]
    )
    space = " " if unit else ""
    return f"{rounded / factor:.{_DIGITS}g}{space}{letter}{unit}"


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that is not below."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= least * (1 - 1e-9))


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]
        if len(found) >= 3:  # noqa: PLR2004 - fewer say too little
            return found
    return found or [math.sqrt(low * high)]
