"""A user's own measure of quality: a Python function that is named on the command line."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.compress.errors import CompressError

Metric = Callable[[NDArray[np.float32], NDArray[np.int64]], float]
"""Takes scores, [n, classes] float32, as the model gives them and dequantized, and labels, [n]."""


def load_metric(words: str) -> Metric:
    """Import a function.

    Args:
        words: `module:function`, found on Python's path or in the working folder, or
            `file.py:function`.

    Returns:
        The function, wrapped so that whatever it raises or returns instead of a number becomes a
        CompressError.

    Raises:
        CompressError: there is no such module or function.
    """
    where, _, name = words.rpartition(":")
    if not where or not name:
        raise CompressError(f"cannot use metric {words!r}: write module:function")
    try:
        module = _load(where)
    except Exception as error:  # a user's module may fail in any way
        raise CompressError(
            f"cannot use metric {words}: {type(error).__name__}: {error}"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise CompressError(f"cannot use metric {words}: {where} has no function {name!r}")
    return _guarded(function, words)


def _load(where: str) -> ModuleType:
    if not where.endswith(".py"):
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)
        return importlib.import_module(where)
    path = Path(where)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{where} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _guarded(function: Callable[..., Any], words: str) -> Metric:
    def metric(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
        try:
            return float(function(scores.copy(), labels.copy()))
        except Exception as error:
            raise CompressError(
                f"cannot use metric {words}: {type(error).__name__}: {error}"
            ) from error

    return metric
