"""Files that we made, run one after the other in this process, as a cascade hands tensors on."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from controller.compress.training.hush import hushed
from protocols.bundle import TensorSpec
from protocols.inference.tensors import conform, hand_on, real

if TYPE_CHECKING:
    from protocols.inference.runtime import Model


def ends(content: bytes) -> tuple[TensorSpec, TensorSpec]:
    """Return the first input and the first output of a file."""
    with _opened(content) as model:
        return model.inputs[0], model.outputs[0]


def relay(files: Sequence[bytes], x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the real values that the last of some files gives, [n, *shape without batch].

    Args:
        files: each reads what the one before gives, the first one samples.
        x: samples, [n, ...].
    """
    with contextlib.ExitStack() as stack:
        models = [stack.enter_context(_opened(content)) for content in files]
        return np.concatenate([_answer(models, sample) for sample in x])


def _answer(models: "Sequence[Model]", sample: NDArray[np.float32]) -> NDArray[np.float32]:
    values: NDArray[Any] = conform(sample, models[0].inputs[0])
    for number, model in enumerate(models):
        if number:
            values = hand_on(values, models[number - 1].outputs[0], model.inputs[0])
        values = model.run([values])[0]
    return real(values, models[-1].outputs[0])


@contextlib.contextmanager
def _opened(content: bytes) -> "Iterator[Model]":
    from protocols.inference.runtime import open_model  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="sluice-relay-") as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(content)
        with hushed():
            model = open_model(path)
        try:
            yield model
        finally:
            model.close()
