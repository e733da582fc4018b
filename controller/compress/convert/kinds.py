"""What a file or folder is, by its content; and which packages it takes to convert it."""

import importlib.util
import zipfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from controller.compress.errors import CompressError


class Kind(StrEnum):
    """A form in which models come."""

    TORCH = "torch"
    ONNX = "onnx"
    KERAS = "keras"
    SAVED_MODEL = "saved-model"


@dataclass(frozen=True, slots=True)
class Needs:
    """What converting a kind of source takes.

    Attributes:
        title: the kind in words, with its article.
        extra: of this project, that installs it.
        packages: what is imported, and what it is called where it is installed from.
    """

    title: str
    extra: str
    packages: dict[str, str]


_TORCH = {"torch": "torch", "litert_torch": "litert-torch"}
_TENSORFLOW = {"tensorflow": "tensorflow"}
NEEDS = {
    Kind.TORCH: Needs("a PyTorch exported program", "convert-torch", _TORCH),
    Kind.ONNX: Needs(
        "an ONNX model",
        "convert-onnx",
        {"onnx": "onnx", "onnxruntime": "onnxruntime", **_TORCH},
    ),
    Kind.KERAS: Needs("a Keras model", "convert-keras", _TENSORFLOW),
    Kind.SAVED_MODEL: Needs("a TensorFlow SavedModel", "convert-keras", _TENSORFLOW),
}

_HEAD_BYTES = 8
_TFLITE = b"TFL3"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ONNX_FIELDS = (b"\x08", b"\x12", b"\x1a", b"\x3a", b"\x42")
"""Tags of the fields of an ONNX ModelProto that writers put first: ir_version, producer, graph,
opset; a protobuf has no magic number of its own."""
_GRAPH = "saved_model.pb"
_SUFFIXES = frozenset({".pt2", ".onnx", ".keras", ".h5"})
_WANTED = (
    "a PyTorch exported program (.pt2), ONNX (.onnx), Keras (.keras, .h5) or a SavedModel folder"
)
_EXPORT = 'torch.export.save(torch.export.export(model.eval(), (x,)), "model.pt2")'


def recognise(path: Path) -> Kind:
    """Return what a source is. Its content counts; the name only where content cannot tell.

    Raises:
        CompressError: there is nothing, or nothing that can be converted; the reason says what it
            is, as far as can be seen, and what to do.
    """
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise CompressError(f"cannot convert {path}: there is no such file or folder")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise CompressError(f"cannot convert {path}: {error.strerror}") from error
    if head[4:8] == _TFLITE:
        raise CompressError(f"cannot convert {path}: it is a .tflite file already")
    if head == _HDF5:
        return Kind.KERAS
    if zipfile.is_zipfile(path):
        return _archive(path)
    if path.suffix == ".onnx" and head.startswith(_ONNX_FIELDS):
        return Kind.ONNX
    raise CompressError(f"cannot convert {path}: {_other(path, head)}; want {_WANTED}")


def check_installed(kind: Kind, name: str) -> None:
    """Check that what converts a kind of source is there.

    Raises:
        CompressError: it is not.
    """
    needs = NEEDS[kind]
    missing = [
        distribution
        for package, distribution in needs.packages.items()
        if importlib.util.find_spec(package) is None
    ]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise CompressError(
            f"cannot convert {name}: it is {needs.title}, and {', '.join(missing)} {verb} not "
            f"installed; pip install '.[{needs.extra}]'"
        )


def _folder(path: Path) -> Kind:
    if (path / _GRAPH).is_file():
        return Kind.SAVED_MODEL
    raise CompressError(f"cannot convert {path}: a folder without {_GRAPH} is no SavedModel")


def _archive(path: Path) -> Kind:
    """Tell apart what is stored as a zip: exported programs, Keras models, and pickles of torch."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise CompressError(f"cannot convert {path}: it is damaged ({error})") from error
    inner = {name.partition("/")[2] for name in names}
    if any(name.endswith("models/model.json") for name in names) or (
        {"serialized_exported_program.json"} & {*names, *inner}
    ):
        return Kind.TORCH
    if {"config.json", "metadata.json"} <= set(names):
        return Kind.KERAS
    if "data.pkl" in inner and "constants.pkl" in inner:
        why = f"it is a TorchScript program; export the model anew: {_EXPORT}"
    elif "data.pkl" in inner:
        why = f"it is a pickle of torch (weights, no program); load it in Python, then {_EXPORT}"
    elif path.suffix == ".npz" or any(name.endswith(".npy") for name in names):
        why = f"it is an .npz of arrays; want {_WANTED}"
    else:
        why = f"it is a zip of something else; want {_WANTED}"
    raise CompressError(f"cannot convert {path}: {why}")


def _other(path: Path, head: bytes) -> str:
    if not head:
        return "it is empty"
    if path.name == _GRAPH:
        return "give the folder that it lies in"
    if path.suffix in {".pt", ".pth", ".pkl"} or head.startswith(b"\x80"):
        return f"it is a pickle, no program; load it in Python, then {_EXPORT}"
    if path.suffix in _SUFFIXES:
        return f"it is damaged, or no {path.suffix} file"
    return "it is none that is known here"
