"""Mixed precision: every layer as narrow as the budget of accuracy allows.

Each layer is rounded to each width alone, and the divergence of the scores is its damage
(`controller.compress.sensitivity`). The steps of all layers, by bytes saved for damage done, are a
path from the float model to the narrowest (`controller.compress.budget`). How far to go on it is
measured on the quantized file itself, on one half of the samples; the other half says what it cost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.compress.budget import Point, path
from controller.compress.errors import CompressError
from controller.compress.quantize import QuantizeReport, check_float, quantize_layers
from controller.compress.quantizer import check_installed
from controller.compress.search import Found, Judge
from controller.compress.weights import wire_bytes
from controller.compress.widths import Grade, Width, narrowed

WIDTHS = (Width.FLOAT16, Width.INT8, Width.INT4)
"""What a layer may become. Blocks are left out: they exist for dense layers alone."""


@dataclass(frozen=True, slots=True)
class Aim:
    """What is wanted.

    Attributes:
        max_loss: of accuracy, as a share of the samples that the choice is made on.
        max_bytes: None: the smallest model within the loss. Else the model of least damage whose
            file is no larger.
        search: try scales of least squared error too, and keep for each layer what moves the
            answers less. Least error of the weights is not always least error of the answers.
    """

    max_loss: float
    max_bytes: int | None = None
    search: bool = False


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
    grades = [Grade(width) for width in WIDTHS]
    if aim.search:
        grades += [Grade(width, searched=True) for width in WIDTHS if width is not Width.FLOAT16]
    ways = [(grade, narrowed(grade.width, search=grade.searched)) for grade in grades]
    options = judge.costs(ways, lambda graph, stored: graph.stored_bytes(stored.tensor))
    if aim.max_bytes is None:
        found = judge.within(options, walk.content, aim.max_loss)
    else:
        found = walk.first_within(path(options), aim.max_bytes)
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
