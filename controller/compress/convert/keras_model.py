"""Keras models (`.keras`, `.h5`). Imported in the child alone."""

import re
from pathlib import Path
from typing import Any

import tensorflow as tf

from controller.compress.convert import tensorflow_file
from controller.compress.convert.source import Arrays, Port, Written, port
from controller.compress.errors import CompressError

_OWN_CLASS = re.compile(r"(?:Could not locate (?:class|function)|Unknown layer:?) '?(\w+)")


class KerasModel:
    """A Keras model, as `convert.source.Source`.

    Raises:
        CompressError: it cannot be loaded without its Python code, or leaves axes open.
    """

    tools = tensorflow_file.TOOLS

    def __init__(self, path: Path, name: str, shape: tuple[int, ...] | None) -> None:
        self._name, self._model = name, _load(path, name)
        taken = tf.nest.flatten(self._model.inputs)
        self.inputs: tuple[Port, ...] = tuple(
            port(each.name, list(each.shape), str(each.dtype), shape, name) for each in taken
        )

    def run(self, arrays: Arrays) -> Arrays:
        """Answer one row of every input."""
        answers = self._answer(*map(tf.constant, arrays))
        return [each.numpy() for each in answers.values()]

    def write(self, path: Path, *, channels_last: bool) -> Written:  # noqa: ARG002 - it is so
        """Write it as a `.tflite` file."""
        # Of Keras 3's own variables the converter stores none, and says nothing.
        owner = tf.Module()
        owner.variables_of_model = [each.value for each in self._model.variables]
        return tensorflow_file.write(self._answer, owner, self.inputs, path, self._name)

    def _answer(self, *taken: Any) -> dict[str, Any]:  # noqa: ANN401 - tensorflow has no types
        packed = tf.nest.pack_sequence_as(self._model.inputs, list(taken))
        alone = isinstance(packed, list) and len(packed) == 1
        found = self._model(packed[0] if alone else packed, training=False)
        leaves = tf.nest.flatten(found)
        names = list(getattr(self._model, "output_names", ()))
        if isinstance(found, dict) or len({*names}) != len(leaves):
            names = [f"output_{number}" for number in range(len(leaves))]
        return dict(zip(names, leaves, strict=True))


def _load(path: Path, name: str) -> Any:  # noqa: ANN401
    try:
        model = tf.keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise CompressError(f"cannot convert {name}: {_why(error)}") from error
    if not getattr(model, "inputs", None):
        raise CompressError(
            f"cannot convert {name}: the model has never been built; call it once before it is "
            "saved, or save it with model.export(folder)"
        )
    return model


def _why(error: Exception) -> str:
    """Say what keeps a model from being loaded, and what to do."""
    text = " ".join(str(error).split())
    if "No model config found" in text:
        return "it holds weights alone; load them into the model, then model.save('model.keras')"
    if "Lambda" in text or "unsafe" in text:
        return (
            "it has a Lambda layer: Python code, which is not run from a file; "
            "save it with model.export(folder) and convert that"
        )
    own = _OWN_CLASS.search(text)
    if own is not None:
        return (
            f"it has a class of its own, {own[1]}, whose Python code is not in the file; save it "
            "with model.export(folder) and convert that"
        )
    return f"{type(error).__name__}: {text[:200]}"
