import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.errors import BuildError
from controller.samples import random_inputs, read_samples
from protocols.bundle import Quantization, TensorSpec
from tests.controller.classifiers import save

X = np.zeros((4, 2, 3), np.float32)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0, 1, 2, 1]),
        np.array([0, 1, 2, 1], np.uint8),
        np.array([[0.0], [1.0], [2.0], [1.0]]),
        np.eye(3)[[0, 1, 2, 1]],
        np.eye(3, dtype=bool)[[0, 1, 2, 1]],
    ],
)
def test_labels_in_any_form(tmp_path: Path, labels: Any) -> None:  # noqa: ANN401 - any array
    samples = read_samples(save(tmp_path / "s.npz", x=X, y=labels))
    assert samples.y is not None
    assert samples.y.tolist() == [0, 1, 2, 1]
    assert samples.y.dtype == np.int64


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("float64", "float32"),
        ("float32", "float32"),
        ("float16", "float16"),
        (">f4", "float32"),
        ("uint8", "uint8"),
        ("uint16", "int32"),
        ("bool", "bool"),
    ],
)
def test_dtypes(tmp_path: Path, given: str, kept: str) -> None:
    samples = read_samples(save(tmp_path / "s.npz", x=X.astype(given)))
    assert samples.dtype == kept
    assert samples.y is None


def broken(n: int = 4, value: float = np.nan) -> Any:  # noqa: ANN401 - any array
    x = np.zeros((n, 2))
    x[2, 1] = value
    return x


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": broken()}, r"NaN or infinity in 1 of 4 samples, the first is sample 2"),
        ({"x": broken(value=np.inf)}, "NaN or infinity"),
        ({"x": broken(value=1e300)}, "as float32: NaN or infinity"),
        ({"x": X, "y": np.zeros(3)}, "4 samples, 3 labels"),
        ({"x": X, "y": np.array([0, 1.5, 0, 0])}, r"1\.5 at sample 1"),
        ({"x": X, "y": np.array([0, -1, 0, 0])}, "-1 at sample 1"),
        ({"x": X, "y": np.array([0, np.nan, 0, 0])}, "nan at sample 1"),
        ({"x": X, "y": np.ones((4, 3))}, "sample 0 is not one-hot"),
        ({"x": X, "y": np.array(list("abcd"))}, "dtype|shape"),
        ({"x": X, "y": np.zeros((0,))}, "shape"),
        ({"x": np.zeros((0, 2))}, "n >= 1"),
        ({"x": np.float32(1)}, "n >= 1"),
        ({"x": np.array(["a"])}, "want numbers"),
        ({"x": np.zeros((2, 2), np.complex64)}, "want numbers"),
        ({"images": X}, r"no array 'x', it holds 'images'; name it with --x-key"),
        ({"x": np.array([{}, None], object)}, "pickled Python objects"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(BuildError, match=words):
        read_samples(save(tmp_path / "s.npz", **arrays))


@pytest.mark.parametrize("content", [b"", b"PK", b"junk" * 100, pickle.dumps([1])])
def test_files_that_are_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.npz"
    path.write_bytes(content)
    with pytest.raises(BuildError, match=r"cannot read samples .*it is no \.npz file"):
        read_samples(path)
    with pytest.raises(BuildError, match="No such file"):
        read_samples(tmp_path / "none.npz")


def test_a_damaged_archive(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, x=np.random.default_rng(0).random((100, 8)))
    content = bytearray(file.getvalue())
    content[len(content) // 2] ^= 0xFF
    path = tmp_path / "s.npz"
    path.write_bytes(content)
    with pytest.raises(BuildError, match="cannot read samples"):
        read_samples(path)


def test_keys(tmp_path: Path) -> None:
    path = save(tmp_path / "s.npz", images=X, classes=np.arange(4))
    samples = read_samples(path, "images", "classes")
    assert samples.y is not None
    assert samples.y.tolist() == [0, 1, 2, 3]
    with pytest.raises(BuildError, match=r"no array 'labels'.*--y-key"):
        read_samples(path, "images", "labels")


def test_labels_out_of_range(tmp_path: Path) -> None:
    samples = read_samples(save(tmp_path / "s.npz", x=X, y=np.array([1, 2, 3, 1])))
    samples.check_classes(4)
    with pytest.raises(BuildError, match=r"3 classes, label 3 at sample 2; are they 1-based\?"):
        samples.check_classes(3)


def test_random_inputs_fill_their_range() -> None:
    quantized = TensorSpec(
        name="q", shape=(1, 1000), dtype="int8", quantization=Quantization(scale=0.1, zero_point=3)
    )
    real = TensorSpec(name="r", shape=(1, 1000), dtype="float32")
    index = TensorSpec(name="i", shape=(1, 1000), dtype="int32")
    q, r, i = random_inputs([quantized, real, index], 0)
    assert q.dtype == np.int8
    assert (q.min(), q.max()) == (-128, 127)
    assert r.dtype == np.float32
    assert 0 <= r.min() < r.max() <= 1
    assert set(i.ravel().tolist()) == {0, 1}
    assert np.array_equal(random_inputs([quantized], 5)[0], random_inputs([quantized], 5)[0])
