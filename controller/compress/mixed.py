"""Mixed precision: every layer as narrow as the budget of accuracy allows.

Each layer is rounded to each width alone, and the divergence of the scores is its damage
(`controller.compress.sensitivity`). The steps of all layers, by bytes saved for damage done, are a
path from the float model to the narrowest (`controller.compress.budget`). How far to go on it is
measured on the quantized file itself, on one half of the samples; the other half says what it cost.
Whether a layer's scales are searched changes no size: that is settled last, with all others as they
will be, since what is better for a layer alone may be worse for all of them together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from controller.compress.budget import Point, path
from controller.compress.errors import CompressError
from controller.compress.quantize import QuantizeReport, check_float, quantize_layers
from controller.compress.quantizer import check_installed
from controller.compress.search import Found, Judge
from controller.compress.weights import wire_bytes
from controller.compress.widths import Grade, Width, narrowed

GRADES = (
    Grade(Width.FLOAT16),
    Grade(Width.INT8),
    Grade(Width.INT8_TENSOR),
    Grade(Width.INT4),
    Grade(Width.INT4_BLOCKWISE),
)
"""What a layer may become, as far as its kind has it: blocks are for dense layers, and so is one
scale for a whole layer."""

SEARCHED = (Grade(Width.INT4, searched=True), Grade(Width.INT4_BLOCKWISE, searched=True))
"""Beside them. Least error of the weights is not always least error of the answers, so both are
tried. At 8 bits there is nothing to gain."""


@dataclass(frozen=True, slots=True)
class Aim:
    """What is wanted.

    Attributes:
        max_loss: of accuracy, as a share of the samples that the choice is made on.
        max_bytes: None: the smallest model within the loss. Else the model of least damage whose
            file is no larger.
        search: try scales of least squared error too, and keep for each layer what moves the
            answers less.
    """

    max_loss: float
    max_bytes: int | None = None
    search: bool = True


def quantize_mixed(judge: Judge, aim: Aim) -> tuple[Found[Grade], QuantizeReport]:
    """Give each layer the narrowest width that the budget allows. Activations stay float32.

    Args:
        judge: the model, float32, and labelled samples.
        aim: what may be lost, and how large the file may be.

    Returns:
        What was found, and what became of the layers. The model was run on all samples.

    Raises:
        CompressError: it is quantized already, it does not run on the samples, or the budget cannot
            be held.
    """
    check_installed()
    check_float(judge.content, judge.name, f"quantize {judge.name} to mixed")
    walk = _Walk(judge, aim)
    grades = (*GRADES, *SEARCHED) if aim.search else GRADES
    ways = [(grade, narrowed(grade.width, search=grade.searched)) for grade in grades]
    options = judge.costs(ways, lambda graph, stored: graph.stored_bytes(stored.tensor))
    if aim.max_bytes is None:
        found = judge.within(options, walk.content, aim.max_loss)
    else:
        found = walk.first_within(path(options), aim.max_bytes)
    found = walk.settled(found) if aim.search else found
    return found, walk.made(found.chosen)[1]


class _Walk:
    """The models along a path, each made once."""

    def __init__(self, judge: Judge, aim: Aim) -> None:
        self._judge, self._aim = judge, aim
        self._made: dict[frozenset[tuple[int, Grade]], tuple[bytes, QuantizeReport]] = {}

    def made(self, chosen: Mapping[int, Grade]) -> tuple[bytes, QuantizeReport]:
        """Return the model of an allocation, and what became of its layers."""
        key = frozenset(chosen.items())
        if key not in self._made:
            judge = self._judge
            self._made[key] = quantize_layers(judge.content, chosen, judge.name)
        return self._made[key]

    def content(self, chosen: Mapping[int, Grade]) -> bytes:
        """Return the model of an allocation."""
        return self.made(chosen)[0] if chosen else self._judge.content

    def settled(self, found: Found[Grade]) -> Found[Grade]:
        """Return what was found with each layer's scales searched or not, whatever moves less."""
        judge, best = self._judge, found
        least = judge.shift(best.content).divergence
        for tensor, grade in found.chosen.items():
            if replace(grade, searched=True) not in SEARCHED:
                continue
            chosen = {**best.chosen, tensor: replace(grade, searched=not grade.searched)}
            content = self.content(chosen)
            divergence = judge.shift(content).divergence
            if divergence < least and judge.lost(content) <= self._aim.max_loss + 1e-9:
                least, best = divergence, replace(best, content=content, chosen=chosen)
        return replace(best, verdict=judge.verdict(best.content))

    def first_within(self, allocations: Sequence[Mapping[int, Grade]], most: int) -> Found[Grade]:
        """Return the first allocation whose file fits; sizes fall along the path.

        Raises:
            CompressError: not even the last one does, or what fits loses too much.
        """
        doing = f"quantize {self._judge.name} to mixed"
        low, high = -1, len(allocations) - 1
        smallest = len(self.content(allocations[high]))
        if smallest > most:
            raise CompressError(
                f"cannot {doing}: at its narrowest it has {smallest} bytes, {most} are allowed"
            )
        while high - low > 1:
            middle = (low + high) // 2
            fits = len(self.content(allocations[middle])) <= most
            low, high = (low, middle) if fits else (middle, high)
        chosen, content = allocations[high], self.content(allocations[high])
        loss = self._judge.lost(content)
        if loss > self._aim.max_loss:
            raise CompressError(
                f"cannot {doing}: within {most} bytes it loses {loss:.2%} of accuracy, "
                f"{self._aim.max_loss:.2%} are allowed"
            )
        curve = (Point(chosen, wire_bytes(content), loss),)
        return Found(content, chosen, self._judge.verdict(content), curve)
