"""Calibration samples: an `.npz` of `x` [n, ...] and labels `y` [n], read and checked."""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray

from controller.errors import BuildError
from protocols.bundle import DType, TensorSpec

MAX_SAMPLES = 10_000_000
_DTYPES = frozenset(get_args(DType))
_NARROWER: dict[str, DType] = {"float64": "float32", "uint16": "int32", "uint32": "int64"}
"""Dtypes that no model takes, and what holds their values. Doubles are what numpy makes by itself,
not what a client should have to send."""


_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy and zipfile say of a file that is damaged, or another one."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples and, where they are known, their classes.

    Attributes:
        x: [n, *sample], n >= 1, finite, in a dtype of `protocols.bundle.DType`.
        y: [n] classes, int64, not negative; None: no labels.
        sha256: digest of the file.
        source: the file, for messages.
    """

    x: NDArray[Any]
    y: NDArray[np.int64] | None
    sha256: str
    source: str

    @property
    def dtype(self) -> DType:
        """The dtype of one sample."""
        name = self.x.dtype.name
        if not _is_dtype(name):  # read_samples lets no other through
            raise TypeError(name)
        return name

    def check_classes(self, classes: int) -> None:
        """Check that the labels are classes of a model that tells `classes` apart.

        Raises:
            BuildError: a label is out of range.
        """
        if self.y is None:
            return
        beyond = np.flatnonzero(self.y >= classes)
        if beyond.size:
            first = int(beyond[0])
            hint = "; are they 1-based?" if self.y.min() == 1 and self.y.max() == classes else ""
            raise BuildError(
                f"cannot use labels of {self.source}: {classes} classes, "
                f"label {self.y[first]} at sample {first}{hint}"
            )


def read_samples(path: Path, x_key: str = "x", y_key: str = "y") -> Samples:
    """Read samples from an `.npz` file.

    Args:
        path: the file. Pickled objects in it are refused.
        x_key: name of the array of samples, [n, ...], any numeric dtype.
        y_key: name of the array of labels: [n] or [n, 1] class numbers (floats if they are whole),
            or [n, classes] one-hot. It may be missing if it is the default name.

    Raises:
        BuildError: the file is none, an array is missing, or its values cannot be used.
    """
    arrays, names, digest = _arrays(path, (x_key, y_key))
    for option, key in (("--x-key", x_key), ("--y-key", y_key)):
        if key not in arrays and (key, option) != ("y", "--y-key"):
            raise BuildError(
                f"cannot use samples {path}: no array {key!r}, it holds {names}; name it with "
                f"{option}"
            )
    x = _samples(arrays[x_key], f"{x_key!r} of {path}")
    y = _classes(arrays[y_key], f"{y_key!r} of {path}") if y_key in arrays else None
    if y is not None and len(y) != len(x):
        raise BuildError(f"cannot use samples {path}: {len(x)} samples, {len(y)} labels")
    return Samples(x, y, digest, str(path))


def random_inputs(specs: Sequence[TensorSpec], seed: int) -> list[NDArray[Any]]:
    """Return seeded random input tensors: floats within 0..1, quantized ones their whole range.

    Integers without a scale are 0 or 1: they may be indices into a table.
    """
    draw = np.random.default_rng(seed)
    return [_random(spec, draw) for spec in specs]


def _random(spec: TensorSpec, draw: np.random.Generator) -> NDArray[Any]:
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return draw.random(spec.shape).astype(dtype)
    low, high = 0, 1
    if spec.quantization is not None:
        limits = np.iinfo(dtype)
        low, high = int(limits.min), int(limits.max)
    return draw.integers(low, high, spec.shape, np.int64, endpoint=True).astype(dtype)


def _arrays(path: Path, keys: tuple[str, ...]) -> tuple[dict[str, NDArray[Any]], str, str]:
    """Return those arrays of a file that it has, the names of all, and the file's SHA-256."""
    try:
        content = path.read_bytes()
        if not zipfile.is_zipfile(io.BytesIO(content)):
            raise ValueError("it is no .npz file; write it with numpy.savez(path, x=..., y=...)")
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            names = ", ".join(map(repr, archive.files)) or "nothing"
            found = {key: np.asarray(archive[key]) for key in keys if key in archive.files}
    except _UNREADABLE as error:
        words = " ".join(str(error).split()) or type(error).__name__
        if "allow_pickle" in words:
            words = "it holds pickled Python objects; save plain numeric arrays"
        raise BuildError(f"cannot read samples {path}: {words}") from error
    return found, names, hashlib.sha256(content).hexdigest()


def _samples(x: NDArray[Any], what: str) -> NDArray[Any]:
    if x.dtype.kind not in "biuf":
        raise BuildError(f"cannot use {what}: dtype {x.dtype}, want numbers")
    if x.ndim == 0 or x.size == 0:
        raise BuildError(f"cannot use {what}: shape {list(x.shape)}, want [n, ...] with n >= 1")
    if len(x) > MAX_SAMPLES:
        raise BuildError(f"cannot use {what}: {len(x)} samples, at most {MAX_SAMPLES}")
    if x.dtype.kind == "f":
        _check_finite(x, what)
    x = _narrowed(x, what)
    return np.ascontiguousarray(x.astype(x.dtype.newbyteorder("="), copy=False))


def _check_finite(x: NDArray[Any], what: str) -> None:
    whole = np.isfinite(x).reshape(len(x), -1).all(axis=1)
    broken = np.flatnonzero(~whole)
    if broken.size:
        raise BuildError(
            f"cannot use {what}: NaN or infinity in {broken.size} of {len(x)} samples, "
            f"the first is sample {broken[0]}"
        )


def _narrowed(x: NDArray[Any], what: str) -> NDArray[Any]:
    name = x.dtype.name
    if name in _NARROWER:
        with np.errstate(over="ignore"):  # infinity is what we look for
            narrow = x.astype(_NARROWER[name])
        if x.dtype.kind == "f":
            _check_finite(narrow, f"{what} as float32")
        return narrow
    if not _is_dtype(name):
        raise BuildError(f"cannot use {what}: dtype {name}; convert it to float32 or an integer")
    return x


def _classes(y: NDArray[Any], what: str) -> NDArray[np.int64]:
    if y.dtype.kind not in "biuf" or y.size == 0:
        raise BuildError(
            f"cannot use labels {what}: shape {list(y.shape)} of {y.dtype}, want [n] class numbers"
        )
    if y.ndim == 2 and y.shape[1] > 1:  # noqa: PLR2004 - [n, classes]
        return _from_one_hot(y, what)
    flat = y.reshape(len(y), -1) if y.ndim else y.reshape(1, 1)
    if flat.shape[1] != 1:
        raise BuildError(f"cannot use labels {what}: shape {list(y.shape)}, want [n]")
    values = flat[:, 0]
    wrong = np.flatnonzero(~(np.isfinite(values) & (values == np.rint(values)) & (values >= 0)))
    if wrong.size:
        raise BuildError(
            f"cannot use labels {what}: {values[wrong[0]]} at sample {wrong[0]}, "
            "want class numbers from 0 up"
        )
    return values.astype(np.int64)


def _from_one_hot(y: NDArray[Any], what: str) -> NDArray[np.int64]:
    ones = (y == 1).sum(axis=1)
    wrong = np.flatnonzero((ones != 1) | ((y == 0).sum(axis=1) != y.shape[1] - 1))
    if wrong.size:
        raise BuildError(
            f"cannot use labels {what}: shape {list(y.shape)}, and sample {wrong[0]} is not one-hot"
        )
    classes: NDArray[np.int64] = y.argmax(axis=1)
    return classes


def _is_dtype(name: str) -> TypeGuard[DType]:
    return name in _DTYPES
