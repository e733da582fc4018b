from itertools import pairwise

from controller.compress.arena import arena, tensor_bytes
from controller.compress.graph import Graph
from tests import models
from tests.models import Graph as Draft


def test_a_chain_reuses_its_memory() -> None:
    content = models.classifier(models.random_layers(16, 64, 32, 8), head="logits")
    graph = Graph.read(content, "m")
    found = arena(graph)
    assert found.peak_bytes == (16 + 64 + 32) * 4  # the input lives throughout
    assert found.peak_operator == 1
    assert found.sum_bytes == (16 + 64 + 32 + 8) * 4


def test_a_dead_tensor_makes_room() -> None:
    draft = Draft()
    tensors = [draft.tensor(f"t{n}", (1, width)) for n, width in enumerate((4, 100, 10, 100, 4))]
    for before, after in pairwise(tensors):
        draft.operate("RELU", [before], after)
    found = arena(Graph.read(draft.encode([0], [4]), "m"))
    assert found.peak_bytes == (4 + 110) * 4
    assert found.sum_bytes == (4 + 100 + 10 + 100 + 4) * 4


def test_a_skip_keeps_its_tensor() -> None:
    draft = Draft()
    x, a, b, y = (draft.tensor(name, (1, 10)) for name in "xaby")
    draft.operate("RELU", [x], a)
    draft.operate("RELU", [a], b)
    draft.operate("ADD", [a, b], y)
    found = arena(Graph.read(draft.encode([x], [y]), "m"))
    assert (found.peak_bytes, found.peak_operator) == (4 * 10 * 4, 2)


def test_bytes_of_a_tensor() -> None:
    draft = Draft()
    x = draft.tensor("x", (1, 3), "int8", signature=(-1, 3))
    y = draft.operate("DEQUANTIZE", [x], draft.tensor("y", (1, 3)))
    graph = Graph.read(draft.encode([x], [y]), "m")
    assert (tensor_bytes(graph, x), tensor_bytes(graph, y)) == (3, 12)
