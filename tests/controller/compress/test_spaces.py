from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from controller.compress.graph import Graph
from controller.compress.scorer import Scorer
from controller.compress.spaces import reorder, spaces
from controller.samples import Samples
from tests import models
from tests.models import Form

LARGE = Path(__file__).parents[3] / "controller" / "demo" / "assets" / "large-int8.tflite"
"""It has a scale for each channel, which must move with the channel."""

DRAW = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return DRAW.normal(size=shape).astype(np.float32)


def conv(graph: models.Graph, value: int, shape: tuple[int, int, int, int], size: int) -> int:
    """A convolution that keeps the image's size; `shape` is [out, height, width, in]."""
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = 1
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    weights = graph.tensor("w", shape, data=normal(*shape))
    bias = graph.tensor("b", shape[:1], data=normal(shape[0]))
    out = graph.tensor("conv", (1, size, size, shape[0]))
    return graph.operate("CONV_2D", [value, weights, bias], out, options)


def depthwise(graph: models.Graph, value: int, channels: int, size: int) -> int:
    options = schema.DepthwiseConv2DOptionsT()
    options.strideH = options.strideW = options.depthMultiplier = 1
    weights = graph.tensor("w", (1, 3, 3, channels), data=normal(1, 3, 3, channels))
    bias = graph.tensor("b", (channels,), data=normal(channels))
    out = graph.tensor("depthwise", (1, size, size, channels))
    return graph.operate("DEPTHWISE_CONV_2D", [value, weights, bias], out, options)


def residual() -> bytes:
    """A stem, a residual block with a depthwise convolution in it, a mean, a dense layer."""
    graph = models.Graph()
    x = graph.tensor("x", (1, 5, 5, 3))
    stem = conv(graph, x, (6, 1, 1, 3), 5)
    branch = conv(graph, depthwise(graph, stem, 6, 5), (4, 3, 3, 6), 5)
    branch = conv(graph, branch, (6, 3, 3, 4), 5)
    total = graph.tensor("sum", (1, 5, 5, 6))
    graph.operate("ADD", [stem, branch], total, schema.AddOptionsT())
    axes = graph.tensor("axes", (2,), "int32", data=np.array([1, 2], np.int32))
    mean = graph.operate("MEAN", [total, axes], graph.tensor("mean", (1, 6)), _reduce())
    weights = graph.tensor("w", (4, 6), data=normal(4, 6))
    bias = graph.tensor("b", (4,), data=normal(4))
    out = graph.tensor("scores", (1, 4))
    options = schema.FullyConnectedOptionsT()
    graph.operate("FULLY_CONNECTED", [mean, weights, bias], out, options)
    return graph.encode([x], [out])


def _reduce() -> object:
    options = schema.ReducerOptionsT()
    options.keepDims = False
    return options


def shuffled(content: bytes) -> bytes:
    graph = Graph.read(content, "model")
    for space in spaces(graph).free:
        reorder(graph, space, np.random.default_rng(1).permutation(space.size))
    return graph.write()


def test_what_must_go_together_is_one_space() -> None:
    graph = Graph.read(residual(), "model")
    sizes = sorted((space.size, len(space.members)) for space in spaces(graph).free)
    # Stem, depthwise filters, the branch's end and the dense layer's columns; the branch's middle.
    assert sizes == [(4, 3), (6, 8)]


@pytest.mark.parametrize(
    ("make", "shape", "tolerance"),
    [
        (residual, (5, 5, 3), 1e-4),
        (lambda: models.classifier(models.random_layers(9, 7, 5, 4)), (9,), 1e-5),
        (lambda: models.classifier(models.random_layers(9, 7, 5, 4), form="int8"), (9,), 0.0),
        (LARGE.read_bytes, (8, 8, 1), 0.0),
    ],
)
def test_another_order_computes_the_same(
    make: Callable[[], bytes], shape: tuple[int, ...], tolerance: float
) -> None:
    content = make()
    other = shuffled(content)
    assert other != content
    x = np.random.default_rng(2).random((8, *shape)).astype(np.float32)
    with Scorer(Samples(x, None, "", "x")) as scorer:
        before, after = scorer.rows(content, "before"), scorer.rows(other, "after")
    assert np.abs(before - after).max() <= tolerance


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_inputs_outputs_and_shared_arrays_keep_their_order(form: Form) -> None:
    graph = Graph.read(models.classifier(models.random_layers(5, 5, 5, 5), form=form), "model")
    assert [space.size for space in spaces(graph).free] == [5, 5]
    tensors = sorted({tensor for space in spaces(graph).free for tensor, _ in space.members})
    weights = [tensor for tensor in tensors if len(graph.shape(tensor)) == 2]
    graph.share_buffer(weights[1], weights[0])
    assert spaces(graph).free == ()


def test_an_operator_that_is_not_known_holds_its_channels() -> None:
    graph = models.Graph()
    x = graph.tensor("x", (1, 4))
    weights = graph.tensor("w", (4, 4), data=normal(4, 4))
    bias = graph.tensor("b", (4,), data=normal(4))
    dense, soft, out = (graph.tensor(name, (1, 4)) for name in ("dense", "soft", "out"))
    graph.operate("FULLY_CONNECTED", [x, weights, bias], dense, schema.FullyConnectedOptionsT())
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    graph.operate("SOFTMAX", [dense], soft, options)
    again = graph.tensor("w2", (4, 4), data=normal(4, 4))
    graph.operate("FULLY_CONNECTED", [soft, again, bias], out, schema.FullyConnectedOptionsT())
    assert spaces(Graph.read(graph.encode([x], [out]), "model")).free == ()
