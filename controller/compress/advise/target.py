"""What is wanted of a model: `accuracy_loss<=0.5pp, latency<=0.1ms, bytes<=200KiB`. Pure."""

import re
from dataclasses import dataclass
from typing import Literal

from controller.compress.errors import CompressError

Word = Literal["accuracy_loss", "accuracy", "latency", "cpu", "bytes", "file_bytes", "memory"]

_TIME = {"us": 1.0, "ms": 1e3, "s": 1e6}
_BYTES = {
    "": 1.0,
    "B": 1.0,
    "kB": 1e3,
    "KB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "KiB": 1024.0,
    "MiB": 1024.0**2,
    "GiB": 1024.0**3,
}
_UNITS: dict[Word, dict[str, float]] = {
    "accuracy_loss": {"pp": 0.01, "%": 0.01},
    "accuracy": {"%": 0.01, "": 1.0},
    "latency": _TIME,
    "cpu": _TIME,
    "bytes": _BYTES,
    "file_bytes": _BYTES,
    "memory": _BYTES,
}
_EXAMPLES: dict[Word, str] = {
    "accuracy_loss": "accuracy_loss<=0.5pp",
    "accuracy": "accuracy>=97%",
    "latency": "latency<=0.1ms",
    "cpu": "cpu<=100us",
    "bytes": "bytes<=200KiB",
    "file_bytes": "file_bytes<=1MiB",
    "memory": "memory<=20MiB",
}
_WORDS: dict[str, Word] = {word: word for word in _UNITS}
_BOUND = re.compile(r"(\w+)\s*(<=|>=|<|>|=)\s*(\d+(?:\.\d+)?|\.\d+)\s*([A-Za-z%]*)")
_LEAST_LOSS = 0.005
"""What a loss beyond its limit is compared with where the limit is smaller: half a point."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit.

    Attributes:
        word: what is limited. `bytes` are those over the air, as delivery packs them.
        limit: a share for accuracies, else microseconds or bytes; of the original's where
            `of_original` is set, then 0.1 is a tenth.
        text: as it was written.
        of_original: a limit relative to the original.
    """

    word: Word
    limit: float
    text: str
    of_original: bool = False

    def miss(self, figure: float, original: float) -> float:
        """Return by which share of the limit a figure is beyond it; 0: it is not.

        Args:
            figure: of the form, in the unit of the limit.
            original: of the original.
        """
        limit = self.limit * original if self.of_original else self.limit
        beyond = limit - figure if self.word == "accuracy" else figure - limit
        whole = max(limit, _LEAST_LOSS) if self.word == "accuracy_loss" else limit
        return max(0.0, beyond - 1e-9) / whole if whole else max(0.0, beyond)


@dataclass(frozen=True, slots=True)
class Target:
    """What a form has to hold, all of it."""

    bounds: tuple[Bound, ...]

    def limit(self, word: Word) -> float | None:
        """Return the limit of a word; None: it has none."""
        return next((bound.limit for bound in self.bounds if bound.word == word), None)

    def without(self, bound: Bound) -> "Target":
        """Return the target without one of its bounds."""
        return Target(tuple(one for one in self.bounds if one != bound))


def parse_target(text: str) -> Target:
    """Read a target: bounds with commas between.

    Raises:
        CompressError: it is none.
    """
    parts = [part.strip() for part in text.split(",")]
    if parts == [""]:
        raise _unreadable("it is empty; write accuracy_loss<=0.5pp, bytes<=200KiB")
    bounds = tuple(map(_bound, parts))
    words = [bound.word for bound in bounds]
    twice = next((word for word in words if words.count(word) > 1), None)
    if twice is not None:
        raise _unreadable(f"{twice} stands twice")
    return Target(bounds)


def _bound(part: str) -> Bound:
    found = _BOUND.fullmatch(part)
    if found is None:
        raise _unreadable(f"{part!r} is no bound; write such as accuracy_loss<=0.5pp")
    name, sign, number, unit = found.groups()
    word = _WORDS.get(name)
    if word is None:
        raise _unreadable(f"{name!r} is not known; there are {', '.join(_UNITS)}")
    if sign != (">=" if word == "accuracy" else "<="):
        raise _unreadable(f"{part!r}: write {_EXAMPLES[word]}")
    is_relative = unit == "%" and "accuracy" not in word
    factors = {"%": 0.01} if is_relative else _UNITS[word]
    if unit not in factors:
        what = f"{unit!r} is no unit of it" if unit else "it has no unit"
        raise _unreadable(f"{part!r}: {what}; write {_EXAMPLES[word]}{_or_share(word)}")
    limit = float(number) * factors[unit]
    if "accuracy" in word and limit > 1:
        raise _unreadable(f"{part!r} is more than there is; write {_EXAMPLES[word]}")
    if "accuracy" not in word and limit == 0:
        raise _unreadable(f"{part!r}: nothing can be so small")
    return Bound(word, limit, f"{word}{sign}{number}{unit}", is_relative)


def _or_share(word: Word) -> str:
    return "" if "accuracy" in word else f", or {word}<=10% of the original's"


def _unreadable(why: str) -> CompressError:
    return CompressError(f"cannot read the target: {why}")
