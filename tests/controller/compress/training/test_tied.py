import copy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.layers import layers
from controller.compress.quantize import Form
from controller.compress.training.teach import Lesson
from controller.compress.training.tied import Plan, TiedNetwork, shared, tie_and_teach
from controller.compress.weights import weights

if TYPE_CHECKING:
    from controller.compress.training.protocol import Task

torch = pytest.importorskip("torch")
pytest.importorskip("litert_torch")

from controller.compress.training.export import answers, converted  # noqa: E402
from controller.compress.training.fold import folded  # noqa: E402
from controller.compress.training.layout import take_back, tie_modules, twins  # noqa: E402
from controller.compress.training.network import arrays, logits  # noqa: E402
from controller.compress.training.protocol import load_task  # noqa: E402

HERE = Path(__file__).parent
QUICK = Lesson(2, 1e-2)
LAYERS = ("network.3.first", "network.3.second")


@pytest.fixture(scope="module")
def task() -> "Task":
    return load_task(str(HERE / "twins.py"))


@pytest.fixture(scope="module")
def int8(task: "Task") -> TiedNetwork:
    torch.manual_seed(0)
    return tie_and_teach(task, Plan(max_loss=0.1, lesson=QUICK, form=Form.INT8))


def test_a_pair_is_stored_once_in_the_int8_file(int8: TiedNetwork) -> None:
    (attempt,) = int8.attempts

    assert attempt.kept
    assert {attempt.pair.first, attempt.pair.second} == set(LAYERS)
    assert attempt.pair.saved_bytes == 4 * 8 * 8 * 9
    assert int8.shared == (LAYERS,)
    assert int8.tied.takes.parameters == int8.untied.takes.parameters - 8 * 8 * 9
    graph = Graph.read(int8.content, "tied")
    assert (len(layers(graph)), len(weights(graph))) == (4, 3)


def test_the_loss_is_that_of_the_file(task: "Task", int8: TiedNetwork) -> None:
    x, y = arrays(task.validation)

    accuracy = float((answers(int8.content, x).argmax(axis=1) == y).mean())

    assert int8.tied.validation.accuracy == accuracy
    assert int8.attempts[0].lost == pytest.approx(int8.original.validation.accuracy - accuracy)  # type: ignore[operator]
    assert int8.attempts[0].takes == int8.tied.takes


def test_what_costs_too_much_is_not_kept(task: "Task") -> None:
    before = copy.deepcopy(task.network.state_dict())

    made = tie_and_teach(task, Plan(max_loss=-1.0, lesson=Lesson(0, 1e-3)))

    assert not made.attempts[0].kept
    assert made.attempts[0].takes.parameters < made.tied.takes.parameters
    assert made.shared == ()
    assert made.tied == made.untied
    assert all(torch.equal(before[k], v) for k, v in task.network.state_dict().items())


def test_layers_of_no_common_shape_are_refused() -> None:
    with pytest.raises(CompressError, match="cannot tie layers of blobs: no two of its 4 have"):
        tie_and_teach(load_task(str(HERE / "blobs.py")), Plan())


def test_a_file_brings_its_weights_back_in_their_new_order(task: "Task") -> None:
    x = torch.from_numpy(arrays(task.validation)[0])
    network = folded(task.network, x)
    graph = Graph.read(converted(task, network, "fp32"), "twins")
    known = twins(network, task.example, graph)
    other = copy.deepcopy(network)
    for parameter in other.parameters():
        parameter.data.zero_()

    take_back(other, graph, known)

    assert {*LAYERS} < {*known}
    assert len(known) == 4
    np.testing.assert_array_equal(logits(other, x), logits(network, x))


def test_modules_that_share_are_found(task: "Task") -> None:
    network = folded(task.network, task.example)

    tie_modules(network, LAYERS)

    assert shared(copy.deepcopy(network)) == (LAYERS,)
