"""The plots of models: layers, accuracy against cost, reliability, confusion. Pure: SVG out."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.compress.anatomy import Anatomy, OperatorFacts
from controller.compress.evaluate import Bin
from controller.compress.svg import (
    COLOURS,
    INK,
    PAPER,
    SOFT,
    Scale,
    circle,
    drawing,
    line,
    polyline,
    rect,
    shortened,
    si,
    spanning,
    text,
    width_of,
)

_ROW, _BAR = 20, 12
_LABEL_CHARACTERS = 44
_PANEL, _GAP = 210, 84
_FEW_CLASSES = 20
_DARK = 0.55


@dataclass(frozen=True, slots=True)
class Spot:
    """One model in a plot of accuracy against a cost.

    Attributes:
        name: stands beside it.
        cost: positive.
        accuracy: 0 to 1, with its 95% interval from `low` to `high`.
    """

    name: str
    cost: float
    accuracy: float
    low: float
    high: float


def layer_chart(anatomy: Anatomy, times_us: Sequence[float | None] | None = None) -> str:
    """Draw what each operator takes: bytes, multiply-accumulates and, where known, time.

    Args:
        anatomy: of the model.
        times_us: of each operator, in order; None: not measured.
    """
    shown = anatomy.operators
    panels: list[tuple[str, list[float | None], Callable[[float], str]]] = [
        ("Bytes of constants", [float(o.constant_bytes) for o in shown], lambda v: si(v, "B")),
        ("Multiply-accumulates", [float(o.macs) for o in shown], si),
    ]
    if times_us is not None:
        panels.append(("Time alone, median", list(times_us), lambda v: si(v * 1e-6, "s")))
    labels = [shortened(_label(o), _LABEL_CHARACTERS) for o in shown]
    left = 56 + max(width_of(label, 11.5) for label in labels)
    width = left + len(panels) * (_PANEL + _GAP)
    top = 82
    height = top + len(shown) * _ROW + 16
    parts = [
        text(16, 28, anatomy.name, size=16, bold=True),
        text(16, 48, _subtitle(anatomy), fill=SOFT),
        *(
            text(34, top + n * _ROW + 13, str(o.number), size=11.5, anchor="end", fill=SOFT)
            for n, o in enumerate(shown)
        ),
        *(text(42, top + n * _ROW + 13, label, size=11.5) for n, label in enumerate(labels)),
    ]
    for number, (title, values, show) in enumerate(panels):
        x = left + number * (_PANEL + _GAP)
        parts.append(text(x, top - 8, title, size=11.5, bold=True))
        parts += _bars(values, (x, top), COLOURS[number], show)
    return drawing(width, height, parts, f"Layers of {anatomy.name}")


def _label(operator: OperatorFacts) -> str:
    weights = operator.weights
    shape = "" if weights is None else f" {weights.type} {'x'.join(map(str, weights.shape))}"
    return f"{operator.kind}{shape}"


def _subtitle(anatomy: Anatomy) -> str:
    return (
        f"{si(anatomy.bytes.total, 'B')}, {si(anatomy.parameters)} parameters "
        f"({si(anatomy.nonzero)} not zero), {si(anatomy.macs)} multiply-accumulates"
    )


def _bars(
    values: Sequence[float | None],
    corner: tuple[float, float],
    colour: str,
    show: Callable[[float], str],
) -> Iterable[str]:
    x, top = corner
    most = max((value for value in values if value is not None), default=0.0) or 1.0
    yield line((x, top - 2, x, top + len(values) * _ROW))
    for number, value in enumerate(values):
        if not value:
            continue
        y, length = top + number * _ROW + 3, value / most * _PANEL
        yield rect(x, y, max(length, 1.0), _BAR, colour, show(value))
        yield text(x + max(length, 1.0) + 5, y + 10, show(value), size=10.5, fill=SOFT)


def pareto(spots: Sequence[Spot]) -> list[Spot]:
    """Return those that no other is both as cheap and as accurate as, by rising cost."""
    front: list[Spot] = []
    for spot in sorted(spots, key=lambda s: (s.cost, -s.accuracy)):
        if not front or spot.accuracy > front[-1].accuracy:
            front.append(spot)
    return front


def cost_chart(
    spots: Sequence[Spot],
    title: str,
    axis: str,
    show: Callable[[float], str] = si,
    labelled: Collection[str] | None = None,
) -> str:
    """Draw accuracy against a cost, on a logarithmic axis, with the Pareto line.

    Args:
        spots: the models, in the order of their colours; at least one.
        title: above the plot.
        axis: what the cost is, with its unit.
        show: how a cost reads.
        labelled: names of those that are named beside their dots; None: all. Pointing at a dot
            names any.
    """
    width, height = 392.0, 310.0
    x = spanning((s.cost for s in spots), 62, width - 20, log=True)
    y = spanning((v for s in spots for v in (s.low, s.high)), height - 54, 44)
    front = pareto(spots)
    return drawing(
        width,
        height,
        [
            text(16, 24, title, size=14, bold=True),
            *_axes((x, y), (axis, "accuracy, %"), (show, lambda v: f"{v * 100:.4g}")),
            *_front_line(front, x, y),
            *(_spot(s, x, y, COLOURS[n % len(COLOURS)]) for n, s in enumerate(spots)),
            *_names(spots, x, y, labelled),
        ],
        f"{title}: {', '.join(f'{s.name} {s.accuracy:.1%} at {show(s.cost)}' for s in spots)}",
    )


def _front_line(front: Sequence[Spot], x: Scale, y: Scale) -> list[str]:
    """Draw the steps of the front: what can be had for at most so much."""
    steps: list[tuple[float, float]] = []
    for spot in front:
        if steps:
            steps.append((x.at(spot.cost), steps[-1][1]))
        steps.append((x.at(spot.cost), y.at(spot.accuracy)))
    steps.append((x.end, steps[-1][1]))
    return [polyline(steps, SOFT, "4 3")]


def _spot(spot: Spot, x: Scale, y: Scale, colour: str) -> str:
    at = x.at(spot.cost)
    title = f"{spot.name}: {spot.accuracy:.2%} ({spot.low:.2%} to {spot.high:.2%})"
    whisker = line((at, y.at(spot.low), at, y.at(spot.high)), stroke=colour, width=1.2)
    return whisker + circle(at, y.at(spot.accuracy), 5.5, colour, title)


def _names(
    spots: Sequence[Spot], x: Scale, y: Scale, labelled: Collection[str] | None
) -> Iterable[str]:
    """Write the names where they meet neither a dot nor each other, as far as that can be had."""
    taken = [_box(x.at(s.cost) - 7, y.at(s.accuracy) + 7, 14, 14) for s in spots]
    taken += [_box(x.at(s.cost) - 1, y.at(s.low), 2, y.at(s.low) - y.at(s.high)) for s in spots]
    for number, spot in enumerate(spots):
        if labelled is not None and spot.name not in labelled:
            continue
        words = shortened(spot.name, 30)
        length = width_of(words, 11)
        px, py = x.at(spot.cost), y.at(spot.accuracy)
        places = [
            *((px + 9, py + 4 + d) for d in (-13, 14)),
            *((px - 9 - length, py + 4 + d) for d in (-13, 0, 14)),
            *((px + 9, py + 4 + d) for d in (0, -27, 28)),
            *((px - 9 - length, py + 4 + d) for d in (-27, 28)),
        ]
        inside = [
            p for p in places if p[0] > x.start and p[0] + length < x.end + 18 and p[1] > y.end
        ]
        boxes = [(p, _box(p[0], p[1], length, 11)) for p in inside or places[:2]]
        place, box = next(
            ((p, b) for p, b in boxes if not any(_meet(b, other) for other in taken)), boxes[0]
        )
        taken.append(box)
        yield text(
            *place, words, size=11, fill=COLOURS[number % len(COLOURS)], bold=True, halo=True
        )


_Box = tuple[float, float, float, float]


def _box(x: float, bottom: float, width: float, height: float) -> _Box:
    return (x, bottom - height, x + width, bottom)


def _meet(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def reliability_chart(bins: Sequence[Bin], title: str, error: float, colour: str) -> str:
    """Draw how often answers are right that are so sure; on the diagonal both are equal.

    Args:
        bins: those that are not empty.
        title: above the plot.
        error: the expected calibration error.
        colour: of the model.
    """
    width, height = 300.0, 300.0
    x, y = Scale(0, 1, 50, width - 16), Scale(0, 1, height - 44, 50)
    most = max(one.samples for one in bins)
    parts = [
        text(16, 22, shortened(title, 34), size=13, bold=True),
        text(16, 39, f"calibration error {error:.2%}", size=11, fill=SOFT),
        *_axes((x, y), ("confidence", "accuracy"), (lambda v: f"{v:.1f}",) * 2),
        line((x.at(0), y.at(0), x.at(1), y.at(1)), stroke=SOFT, dash="4 3"),
    ]
    for one in bins:
        left, right = x.at(one.low) + 1, x.at(one.high) - 1
        share = one.samples / most
        words = (
            f"{one.low:.2f} to {one.high:.2f}: {one.samples} answers, {one.accuracy:.1%} right, "
            f"{one.confidence:.1%} sure"
        )
        parts += [
            rect(left, y.at(one.accuracy), right - left, y.start - y.at(one.accuracy), "#dbe6f1"),
            rect(left, y.start - 26 * share, right - left, 26 * share, "#b9cadb"),
        ]
        radius = 2.2 + 2.8 * share**0.5
        parts.append(circle(x.at(one.confidence), y.at(one.accuracy), radius, colour, words))
    return drawing(width, height, parts, f"Reliability of {title}")


def confusion_chart(confusion: NDArray[np.int64], title: str, labels: Sequence[str]) -> str:
    """Draw which classes are taken for which: rows are labels, columns answers.

    Args:
        confusion: [classes, classes], counts.
        title: above the plot.
        labels: names of the classes.
    """
    classes = len(confusion)
    cell = max(4.0, min(26.0, 480 / classes))
    few = classes <= _FEW_CLASSES
    names = [shortened(label, 12) for label in labels] if few else []
    left = 42 + max((width_of(name, 10.5) for name in names), default=0)
    deep = 16 + (max((width_of(name, 10.5) for name in names), default=0) if few else 0)
    top, side = 52.0, cell * classes
    width = max(left + side + 20, width_of(title, 13) + 40, 240)
    height = top + side + (deep if any(len(n) > 2 for n in names) else 20) + 24  # noqa: PLR2004
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    parts = [
        text(16, 22, title, size=13, bold=True),
        text(16, 39, "rows: label, columns: answer", size=11, fill=SOFT),
        rect(left, top, side, side, "#f6f8fa"),
    ]
    for row, column in zip(*np.nonzero(confusion), strict=True):
        share, count = float(shares[row, column]), int(confusion[row, column])
        x, y = left + column * cell, top + row * cell
        words = f"{labels[row]} taken for {labels[column]}: {count} ({share:.1%})"
        fill = _shade(share, right=row == column)
        parts.append(rect(x + 0.5, y + 0.5, cell - 1, cell - 1, fill, words))
        if few:
            fill = PAPER if share > _DARK else INK
            center = (x + cell / 2, y + cell / 2 + 3.5)
            parts.append(text(*center, si(count), size=9.5, anchor="middle", fill=fill))
    for number, name in enumerate(names):
        middle = (number + 0.5) * cell
        parts.append(text(left - 6, top + middle + 3.5, name, size=10.5, anchor="end", fill=SOFT))
        parts.append(_under(left + middle, top + side, name))
    return drawing(width, height, parts, f"Confusion of {title}")


def _under(x: float, y: float, name: str) -> str:
    """Write a class under its column, turned where it is long."""
    if len(name) <= 2:  # noqa: PLR2004 - it fits
        return text(x, y + 14, name, size=10.5, anchor="middle", fill=SOFT)
    turned = text(x + 3.5, y + 8, name, size=10.5, anchor="end", fill=SOFT)
    return f'<g transform="rotate(-90 {x + 3.5:.1f} {y + 8:.1f})">{turned}</g>'


def _shade(share: float, *, right: bool) -> str:
    """Return a colour from pale to full: blue on the diagonal, red beside it."""
    full = (37, 99, 168) if right else (192, 57, 43)
    depth = 0.15 + 0.85 * share
    return "#" + "".join(f"{round(255 + (one - 255) * depth):02x}" for one in full)


def _axes(
    scales: tuple[Scale, Scale],
    titles: tuple[str, str],
    shows: Sequence[Callable[[float], str]],
) -> Iterable[str]:
    x, y = scales
    for tick in x.ticks():
        yield line((x.at(tick), y.start, x.at(tick), y.end))
        yield text(x.at(tick), y.start + 16, shows[0](tick), size=11, anchor="middle", fill=SOFT)
    for tick in y.ticks():
        yield line((x.start, y.at(tick), x.end, y.at(tick)))
        yield text(x.start - 7, y.at(tick) + 4, shows[1](tick), size=11, anchor="end", fill=SOFT)
    yield line((x.start, y.start, x.end, y.start), stroke=SOFT)
    yield line((x.start, y.start, x.start, y.end), stroke=SOFT)
    yield text((x.start + x.end) / 2, y.start + 35, titles[0], size=11.5, anchor="middle")
    middle = (y.start + y.end) / 2
    words = text(14, middle, titles[1], size=11.5, anchor="middle")
    yield f'<g transform="rotate(-90 14 {middle:.1f})">{words}</g>'
