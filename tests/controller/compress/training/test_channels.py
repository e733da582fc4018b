import copy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from controller.compress.errors import CompressError
from controller.compress.training.target import Target

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning")
pytest.importorskip("litert_torch")

from controller.compress.training.channels import Schedule, cut_channels  # noqa: E402
from controller.compress.training.distill import distill  # noqa: E402
from controller.compress.training.export import answers, to_int8, to_tflite  # noqa: E402
from controller.compress.training.network import accuracy, arrays, logits, measured  # noqa: E402
from controller.compress.training.protocol import load_task  # noqa: E402
from controller.compress.training.teach import Lesson  # noqa: E402

if TYPE_CHECKING:
    from controller.compress.training.protocol import Task

BLOBS = Path(__file__).parent / "blobs.py"
QUICK = Schedule(steps=2, between=Lesson(1, 1e-2), last=Lesson(3, 1e-2))


@pytest.fixture(scope="module")
def task() -> "Task":
    torch.manual_seed(0)
    return load_task(str(BLOBS))


@pytest.mark.parametrize("importance", ["taylor", "l1"])
@pytest.mark.parametrize("target", [Target("macs", 0.3), Target("bytes", 12_000)])
def test_channels_are_cut_to_the_target(task: "Task", importance: str, target: Target) -> None:
    before = copy.deepcopy(task.network.state_dict())
    schedule = Schedule(QUICK.steps, QUICK.between, QUICK.last, importance)  # type: ignore[arg-type]

    network, steps = cut_channels(task, target, schedule)

    original, last = steps[0].size, steps[-1].size
    assert [step.number for step in steps] == [0, 1, 2]
    assert getattr(last, target.measure) <= target.limit(original)
    assert last.parameters == sum(p.numel() for p in network.parameters())
    assert steps[-1].accuracy > 0.9
    assert accuracy(network, task.validation) == steps[-1].accuracy
    assert all(torch.equal(before[k], v) for k, v in task.network.state_dict().items())


def test_a_target_out_of_reach_is_refused(task: "Task") -> None:
    with pytest.raises(CompressError, match="cannot come down to parameters 3 of blobs"):
        cut_channels(task, Target("parameters", 3), QUICK)


def test_a_loss_that_is_no_number_ends_training(task: "Task") -> None:
    schedule = Schedule(1, Lesson(1, 1), Lesson(1, float("inf")))

    with pytest.raises(CompressError, match="cannot train blobs: the loss became"):
        cut_channels(task, Target("macs", 0.5), schedule)


def test_a_size_is_counted(task: "Task") -> None:
    size = measured(task.network, task.example, is_int8=False)

    assert size.macs == 16 * 16 * 9 + 4 * 24 * 16 * 9 + 96 * 32 + 32 * 4
    assert size.parameters == 16 * 9 + 32 + 24 * 16 * 9 + 24 + 96 * 32 + 32 + 32 * 4 + 4


def test_a_small_network_is_taught(task: "Task") -> None:
    network, found = distill(task, Target("parameters", 0.1), Lesson(6, 2e-2))

    assert found.size.parameters <= 0.1 * found.original.parameters
    assert found.accuracy == accuracy(network, task.validation) > 0.8


def test_a_small_network_needs_a_size(task: "Task") -> None:
    with pytest.raises(CompressError, match="cannot distill blobs: no size is given"):
        distill(task, None)


def test_a_file_answers_as_its_network_whatever_the_memory_layout(task: "Task") -> None:
    scattered = copy.deepcopy(task.network).to(memory_format=torch.channels_last)
    x, y = arrays(task.validation)

    content = to_tflite(scattered, torch.from_numpy(x), "scattered")
    narrow = to_int8(content, arrays(task.train, 100)[0], "scattered")

    np.testing.assert_allclose(
        answers(content, x), logits(task.network, torch.from_numpy(x)), atol=1e-3
    )
    assert len(narrow) < len(content)
    assert (answers(narrow, x).argmax(axis=1) == y).mean() > 0.9
