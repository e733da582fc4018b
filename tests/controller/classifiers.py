"""A small and a large classifier of one problem, as files, and labelled samples of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from tests import models
from tests.models import Form, Head, Layers

FEATURES, CLASSES = 16, 10


@dataclass(frozen=True)
class Pair:
    """Two models in a folder, and samples that the large one has right, 2% of them apart."""

    folder: Path
    small: Path
    large: Path
    samples: Path


def layers(noise: float = 0.0, classes: int = CLASSES) -> Layers:
    """Return the layer that decides the classes, disturbed by noise."""
    draw = np.random.default_rng(7)
    weights = draw.normal(0, 1, (classes, FEATURES))
    weights += noise * draw.normal(0, 1, weights.shape)
    return [(weights.astype(np.float32), np.zeros(classes, np.float32))]


def dataset(n: int, seed: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return samples [n, 16] within -1..1 and their classes [n]."""
    draw = np.random.default_rng(seed)
    x = draw.uniform(-1, 1, (n, FEATURES)).astype(np.float32)
    ((weights, _),) = layers()
    y = (x @ weights.T).argmax(axis=1)
    wrong = draw.random(n) < 0.02
    return x, np.where(wrong, (y + 1) % CLASSES, y)


def pair(
    folder: Path,
    n: int = 1000,
    *,
    form: Form = "int8",
    head: Head = "softmax",
    large_form: Form = "float32",
    large_head: Head = "logits",
    noise: float = 0.2,
) -> Pair:
    """Write a pair and n samples into a folder."""
    small = folder / "small.tflite"
    small.write_bytes(models.classifier(layers(noise), form=form, head=head))
    large = folder / "large.tflite"
    large.write_bytes(models.classifier(layers(), form=large_form, head=large_head))
    x, y = dataset(n)
    return Pair(folder, small, large, save(folder / "samples.npz", x=x, y=y))


def save(path: Path, **arrays: NDArray[Any]) -> Path:
    """Write an `.npz`."""
    np.savez(path, allow_pickle=True, **arrays)
    return path


def without_batch_axis(features: int = FEATURES) -> bytes:
    """Return a float classifier whose input has no batch axis: [4, features / 4]."""
    graph = models.Graph()
    ((weights, bias),) = layers()
    x = graph.tensor("x", (4, features // 4))
    inputs = [
        x,
        graph.tensor("weights", weights.shape, data=weights),
        graph.tensor("bias", bias.shape, data=bias),
    ]
    scores = graph.tensor("scores", (1, CLASSES))
    options = schema.FullyConnectedOptionsT()
    return graph.encode([x], [graph.operate("FULLY_CONNECTED", inputs, scores, options)])


def fixed_batch(batch: int, *, reshapes: bool = False) -> bytes:
    """Return a float classifier of `batch` samples at a time; one that reshapes cannot change."""
    graph = models.Graph()
    ((weights, bias),) = layers()
    x = graph.tensor("x", (batch, FEATURES))
    inputs = [
        x,
        graph.tensor("weights", weights.shape, data=weights),
        graph.tensor("bias", bias.shape, data=bias),
    ]
    scores = graph.tensor("dense", (batch, CLASSES))
    graph.operate("FULLY_CONNECTED", inputs, scores, schema.FullyConnectedOptionsT())
    if reshapes:
        shape = np.array([batch, CLASSES], np.int32)
        wanted = graph.tensor("shape", (2,), "int32", data=shape)
        shaped = graph.tensor("scores", (batch, CLASSES))
        options = schema.ReshapeOptionsT()
        options.newShape = shape.tolist()
        scores = graph.operate("RESHAPE", [scores, wanted], shaped, options)
    return graph.encode([x], [scores])


def class_numbers() -> bytes:
    """Return a model that gives the number of the best class, int32 [1], and no scores."""
    graph = models.Graph()
    x = graph.tensor("x", (1, FEATURES))
    axis = graph.tensor("axis", (1,), "int32", data=np.array([1], np.int32))
    best = graph.tensor("class", (1,), "int32")
    options = schema.ArgMaxOptionsT()
    options.outputType = schema.TensorType.INT32
    return graph.encode([x], [graph.operate("ARG_MAX", [x, axis], best, options)])


def open_features() -> bytes:
    """Return softmax over whatever it is given: input [-1, -1]."""
    graph = models.Graph()
    x = graph.tensor("x", (1, 1), signature=(-1, -1))
    scores = graph.tensor("scores", (1, 1), signature=(-1, -1))
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    return graph.encode([x], [graph.operate("SOFTMAX", [x], scores, options)])
