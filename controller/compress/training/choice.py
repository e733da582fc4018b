"""Which form to take: what each loses, how sure that is, and what was asked for. Pure."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

from controller.compress.errors import CompressError

_LEVEL = 1.05
_HAIR = 1e-9
"""A loss of exactly what is allowed is allowed."""
_GOAL = re.compile(r"(\w+)\s*=\s*(\d+(?:\.\d+)?|\.\d+)")


@dataclass(frozen=True, slots=True)
class Loss:
    """Accuracy lost against the original, on the same samples.

    Attributes:
        samples: how many there were.
        spoiled: that the original has right and the other wrong.
        mended: the other way round.
    """

    samples: int
    spoiled: int
    mended: int

    @property
    def points(self) -> float:
        """Percentage points; below 0 it is a gain."""
        return 100 * (self.spoiled - self.mended) / self.samples

    @property
    def error_points(self) -> float:
        """Standard error of `points`, the mean of +1, 0 and -1 over the samples."""
        moved, balance = self.spoiled + self.mended, self.spoiled - self.mended
        # Where no answer has changed, the next one still may.
        return 100 * math.sqrt(max(1.0, moved - balance**2 / self.samples)) / self.samples

    def is_within(self, points: float) -> bool:
        """Whether it is no more than so many points, as measured."""
        return self.points <= points + _HAIR

    def is_surely_within(self, points: float) -> bool:
        """Whether it is so with one standard error on top."""
        return self.points + self.error_points <= points + _HAIR


@dataclass(frozen=True, slots=True)
class Row:
    """One form of the model. A cascade's numbers are those of its stages together.

    Attributes:
        form: its name.
        files: names of its files.
        parameters, nonzero: of the files.
        file_bytes, wire_bytes: of the files, as they are and as delivery packs them.
        macs: multiply-accumulates of an answer, mean.
        samples: of the data that it was measured on.
        right: how many of them it answers rightly.
        spoiled: how many the original has right and this one wrong.
        mended: how many the original has wrong and this one right.
        mean_ms, median_ms, p95_ms, cpu_ms: of an answer: wall clock, and CPU time of the process.
        escalated: share of the samples that a cascade's last stage answers; None: no cascade.
    """

    form: str
    files: tuple[str, ...]
    parameters: int
    nonzero: int
    file_bytes: int
    wire_bytes: int
    macs: float
    samples: int
    right: int
    spoiled: int
    mended: int
    mean_ms: float
    median_ms: float
    p95_ms: float
    cpu_ms: float
    escalated: float | None

    @property
    def accuracy(self) -> float:
        """Share of the samples that it answers rightly."""
        return self.right / self.samples

    @property
    def loss(self) -> Loss:
        """What it loses against the original."""
        return Loss(self.samples, self.spoiled, self.mended)


@dataclass(frozen=True, slots=True)
class Goals:
    """What a form should take at most, each as a share of the original.

    Attributes:
        nonzero: parameters that are not zero.
        wire: bytes over the air.
        mean: time of an answer.
        cpu: CPU time of an answer.
    """

    nonzero: float = 0.125
    wire: float = 0.05
    mean: float = 0.4
    cpu: float = 0.5

    def missed(self, row: Row, original: Row) -> tuple[str, ...]:
        """Return the names of those that a form does not keep."""
        shares = {
            "nonzero": row.nonzero / original.nonzero,
            "wire": row.wire_bytes / original.wire_bytes,
            "mean": row.mean_ms / original.mean_ms,
            "cpu": row.cpu_ms / original.cpu_ms,
        }
        return tuple(name for name, share in shares.items() if share > getattr(self, name))


def parse_goals(text: str) -> Goals:
    """Read goals, `nonzero=0.125,wire=0.05`; those that are not named keep their default.

    Raises:
        CompressError: they are none.
    """
    given: dict[str, float] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        found = _GOAL.fullmatch(part)
        if found is None or found[1] not in {one.name for one in fields(Goals)}:
            raise CompressError(
                f"cannot use goal {part!r}: write nonzero=, wire=, mean= or cpu= and a share of "
                "the original, such as nonzero=0.125"
            )
        given[found[1]] = float(found[2])
    return Goals(**given)


def choose(rows: Sequence[Row], loss_points: float, goals: Goals | None = None) -> Row:
    """Return the form to take.

    Of the forms that lose no more than is allowed, those that keep the most goals; of these the
    cheapest whose loss is surely within (with one standard error on top), and where the samples
    are too few to be sure of any, the one that loses least. Without goals: the cheapest within.

    Cheapest is the one with the least CPU time for an answer, which other programs disturb less
    than the clock; of those within 5% of it, the one with the fewest bytes over the air.

    Args:
        rows: the original first; it is the answer where nothing else is good enough. They are to be
            measured on other data than the figures that are reported.
        loss_points: in percentage points.
        goals: what the form should take at most.
    """
    fewest = rows[0].right - loss_points / 100 * rows[0].samples
    good = [row for row in rows if row.right >= fewest - _HAIR]
    if goals is None:
        return _cheapest(good)
    misses = {row.form: len(goals.missed(row, rows[0])) for row in good}
    best = [row for row in good if misses[row.form] == min(misses.values())]
    sure = [row for row in best if row.loss.is_surely_within(loss_points)]
    most = max(row.right for row in best)
    return _cheapest(sure or [row for row in best if row.right == most])


def _cheapest(rows: Sequence[Row]) -> Row:
    least = min(row.cpu_ms for row in rows)
    level = [row for row in rows if row.cpu_ms <= _LEVEL * least]
    return min(level, key=lambda row: row.wire_bytes)
