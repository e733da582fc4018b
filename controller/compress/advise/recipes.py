"""What can be done to a model: steps, one after the other, in the orders that are legal. Pure.

Channels go first, since what is left is taught again; then weights become zero, then numbers
narrow (zeros stay zeros on a symmetric grid), then palettes are drawn on the grid that there is.
Quantizers take float32 alone, so nothing that has narrow weights is quantized again; int4 stores
two weights in a byte, so palettes cannot follow it; float16 weights pass a DEQUANTIZE, likewise.
"""

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum

from pydantic import Field

from controller.compress.errors import CompressError
from controller.compress.training.target import parse_target
from protocols.message import Part


class Technique(StrEnum):
    """One thing to do to a model."""

    CHANNELS = "channels"
    PRUNE = "prune"
    TIE = "tie"
    FP16 = "fp16"
    DYNAMIC_INT8 = "dynamic-int8"
    INT8 = "int8"
    INT4 = "int4"
    MIXED = "mixed"
    PALETTE = "palette"
    DEDUPE = "dedupe"


AUTO = "auto"
QUANTIZED = frozenset(
    {
        Technique.FP16,
        Technique.DYNAMIC_INT8,
        Technique.INT8,
        Technique.INT4,
        Technique.MIXED,
    }
)
_SEARCHED = frozenset({Technique.TIE, Technique.MIXED})


class Step(Part):
    """One technique, and how far.

    `amount` is a share of zeros, bits of palettes, a size such as `macs=0.1`, or `auto`: as far as
    a loss allows that is measured layer by layer.
    """

    technique: Technique
    amount: str = ""
    max_loss: str | None = Field(
        None, description="percentage points of the model before it; null: nothing is searched"
    )

    @property
    def name(self) -> str:
        """How it reads: `prune 0.5`."""
        return f"{self.technique} {self.amount}".strip()

    @property
    def key(self) -> str:
        """What takes alike long for models that take alike long."""
        return f"{self.technique}{' auto' if self.is_searched else ''}"

    @property
    def is_searched(self) -> bool:
        """Whether layers are measured one by one to find out how far to go."""
        return self.amount == AUTO or self.technique in _SEARCHED


Recipe = tuple[Step, ...]
"""Steps in the order in which they are done; none: the original."""

ORIGINAL = "original"


def name_of(recipe: Recipe) -> str:
    """Return how a recipe reads: `prune 0.5 + int8 + palette 4`."""
    return " + ".join(step.name for step in recipe) or ORIGINAL


def slug_of(recipe: Recipe) -> str:
    """Return a recipe's name for files: `prune-0.5-int8-palette-4`."""
    return re.sub(r"[^a-z0-9.]+", "-", name_of(recipe).lower())


def family_of(recipe: Recipe) -> tuple[str, ...]:
    """Return what tells recipes apart: names of steps, without the losses that were allowed."""
    return tuple(step.name for step in recipe)


def points(share: float) -> str:
    """Return a loss in percentage points, as it stands in a step and in a command."""
    return f"{max(0.0, share * 100):.4f}".rstrip("0").rstrip(".")


def recipes(*, is_float: bool, channels: Sequence[str] = ()) -> tuple[Recipe, ...]:
    """Return what to try, the most promising for its time first; what comes before is there.

    Args:
        is_float: whether the model's weights are float32, so that they can be quantized.
        channels: sizes to cut channels down to, by training; empty: no module was given.
    """
    thin = [f"channels {size}" for size in channels]
    every = (*_trained(thin), *(_OF_FLOAT if is_float else _OF_NARROW))
    return _with_beginnings(_recipe(words) for words in every)


def read_recipes(text: str) -> tuple[Recipe, ...]:
    """Read recipes as they are named, with commas between; what comes before each is added.

    Raises:
        CompressError: one is none.
    """
    return _with_beginnings(_recipe(words.strip()) for words in text.split(","))


def _with_beginnings(several: Iterable[Recipe]) -> tuple[Recipe, ...]:
    found: dict[tuple[str, ...], Recipe] = {}
    for recipe in several:
        for length in range(1, len(recipe) + 1):
            found.setdefault(family_of(recipe[:length]), recipe[:length])
    return tuple(found.values())


def _recipe(words: str) -> Recipe:
    return tuple(_step(part.strip()) for part in words.split("+"))


def _step(words: str) -> Step:
    """Read one step.

    Raises:
        CompressError: it is none.
    """
    technique, _, amount = words.partition(" ")
    if technique not in _TECHNIQUES:
        known = ", ".join(_TECHNIQUES)
        raise CompressError(f"cannot read the form {words!r}: there are {known}")
    kind = Technique(technique)
    if kind is Technique.CHANNELS:
        parse_target(amount)
    elif not _AMOUNTS.get(kind, "".__eq__)(amount):
        example = _EXAMPLES.get(kind, f"{kind} alone")
        raise CompressError(f"cannot read the form {words!r}: write {example}")
    return Step(technique=kind, amount=amount)


def _is_share(amount: str) -> bool:
    try:
        return amount == AUTO or 0 < float(amount) < 1
    except ValueError:
        return False


def _is_bits(amount: str) -> bool:
    return amount == AUTO or (amount.isdecimal() and 1 <= int(amount) <= 8)  # noqa: PLR2004 - a byte


_TECHNIQUES = [technique.value for technique in Technique]
_AMOUNTS = {Technique.PRUNE: _is_share, Technique.PALETTE: _is_bits}
_EXAMPLES = {
    Technique.PRUNE: "prune 0.5 or prune auto",
    Technique.PALETTE: "palette 4 (1 to 8 bits) or palette auto",
}


def _trained(thin: Sequence[str]) -> list[str]:
    """Return the recipes that begin with training: the thinnest that holds is worth most."""
    ends = ("int8", "int8 + palette 5", "int8 + palette 4", "int8 + palette auto")
    return [f"{first} + {end}" for first in thin for end in ends]


_OF_FLOAT = (
    "int8",
    "dynamic-int8",
    "int8 + palette 5",
    "int8 + palette 4",
    "dynamic-int8 + palette 4",
    "fp16",
    "int4",
    "palette 4",
    "prune 0.5 + int8 + palette 4",
    "int8 + palette auto",
    "prune 0.3 + int8 + palette 4",
    "dedupe",
    "prune 0.5 + int8 + palette auto",
    "prune auto + int8 + palette 4",
    "prune auto + int8 + palette auto",
    "mixed",
    "prune 0.5 + int4",
    "prune auto + dynamic-int8 + palette auto",
    "prune auto + mixed",
    "palette auto",
    "tie + int8 + palette auto",
)
_OF_NARROW = (
    "palette 5",
    "palette 4",
    "prune 0.5",
    "palette auto",
    "prune 0.5 + palette 4",
    "prune 0.5 + palette auto",
    "prune auto + palette auto",
    "prune auto + palette 4",
    "dedupe",
    "tie + palette auto",
)
