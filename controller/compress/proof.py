"""The last look at a model that was made: that it runs, and how far its scores have moved."""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from controller.compress.scorer import Scorer
from controller.inspect import inspect_model
from controller.samples import Samples, random_inputs
from protocols.bundle import TensorSpec

_INPUTS = 32


def prove(
    before: bytes, after: bytes, name: str, samples: Samples | None = None, scores: int = 0
) -> float | None:
    """Open a model in a child process, run it, and compare its scores with the original's.

    Args:
        before: the original's file.
        after: the model's.
        name: for messages.
        samples: what both are run on, 32 of them at most; None: seeded random input.
        scores: number of the output that is compared.

    Returns:
        Root mean square of the scores' change over that of the original's scores; None: it takes
        several inputs, or several samples at a time, so that no rows can be compared.

    Raises:
        TrialError: the interpreter refuses it or dies of it.
        CompressError: it does not run on the samples.
    """
    with tempfile.TemporaryDirectory(prefix="sluice-proof-") as folder:
        path = Path(folder) / f"{name}.tflite"
        path.write_bytes(after)
        shape = None if samples is None else samples.x.shape[1:]
        inputs = inspect_model(path, shape).inputs
    if len(inputs) > 1 or inputs[0].shape[:1] != (1,):
        return None
    with Scorer(_few(samples, inputs[0]), scores) as scorer:
        return change(scorer.rows(before, name), scorer.rows(after, name))


def change(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Return the root mean square of the scores' change over that of the original's scores."""
    whole = float(np.square(before, dtype=np.float64).sum())
    moved = float(np.square(np.subtract(after, before, dtype=np.float64)).sum())
    return float(np.sqrt(moved / whole)) if whole else float(np.sqrt(moved / before.size))


def _few(samples: Samples | None, spec: TensorSpec) -> Samples:
    if samples is not None:
        return Samples(samples.x[:_INPUTS], None, samples.sha256, samples.source)
    rows = [random_inputs((spec,), seed)[0][0] for seed in range(_INPUTS)]
    return Samples(np.stack(rows), None, "", "random input")
