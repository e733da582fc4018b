import numpy as np

from controller.compress.graph import Graph
from controller.compress.weights import footprint, put, weights
from tests import models

LAYERS = models.random_layers(8, 8, 8, 3)


def test_a_footprint_counts_what_is_stored() -> None:
    content = models.classifier(LAYERS)
    found = footprint(content, "model")
    assert found.file_bytes == len(content)
    assert 0 < found.wire_bytes < len(content)
    assert found.parameters == found.nonzero == 8 * 8 + 8 + 8 * 8 + 8 + 8 * 3 + 3


def test_what_two_layers_share_counts_once_and_stays_shared() -> None:
    graph = Graph.read(models.classifier(LAYERS), "model")
    first, second, _ = weights(graph)
    graph.share_buffer(second.tensor, first.tensor)
    (shared, last) = weights(graph)
    assert shared.tensors == (first.tensor, second.tensor)
    assert last.tensors == (last.tensor,)
    put(graph, shared, np.zeros((8, 8), np.float32))
    again = Graph.read(graph.write(), "model")
    assert len(weights(again)) == 2
    assert footprint(again.write(), "model").parameters == 8 * 8 + 8 + 8 + 8 * 3 + 3
    assert not again.values(second.tensor).any()


def test_zero_is_the_zero_point_of_a_quantized_tensor() -> None:
    content = models.classifier(LAYERS, form="int8")
    ints = [
        Graph.read(content, "m").values(stored.tensor)
        for stored in weights(Graph.read(content, "m"))
    ]
    zeros = sum(int((values == 0).sum()) for values in ints)
    found = footprint(content, "model")
    assert found.parameters - found.nonzero >= zeros
