"""One interface to the TFLite interpreters, and the choice of the one that is installed."""

import functools
import importlib
import importlib.util
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from numpy.typing import NDArray

from protocols.bundle import TensorSpec
from protocols.errors import SluiceError

_RUNTIMES = (
    ("ai_edge_litert", "ai-edge-litert", "protocols.inference.litert"),
    ("tflite_runtime", "tflite-runtime", "protocols.inference.tflite"),
)
"""Import package, distribution, and the module here that speaks to it; the best one first."""


class ModelError(SluiceError):
    """A model cannot be opened or run. `why` is the text without its beginning."""

    def __init__(self, name: str, why: str, doing: str = "load") -> None:
        super().__init__(f"cannot {doing} {name}: {why}")
        self.why = why


class Model(Protocol):
    """A sub-model in memory, ready to answer. Not thread-safe: one thread owns it."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The input tensors, in the interpreter's order, as they are after allocation."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The output tensors, in the interpreter's order."""
        ...

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Answer once.

        Args:
            inputs: one array for every input tensor, in its dtype and whole shape.

        Returns:
            A copy of every output tensor, in its dtype and whole shape.

        Raises:
            ModelError: the arrays do not fit, or the interpreter gave up.
        """
        ...

    def close(self) -> None:
        """Let go of the interpreter; its memory returns to the allocator."""
        ...


def open_model(path: Path, threads: int = 1, sample_shape: tuple[int, ...] | None = None) -> Model:
    """Load a `.tflite` file and allocate its tensors.

    A pool of `threads` threads is made by the calling thread and inherits its CPU mask and nice.

    Args:
        path: the file.
        threads: intra-op threads, at least 1.
        sample_shape: the shape of one sample without its batch axis, for models whose own shape
            leaves dimensions open, or has a fixed batch of several samples: it is resized to one.
            Needed only there; an open batch axis becomes 1 by itself.

    Raises:
        ModelError: no interpreter is installed, or this one refuses the file.
    """
    try:
        module = load_runtime()
    except ImportError as error:
        raise ModelError(path.name, str(error)) from error
    model: Model = module.open_model(path, threads, sample_shape)
    return model


@functools.cache
def load_runtime() -> ModuleType:
    """Import the interpreter that `open_model` takes; 20 ms and some MiB, the first time.

    Raises:
        ImportError: none is installed, or none works here.
    """
    faults = []
    for _package, distribution, module in _RUNTIMES:
        try:
            return importlib.import_module(module)
        except ImportError as error:
            faults.append(f"{distribution}: {error}")
    raise ImportError(f"no interpreter is installed ({'; '.join(faults)})")


def runtime_name() -> str | None:
    """Name the interpreter that `open_model` would take, without importing it; None: none."""
    for package, distribution, _module in _RUNTIMES:
        if importlib.util.find_spec(package) is None:
            continue
        try:
            return f"{distribution} {metadata.version(distribution)}"
        except metadata.PackageNotFoundError:  # packaged by a system that keeps no metadata
            return distribution
    return None
