"""The second choice: `tflite-runtime`, for armv7l and Termux."""

from pathlib import Path

import numpy as np
import tflite_runtime
from tflite_runtime.interpreter import Interpreter

from protocols.inference.interpreter import InterpretedModel, open_with
from protocols.inference.runtime import ModelError

_FIRST_WITH_NUMPY_2 = (2, 18)


def open_model(path: Path, threads: int, sample_shape: tuple[int, ...] | None) -> InterpretedModel:
    """Open a model with tflite-runtime; see `runtime.open_model`.

    Raises:
        ModelError: also where numpy is too new for it, which its metadata does not say.
    """
    version = str(getattr(tflite_runtime, "__version__", "2.14.0"))
    if _numbers(np.__version__)[0] > 1 and _numbers(version) < _FIRST_WITH_NUMPY_2:
        raise ModelError(
            path.name,
            f"tflite-runtime {version} needs numpy below 2, {np.__version__} is installed; "
            "pip install 'numpy<2'",
        )
    return open_with(Interpreter, path, threads, sample_shape)


def _numbers(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
