"""How far the answers of a converted file lie from those of its source. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class OutputChange:
    """One output, over all rows.

    Attributes:
        name: the output's.
        largest: the largest absolute value that the source gives, of those that are finite.
        difference: the largest absolute difference; infinite where one side is a number and the
            other is not (NaN and infinities agree with their like).
        agreement: share of rows whose largest value stands at the same place; None: the output is
            no row of scores.
    """

    name: str
    largest: float
    difference: float
    agreement: float | None

    @property
    def relative(self) -> float:
        """The difference as a share of the largest value; as it is where that is 0."""
        return self.difference / self.largest if self.largest > 0 else self.difference


@dataclass(frozen=True, slots=True)
class Comparison:
    """All outputs of a file against those of its source.

    Attributes:
        rows: how many inputs were answered by both.
        outputs: in the source's order, at least one.
    """

    rows: int
    outputs: tuple[OutputChange, ...]

    @property
    def worst(self) -> OutputChange:
        """The output whose relative difference is largest."""
        return max(self.outputs, key=lambda output: output.relative)

    def is_within(self, tolerance: float) -> bool:
        """Whether no output differs by more than a share of its largest value."""
        return all(output.relative <= tolerance for output in self.outputs)


def compare(
    names: Sequence[str], expected: Sequence[NDArray[Any]], given: Sequence[NDArray[Any]]
) -> Comparison:
    """Compare answers.

    Args:
        names: of the outputs.
        expected: the source's answers, one array [rows, *shape] for each output.
        given: the file's, in the same shapes.

    Raises:
        ValueError: shapes differ; the text says which.
    """
    changes = [_change(*each) for each in zip(names, expected, given, strict=True)]
    return Comparison(len(expected[0]), tuple(changes))


def _change(name: str, expected: NDArray[Any], given: NDArray[Any]) -> OutputChange:
    if expected.shape != given.shape:
        raise ValueError(
            f"output {name!r} has shape {list(given.shape[1:])}, "
            f"the source's {list(expected.shape[1:])}"
        )
    wanted, found = expected.astype(np.float64), given.astype(np.float64)
    finite = np.isfinite(wanted)
    alike = (wanted == found) | (np.isnan(wanted) & np.isnan(found))
    with np.errstate(invalid="ignore"):
        apart = np.where(alike, 0.0, np.abs(wanted - found))
    apart[~np.isfinite(apart)] = np.inf
    return OutputChange(
        name,
        largest=float(np.abs(wanted[finite]).max(initial=0.0)),
        difference=float(apart.max(initial=0.0)),
        agreement=_agreement(wanted, found),
    )


def _agreement(wanted: NDArray[np.float64], found: NDArray[np.float64]) -> float | None:
    """Return the share of rows with the same largest score, where a row is a row of scores."""
    long = [size for size in wanted.shape[1:] if size > 1]
    if len(long) != 1:
        return None
    one, other = wanted.reshape(len(wanted), -1), found.reshape(len(found), -1)
    return float((one.argmax(axis=1) == other.argmax(axis=1)).mean())
