"""TensorFlow SavedModel folders. Imported in the child alone."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from controller.compress.convert import tensorflow_file
from controller.compress.convert.source import Arrays, Written, port
from controller.compress.errors import CompressError

_DEFAULT = "serving_default"


class SavedModel:
    """One signature of a SavedModel, as `convert.source.Source`.

    Raises:
        CompressError: it has no such signature, or leaves axes open.
    """

    tools = tensorflow_file.TOOLS

    def __init__(
        self, path: Path, name: str, shape: tuple[int, ...] | None, signature: str | None
    ) -> None:
        self._name = name
        self._loaded = tf.saved_model.load(str(path))
        self._function = _signature(dict(self._loaded.signatures), signature, name)
        _, taken = self._function.structured_input_signature
        self.inputs = tuple(
            port(key, spec.shape.as_list(), spec.dtype.name, shape, name)
            if spec.shape.rank is not None
            else port(key, [None, None], spec.dtype.name, shape, name)
            for key, spec in taken.items()
        )

    def run(self, arrays: Arrays) -> Arrays:
        """Answer one row of every input."""
        return [each.numpy() for each in self._answer(*map(tf.constant, arrays)).values()]

    def write(self, path: Path, *, channels_last: bool) -> Written:  # noqa: ARG002 - left as it is
        """Write it as a `.tflite` file."""
        return tensorflow_file.write(self._answer, self._loaded, self.inputs, path, self._name)

    def _answer(self, *taken: Any) -> dict[str, Any]:  # noqa: ANN401 - tensorflow has no types
        names = [each.name for each in self.inputs]
        return dict(sorted(self._function(**dict(zip(names, taken, strict=True))).items()))


def _signature(found: dict[str, Any], wanted: str | None, name: str) -> Any:  # noqa: ANN401
    if wanted is None and _DEFAULT in found:
        return found[_DEFAULT]
    if wanted is None and len(found) == 1:
        return next(iter(found.values()))
    if wanted in found:
        return found[wanted]
    listed = ", ".join(sorted(found)) or "none; save it with model.export(folder)"
    what = "several signatures" if wanted is None else f"no signature {wanted!r}"
    raise CompressError(f"cannot convert {name}: it has {what}; it has: {listed} (--signature)")
