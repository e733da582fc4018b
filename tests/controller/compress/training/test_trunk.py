"""Trunk, exit and rest of a network: right, of one scale, and chosen by what the exit is worth."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from controller.compress.errors import CompressError
from controller.compress.training.boundaries import Boundary
from controller.compress.training.target import Size, Target
from controller.compress.training.teach import Lesson

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning")
pytest.importorskip("litert_torch")
pytest.importorskip("ai_edge_quantizer")

from controller.compress.training.export import answers, exported  # noqa: E402
from controller.compress.training.head import fitted_head, head  # noqa: E402
from controller.compress.training.network import arrays, measured  # noqa: E402
from controller.compress.training.protocol import load_task  # noqa: E402
from controller.compress.training.relay import ends, relay  # noqa: E402
from controller.compress.training.trunk import (  # noqa: E402
    Order,
    choose_exit,
    features_of,
    share_trunk,
)

if TYPE_CHECKING:
    from controller.compress.training.protocol import Task

ORIGINAL = Size(parameters=10_000, macs=100_000, bytes=40_000)
EARLY = Boundary("3", "early", channels_last=True, shape=(1, 4, 4, 16), share=0.1)
LATE = Boundary("5", "late", channels_last=True, shape=(1, 2, 2, 24), share=0.7)


@pytest.fixture(scope="module")
def task() -> "Task":
    torch.manual_seed(0)
    return load_task(str(Path(__file__).parent / "blobs.py"))


def test_trunk_and_rest_are_the_whole_and_the_exit_reads_the_trunk(task: "Task") -> None:
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    order = Order(Target("parameters", 600), Lesson(4, 2e-2), is_int8=True)

    files, found = share_trunk(task, "3", order)

    x, y = arrays(task.validation)
    whole = exported(task, task.network, "whole", is_int8=True).content
    assert np.array_equal(relay([files.trunk, files.rest], x), answers(whole, x))
    early = relay([files.trunk, files.exit], x)
    assert found.accuracy_exit == pytest.approx((early.argmax(axis=1) == y).mean())
    assert found.accuracy_exit > 0.6
    assert found.accuracy_whole > 0.9
    assert found.head.parameters <= 600
    assert found.handed_over_bytes == 4 * 4 * 16
    given, taken, other = ends(files.trunk)[1], ends(files.exit)[0], ends(files.rest)[0]
    assert given.dtype == "int8"
    assert given.quantization == taken.quantization == other.quantization
    assert found.one_scale
    after = task.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)  # nobody changes it


def test_the_earliest_exit_that_is_good_enough_is_taken(task: "Task") -> None:
    order = Order(Target("parameters", 300), Lesson(1, 1e-2))
    chosen, tried = choose_exit(task, [EARLY, LATE], order, 0.0, lambda *_: None)
    assert [one.layer for one in tried] == [chosen.place.layer] == ["3"]
    assert not chosen.head.training


def test_where_none_is_good_enough_the_best_is_taken(task: "Task") -> None:
    order, said = Order(Target("parameters", 300), Lesson(2, 1e-2)), list[tuple[int, int]]()
    chosen, tried = choose_exit(
        task, [EARLY, LATE], order, 1.1, lambda _title, done, total: said.append((done, total))
    )
    assert [one.layer for one in tried] == ["3", "5"]
    assert chosen.accuracy == max(one.accuracy for one in tried)
    assert said[-1] == (4, 4)


def test_a_layer_that_is_none_or_does_not_run_is_refused(task: "Task") -> None:
    layer = torch.nn.Linear(2, 2)
    layer.add_module("idle", torch.nn.Identity())
    with pytest.raises(CompressError, match="behind 'idle': it did not run"):
        features_of(layer, "idle")(torch.zeros(1, 2))
    features = features_of(task.network, "5")(task.example)
    assert tuple(features.shape) == (1, 24, 2, 2)


@pytest.mark.parametrize("shape", [(1, 16, 4, 4), (1, 8, 15, 9), (1, 3, 1, 1), (1, 40), (1, 6, 5)])
@pytest.mark.parametrize("target", [Target("parameters", 900), Target("macs", 0.2)])
def test_a_head_is_as_wide_as_its_target_allows(shape: tuple[int, ...], target: Target) -> None:
    features = torch.zeros(shape)
    network, size = fitted_head(features, 4, target, ORIGINAL, is_int8=False)
    width = next(layer for layer in network if hasattr(layer, "weight")).weight.shape[0]
    wider = measured(head(shape, 4, width + 1), features, is_int8=False)
    limit = target.limit(ORIGINAL)
    assert network(features).shape == (1, 4)
    assert getattr(size, target.measure) <= limit < getattr(wider, target.measure)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (20, "cannot make a head of parameters 20 on features .* the smallest has"),
        (10_000, "cannot come down to parameters 10,000: the original has 10,000 already"),
    ],
)
def test_a_head_that_is_no_head_is_refused(wanted: int, message: str) -> None:
    with pytest.raises(CompressError, match=message):
        fitted_head(
            torch.zeros(1, 16, 4, 4), 4, Target("parameters", wanted), ORIGINAL, is_int8=False
        )
