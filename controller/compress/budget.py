"""What to do to each layer so that the model becomes small and the accuracy stays in a budget.

Every layer has options: bytes against damage, each measured alone. On the lower convex hull of a
layer's options the steps have a falling worth; taking the steps of all layers by worth, the best
first, gives the path of allocations that minimise bytes + price * damage for every price (Shoham
and Gersho, "Efficient bit allocation for an arbitrary set of quantizers", 1988). How far to go on
that path is then measured on the whole model, not added up.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np

from controller.compress.errors import CompressError
from controller.samples import Samples

Choice = TypeVar("Choice")

_LOOKS = 8
_LEAST_SAMPLES = 20


@dataclass(frozen=True)  # with slots too, Python 3.11 cannot make a Option[X](...)
class Option(Generic[Choice]):
    """One thing that can be done to a layer.

    Attributes:
        choice: what; None: nothing.
        size: what the layer then takes, in any unit.
        damage: what that alone does to the answers, in any unit; nothing does none.
    """

    choice: Choice | None
    size: float
    damage: float


@dataclass(frozen=True)  # with slots too, Python 3.11 cannot make a Point[X](...)
class Point(Generic[Choice]):
    """A model as a whole, measured.

    Attributes:
        chosen: what is done to each layer, by the layer's number; others stay as they are.
        wire_bytes: of the model over the air.
        loss: of accuracy, as a share of the samples that the choice was made on; negative: a gain.
    """

    chosen: Mapping[int, Choice]
    wire_bytes: int
    loss: float


def path(options: Mapping[int, Sequence[Option[Choice]]]) -> list[dict[int, Choice]]:
    """Return ever smaller allocations, from the model as it is to the hull's far end.

    Args:
        options: of each layer, by its number; one of them is to do nothing.
    """
    steps: list[tuple[float, int, Choice]] = []
    for layer, several in options.items():
        for worth, option in _hull_steps(several):
            if option.choice is not None:
                steps.append((worth, layer, option.choice))
    steps.sort(key=lambda step: -step[0])  # stable: a layer's own steps stay in their order
    allocations: list[dict[int, Choice]] = [{}]
    for _, layer, choice in steps:
        allocations.append({**allocations[-1], layer: choice})
    return allocations


def furthest(
    allocations: Sequence[Mapping[int, Choice]],
    measure: Callable[[Mapping[int, Choice]], Point[Choice]],
    max_loss: float,
) -> tuple[Point[Choice], tuple[Point[Choice], ...]]:
    """Walk a path as far as the budget allows.

    Some places all along it are measured, which gives the curve of loss against bytes; then the
    stretch behind the last of them that holds the budget is halved until its end is found.

    Args:
        allocations: of `path`, at least one.
        measure: does an allocation to the model and measures it.
        max_loss: what may be lost, as a share.

    Returns:
        The last point found that holds the budget, and all points by falling bytes.

    Raises:
        CompressError: not even the first allocation holds it.
    """
    points: dict[int, Point[Choice]] = {}

    def holds(place: int) -> bool:
        points[place] = points.get(place) or measure(allocations[place])
        return points[place].loss <= max_loss + 1e-9

    places = sorted({round(n) for n in np.linspace(0, len(allocations) - 1, _LOOKS)})
    held = [place for place in places if holds(place)]
    if not held:
        raise CompressError(f"cannot hold a loss of {max_loss:.2%}: nothing to choose from does")
    low = held[-1]
    high = next((place for place in places if place > low), low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    curve = sorted(points.values(), key=lambda point: -point.wire_bytes)
    return points[low], tuple(curve)


def halves(samples: Samples) -> tuple[Samples, Samples]:
    """Divide samples at random (seeded): one half to choose on, one held out to report on.

    Raises:
        CompressError: they have no labels, or are too few for both.
    """
    if samples.y is None:
        raise CompressError(f"cannot hold a budget of accuracy: {samples.source} has no labels `y`")
    count = len(samples.y)
    if count < _LEAST_SAMPLES:
        raise CompressError(
            f"cannot hold a budget of accuracy: {samples.source} has {count} samples, "
            f"want {_LEAST_SAMPLES} at least, half of them held out; a thousand is better"
        )
    order = np.random.default_rng(0).permutation(count)
    ours, theirs = np.sort(order[::2]), np.sort(order[1::2])
    return _of(samples, ours, "chosen on"), _of(samples, theirs, "held out")


def _of(
    samples: Samples, rows: np.ndarray[tuple[int, ...], np.dtype[np.intp]], part: str
) -> Samples:
    y = None if samples.y is None else samples.y[rows]
    return Samples(samples.x[rows], y, samples.sha256, f"{samples.source} ({part})")


def _hull_steps(options: Sequence[Option[Choice]]) -> list[tuple[float, Option[Choice]]]:
    """Return the corners of the lower convex hull behind the largest option, with their worth.

    Worth is bytes saved for damage done since the corner before; without damage it is infinite.
    """
    corners: list[Option[Choice]] = []
    for option in sorted(options, key=lambda one: (-one.size, one.damage)):
        if corners and option.size >= corners[-1].size:
            continue
        while len(corners) > 0 and _is_above(corners, option):
            corners.pop()
        corners.append(option)
    return [(_worth(before, after), after) for before, after in pairwise(corners)]


def _is_above(corners: Sequence[Option[Choice]], option: Option[Choice]) -> bool:
    """Whether the last corner lies above the line from the one before it to an option."""
    if len(corners) == 1:  # the model as it is: always where the path begins
        return False
    return _worth(corners[-2], corners[-1]) <= _worth(corners[-1], option)


def _worth(before: Option[Choice], after: Option[Choice]) -> float:
    harm = after.damage - before.damage
    return (before.size - after.size) / harm if harm > 0 else float("inf")
