"""How far to go: `macs=0.1`, `bytes=500k`, `parameters=20000`. Pure."""

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from controller.compress.errors import CompressError

Measure = Literal["macs", "bytes", "parameters"]

_MEASURES: dict[str, Measure] = {measure: measure for measure in get_args(Measure)}
_PATTERN = re.compile(r"(\w+)\s*=\s*(\d+(?:\.\d+)?|\.\d+)\s*([kM]?)")
_LAYER_BYTES = 1000
"""What converters write around a layer's numbers, as measured on files of 6 to 18 layers."""
_UNITS = {"": 1, "k": 1_000, "M": 1_000_000}


@dataclass(frozen=True, slots=True)
class Size:
    """What a network costs.

    Attributes:
        parameters: trainable numbers.
        macs: multiply-accumulates of convolutions and linear layers for one sample.
        bytes: what it takes as a file, estimated: `file_bytes`.
    """

    parameters: int
    macs: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Target:
    """A size to come down to.

    Attributes:
        measure: what is counted.
        value: below 1 a share of the original, else the number itself.
    """

    measure: Measure
    value: float

    def limit(self, original: Size) -> float:
        """Return the most that is allowed, for a network of this original size."""
        return self.value * of(original, self.measure) if self.value < 1 else self.value

    def milestones(self, original: Size, steps: int) -> tuple[float, ...]:
        """Return limits that lead from the original to the target, each the same factor smaller.

        Raises:
            CompressError: the original is there already.
        """
        start, end = of(original, self.measure), self.limit(original)
        if end >= start:
            raise CompressError(
                f"cannot come down to {self.measure} {end:,.0f}: the original has {start:,} already"
            )
        return tuple(start * (end / start) ** (step / steps) for step in range(1, steps + 1))

    def __str__(self) -> str:
        return f"{self.measure}={self.value:g}"


def parse_target(text: str) -> Target:
    """Read a target.

    Args:
        text: `macs=0.1` (a share below 1), or a number with k or M: `bytes=500k`.

    Raises:
        CompressError: it is none.
    """
    match = _PATTERN.fullmatch(text.strip())
    if match is None or match[1] not in _MEASURES:
        raise CompressError(
            f"cannot use target {text!r}: write macs=, bytes= or parameters= and a share below 1 "
            "or a number, such as macs=0.1 or bytes=500k"
        )
    value = float(match[2]) * _UNITS[match[3]]
    if not math.isfinite(value) or value <= 0:
        raise CompressError(f"cannot use target {text!r}: it has to be above 0")
    return Target(_MEASURES[match[1]], value)


def of(size: Size, measure: Measure) -> int:
    """Return one of a size's numbers."""
    match measure:
        case "macs":
            return size.macs
        case "bytes":
            return size.bytes
        case "parameters":
            return size.parameters


def file_bytes(weights: int, channels: int, layers: int, *, is_int8: bool) -> int:
    """Estimate what a `.tflite` file takes; a little too much rather than too little.

    Args:
        weights: numbers in the kernels of all layers.
        channels: output channels of all layers.
        layers: how many there are; each has tensors with names, shapes and options.
        is_int8: per-channel int8 (for each channel a bias of 4 bytes, and a scale of 4 and a zero
            point of 8 both of its weights and of its bias), else float32 (a bias of 4).
    """
    numbers = weights + 28 * channels if is_int8 else 4 * (weights + channels)
    return numbers + _LAYER_BYTES * layers
