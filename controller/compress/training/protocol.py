"""What a person's Python module gives to the toolkit: a trained network and its data.

A module is any `.py` file or importable module with these functions:

    def model() -> torch.nn.Module: ...               # with its trained weights
    def train_loader() -> Iterable[(x, y)]: ...       # batches, anew each time it is iterated
    def validation_loader() -> Iterable[(x, y)]: ...  # the accuracy of each step is measured on it

and, if it likes, these:

    def test_loader() -> Iterable[(x, y)]: ...        # for the last figures; else validation
    def calibration_loader() -> Iterable[(x, y)]: ... # for a cascade's gate; else validation
    def loss(outputs, y) -> torch.Tensor: ...         # else cross entropy
    def example_input() -> torch.Tensor: ...          # else the first training sample
    def first_stage() -> torch.nn.Module: ...         # a small network of its own for `distill`

`x` is a float32 tensor [n, ...], `y` an int64 tensor [n] of classes from 0 up; the network maps x
to logits [n, classes]. The `.tflite` file takes what the network takes, with n = 1: a network that
wants channels first but should be fed images [height, width, channels] permutes them itself.
"""

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

from controller.compress.errors import CompressError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import torch

    Batch = tuple[torch.Tensor, torch.Tensor]
    Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

NEEDED = ("model", "train_loader", "validation_loader")
OPTIONAL = ("test_loader", "calibration_loader", "loss", "example_input", "first_stage")
PACKAGES = ("torch", "torch_pruning", "litert_torch", "ai_edge_quantizer")
_OUTPUT_RANK = 2


class TrainingModule(Protocol):
    """The part of a module that must be there; see above for what may be."""

    def model(self) -> "torch.nn.Module":
        """Return the network with its trained weights."""
        ...

    def train_loader(self) -> "Iterable[Batch]":
        """Return batches to train on: x float32 [n, ...], y int64 [n]."""
        ...

    def validation_loader(self) -> "Iterable[Batch]":
        """Return batches to measure on, never trained on; as `train_loader`."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """A module that was loaded and looked at.

    Attributes:
        name: of the module, for files and messages.
        network: the trained network, in evaluation mode; nobody changes it.
        train: batches to train on; as the others it can be gone through again and again.
        validation: batches that each step is measured on.
        calibration: batches for the gate of a cascade.
        test: batches for the figures at the end.
        loss: of logits [n, classes] and classes [n].
        example: one sample with its batch axis, float32.
        classes: how many the network tells apart.
        first_stage: makes a small untrained network; None: the module has none.
    """

    name: str
    network: "torch.nn.Module"
    train: "Iterable[Batch]"
    validation: "Iterable[Batch]"
    calibration: "Iterable[Batch]"
    test: "Iterable[Batch]"
    loss: "Loss"
    example: "torch.Tensor"
    classes: int
    first_stage: "Callable[[], torch.nn.Module] | None"


def load_task(where: str) -> Task:
    """Import a module and check what it gives.

    Args:
        where: path of a `.py` file, or a module's dotted name.

    Raises:
        CompressError: a package of the extra `train` is missing; the module cannot be imported,
            lacks a function, or gives something that cannot be used.
    """
    check_packages()
    module = _import(where)
    missing = [name for name in NEEDED if not callable(getattr(module, name, None))]
    if missing:
        raise CompressError(
            f"cannot use {where}: it has no function {', '.join(missing)}; it needs "
            f"{', '.join(NEEDED)}, and may have {', '.join(OPTIONAL)}"
        )
    return _checked(module, where)


def check_packages() -> None:
    """Check that the extra `train` is installed.

    Raises:
        CompressError: it is not.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise CompressError(
            f"cannot train: {', '.join(missing)} not installed; in a clone of "
            "the project: pip install '.[train]' (about 2 GB)"
        )


def _import(where: str) -> ModuleType:
    path = Path(where)
    is_path = path.suffix == ".py" or path.exists()
    if is_path and not path.is_file():
        raise CompressError(f"cannot use {where}: there is no such file")
    try:
        return _import_file(path) if is_path else importlib.import_module(where)
    except ModuleNotFoundError as error:
        hint = "; give the path of a .py file, or a module's name" if error.name == where else ""
        raise CompressError(f"cannot import {where}: no module {error.name!r}{hint}") from error
    except Exception as error:  # a person's module fails in its own ways
        raise CompressError(f"cannot import {where}: {_words(error)}") from error


def _import_file(path: Path) -> ModuleType:
    """Run a file as a module that, like a script, can import what lies beside it."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise CompressError(f"cannot import {path}: it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses and pickles look their module up by name
    spec.loader.exec_module(module)
    return module


def _checked(module: ModuleType, where: str) -> Task:
    import torch  # noqa: PLC0415

    network = _call(module, "model", where)
    if not isinstance(network, torch.nn.Module):
        raise CompressError(
            f"cannot use {where}: model() gave {type(network).__name__}, want torch.nn.Module"
        )
    network = network.cpu().eval()
    train, validation = _loader(module, "train_loader", where), _loader(module, NEEDED[2], where)
    x, y = _first(train, "train_loader", where)
    _first(validation, "validation_loader", where)
    example = _call(module, "example_input", where) if hasattr(module, "example_input") else x[:1]
    classes = _classes(network, example, where)
    _check_labels(y, classes, where)
    return Task(
        name=module.__name__.rpartition(".")[2],
        network=network,
        train=train,
        validation=validation,
        calibration=_optional(module, "calibration_loader", where, validation),
        test=_optional(module, "test_loader", where, validation),
        loss=getattr(module, "loss", torch.nn.functional.cross_entropy),
        example=example,
        classes=classes,
        first_stage=getattr(module, "first_stage", None),
    )


def _call(module: ModuleType, name: str, where: str) -> Any:  # noqa: ANN401 - a person's function
    try:
        return getattr(module, name)()
    except Exception as error:  # a person's function fails in its own ways
        raise CompressError(f"cannot use {where}: {name}() failed: {_words(error)}") from error


def _loader(module: ModuleType, name: str, where: str) -> "Iterable[Batch]":
    loader = _call(module, name, where)
    if not hasattr(loader, "__iter__"):
        raise CompressError(
            f"cannot use {where}: {name}() gave {type(loader).__name__}, no batches"
        )
    if hasattr(loader, "__next__"):
        raise CompressError(
            f"cannot use {where}: {name}() gave an iterator, which is empty after one pass; "
            "return a DataLoader, a list or a class with __iter__"
        )
    return cast("Iterable[Batch]", loader)


def _optional(
    module: ModuleType, name: str, where: str, default: "Iterable[Batch]"
) -> "Iterable[Batch]":
    if not hasattr(module, name):
        return default
    loader = _loader(module, name, where)
    _first(loader, name, where)
    return loader


def _first(loader: "Iterable[Batch]", name: str, where: str) -> "Batch":
    import torch  # noqa: PLC0415

    try:
        x, y = next(iter(loader))
    except StopIteration:
        raise CompressError(f"cannot use {where}: {name}() gave no batch") from None
    except Exception as error:  # a person's loader fails in its own ways
        raise CompressError(
            f"cannot use {where}: {name}() gave no batch (x, y): {_words(error)}"
        ) from error
    tensors = isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor)
    if not tensors or x.dtype != torch.float32 or y.ndim != 1 or len(x) != len(y):
        raise CompressError(
            f"cannot use {where}: {name}() gave {_describe(x)} and {_describe(y)}; want x float32 "
            "[n, ...] and y int64 [n]"
        )
    if not torch.isfinite(x).all():
        raise CompressError(f"cannot use {where}: {name}() gave NaN or infinity in its first batch")
    return x, y.long()


def _classes(network: "torch.nn.Module", example: "torch.Tensor", where: str) -> int:
    import torch  # noqa: PLC0415

    try:
        with torch.no_grad():
            outputs = network(example)
    except Exception as error:  # a person's network fails in its own ways
        raise CompressError(
            f"cannot use {where}: the network does not take {_describe(example)}: {_words(error)}"
        ) from error
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != _OUTPUT_RANK:
        raise CompressError(
            f"cannot use {where}: the network gave {_describe(outputs)}, want logits [n, classes]"
        )
    return int(outputs.shape[1])


def _check_labels(y: "torch.Tensor", classes: int, where: str) -> None:
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise CompressError(
            f"cannot use {where}: classes {low} to {high} in the first batch, the network tells "
            f"{classes} apart (0 to {classes - 1})"
        )


def _describe(value: object) -> str:
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return type(value).__name__ if shape is None else f"{dtype} {list(shape)}"


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
