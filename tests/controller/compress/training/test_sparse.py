import copy
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning")
pytest.importorskip("litert_torch")

from controller.compress.training.network import accuracy  # noqa: E402
from controller.compress.training.protocol import load_task  # noqa: E402
from controller.compress.training.sparse import Masks, chosen  # noqa: E402
from controller.compress.training.teach import Lesson, teach  # noqa: E402


def test_a_network_learns_with_most_of_its_weights_zero() -> None:
    task = load_task(str(Path(__file__).parent / "blobs.py"))
    network = copy.deepcopy(task.network)
    masks = Masks(network, task.example, 900)

    teach(network, task, Lesson(3, 1e-2), after_step=masks)

    nonzero = sum(int((one != 0).sum()) for one in network.parameters())
    assert nonzero <= 900
    assert nonzero > 700
    assert accuracy(network, task.validation) > 0.9


def test_every_layer_keeps_its_largest_weight() -> None:
    large, small = torch.tensor([[5.0, -9.0, 7.0]]), torch.tensor([0.01, 0.03])

    first, second = chosen([large, small], 2)

    assert first.tolist() == [[False, True, False]]
    assert second.tolist() == [False, True]
    assert all(mask.all() for mask in chosen([large, small], 5))
