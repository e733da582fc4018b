import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from controller.compress.convert.kinds import NEEDS, Kind, check_installed, recognise
from controller.compress.errors import CompressError
from tests.controller import classifiers
from tests.models import classifier


def archive(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name in names:
            made.writestr(name, "{}")
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_sources_are_known_by_their_content(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"\x08\x01")

    assert recognise(folder) is Kind.SAVED_MODEL
    assert recognise(archive(tmp_path / "a.zip", "m/models/model.json")) is Kind.TORCH
    assert recognise(archive(tmp_path / "b.pt2", "serialized_exported_program.json")) is Kind.TORCH
    keras = archive(tmp_path / "c", "config.json", "metadata.json", "model.weights.h5")
    assert recognise(keras) is Kind.KERAS
    assert recognise(written(tmp_path / "d.h5", b"\x89HDF\r\n\x1a\n rest")) is Kind.KERAS
    assert recognise(written(tmp_path / "e.onnx", b"\x08\x09\x12\x07pytorch")) is Kind.ONNX


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.tflite", classifier(classifiers.layers()), "it is a .tflite file already"),
        ("a.onnx", b"", "it is empty"),
        ("a.onnx", b"hello", "it is damaged, or no .onnx file"),
        ("a.pt2", b"PK\x03\x04", "it is damaged, or no .pt2 file"),
        ("a.pth", b"\x80\x02}q", "it is a pickle, no program"),
        ("saved_model.pb", b"\x08\x01", "give the folder that it lies in"),
        ("a.txt", b"hello", "it is none that is known here; want a PyTorch exported program"),
    ],
)
def test_other_files_are_refused_with_what_they_are(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    path = written(tmp_path / name, content)

    with pytest.raises(CompressError, match=f"^cannot convert .*{name}: {reason}"):
        recognise(path)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("m/data.pkl", "m/data/0"), "weights, no program"),
        (("m/data.pkl", "m/constants.pkl", "m/code/x.py"), "TorchScript"),
        (("x.npy",), "it is an .npz of arrays"),
        (("word/document.xml",), "a zip of something else"),
    ],
)
def test_other_archives_are_refused(tmp_path: Path, names: tuple[str, ...], reason: str) -> None:
    with pytest.raises(CompressError, match=reason):
        recognise(archive(tmp_path / "model.pt", *names))


def test_nothing_and_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="there is no such file or folder"):
        recognise(tmp_path / "none.onnx")
    with pytest.raises(CompressError, match=r"a folder without saved_model\.pb"):
        recognise(tmp_path)


@pytest.mark.parametrize("kind", Kind)
def test_a_missing_extra_is_named(kind: Kind) -> None:
    needs = NEEDS[kind]
    if all(find_spec(package) is not None for package in needs.packages):
        check_installed(kind, "model")
        return
    with pytest.raises(CompressError) as raised:
        check_installed(kind, "model")
    assert str(raised.value).startswith(f"cannot convert model: it is {needs.title}, and ")
    assert str(raised.value).endswith(f"not installed; pip install '.[{needs.extra}]'")
