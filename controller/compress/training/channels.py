"""Channels cut out of a network, in steps, each followed by teaching.

Layers that must lose the same channels (a convolution, its batch norm, what reads it, whatever is
added to it) are found as groups by the dependency graph of `torch-pruning` (Fang et al., "DepGraph:
Towards Any Structural Pruning", arXiv:2301.12900). What a channel is worth:

- `l1`: the sum of its weights' magnitudes over the group (Li et al., "Pruning Filters for Efficient
  ConvNets", arXiv:1608.08710);
- `taylor`: |weight * gradient| over some training batches, the first-order change of the loss
  (Molchanov et al., "Importance Estimation for Neural Network Pruning", arXiv:1906.10771).
"""

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from controller.compress.errors import CompressError
from controller.compress.training.export import exported
from controller.compress.training.network import accuracy, answering_layer, measured
from controller.compress.training.target import Size, Target, of
from controller.compress.training.teach import Lesson, teach

if TYPE_CHECKING:
    import torch

    from controller.compress.training.protocol import Task

Importance = Literal["l1", "taylor"]
Spread = Literal["alike", "global"]

_CUTS = 200
"""Channels go in so many small cuts from all to almost none: how closely a limit is met."""
_MOST = 0.99
_MOST_OF_A_LAYER = 0.95
"""A ranking of all layers together may not leave one of them with next to nothing."""
_TAYLOR_BATCHES = 8


@dataclass(frozen=True, slots=True)
class Schedule:
    """How to come down to a target.

    Attributes:
        steps: cuts with teaching after each; the sizes between are in geometric progression.
        between: the lesson after each cut but the last.
        last: the lesson after the last one.
        importance: what a channel is worth.
        is_int8: whether the file will be int8; a target in bytes means that file then.
        beyond_bytes: what the file takes beyond the estimate; `fitted` finds it.
        spread: every layer loses the same share of its channels (`alike`), or the least of all
            layers together go (`global`).
    """

    steps: int = 4
    between: Lesson = field(default_factory=lambda: Lesson(epochs=2, rate=1e-3))
    last: Lesson = field(default_factory=lambda: Lesson(epochs=12, rate=2e-3))
    importance: Importance = "taylor"
    is_int8: bool = False
    beyond_bytes: int = 0
    spread: Spread = "alike"


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did; step 0 is the original.

    Attributes:
        number: 0 to the number of steps.
        size: after the cut.
        accuracy_cut: on validation data, before teaching.
        accuracy: after teaching.
        name: of the network that came out; empty where only the last step's is kept.
        epochs: of teaching.
    """

    number: int
    size: Size
    accuracy_cut: float
    accuracy: float
    name: str = ""
    epochs: int = 0


def cut_channels(
    task: "Task",
    target: Target,
    schedule: Schedule,
    on_step: Callable[[str, int, int], None] = lambda _title, _done, _total: None,
) -> "tuple[torch.nn.Module, tuple[Step, ...]]":
    """Return a thinner copy of a task's network, and what each step did.

    Args:
        task: network, data and loss.
        target: the size to come down to.
        schedule: how.
        on_step: told what is done, how many epochs are over, and how many there are.

    Raises:
        CompressError: the target is none for this network, or cannot be reached; training diverges.
    """
    network = copy.deepcopy(task.network)
    schedule = fitted(task, target, schedule)
    original = _size(network, task, schedule)
    limits = target.milestones(original, schedule.steps)
    total = schedule.between.epochs * (schedule.steps - 1) + schedule.last.epochs
    begun = accuracy(network, task.validation)
    steps, done = [Step(0, original, begun, begun)], 0
    for number, limit in enumerate(limits, 1):
        title = f"Step {number} of {schedule.steps}"
        on_step(f"{title}: cutting", done, total)
        thin(network, task, Target(target.measure, limit), schedule)
        cut = accuracy(network, task.validation)
        lesson = schedule.last if number == schedule.steps else schedule.between
        after = itertools.count(done + 1)
        teach(network, task, lesson, lambda *_: on_step(f"{title}: teaching", next(after), total))  # noqa: B023 - called at once
        done += lesson.epochs
        size = _size(network, task, schedule)
        now = accuracy(network, task.validation)
        steps.append(Step(number, size, cut, now, epochs=lesson.epochs))
    return network, tuple(steps)


def thin(network: "torch.nn.Module", task: "Task", target: Target, schedule: Schedule) -> None:
    """Cut channels of a network, in place, until it is within a target.

    Args:
        network: of the same inputs and classes as the task's.
        task: for the gradients that `taylor` needs, and the example.
        target: an absolute limit, 1 or more.
        schedule: for what a channel is worth, and whether layers are compared.

    Raises:
        CompressError: it cannot be reached.
    """
    for parameter in network.parameters():
        parameter.requires_grad_(requires_grad=True)
    network.eval()
    pruner = _pruner(network, task, schedule)
    if schedule.importance == "taylor":
        _gradients(network, task)
    size = _size(network, task, schedule)
    for _ in range(_CUTS):
        if of(size, target.measure) <= target.value:
            break
        pruner.step()
        size = _size(network, task, schedule)
    network.zero_grad(set_to_none=True)
    if of(size, target.measure) > target.value:
        raise CompressError(
            f"cannot come down to {target.measure} {target.value:,.0f} of {task.name}: with "
            f"{_MOST:.0%} of the channels cut it still has {of(size, target.measure):,}; its "
            "layers may not be prunable, or hold few channels"
        )
    _check_output(network, task)


def fitted(task: "Task", target: Target, schedule: Schedule) -> Schedule:
    """Return a schedule that knows what a file takes beyond its weights, if the target asks.

    Names, shapes and options do not shrink with the channels, so the original's file tells.
    """
    if target.measure != "bytes":
        return schedule
    plain = replace(schedule, beyond_bytes=0)
    file = exported(task, task.network, task.name, is_int8=schedule.is_int8)
    beyond = len(file.content) - _size(task.network, task, plain).bytes
    return replace(plain, beyond_bytes=beyond)


def _size(network: "torch.nn.Module", task: "Task", schedule: Schedule) -> Size:
    size = measured(network, task.example, is_int8=schedule.is_int8)
    return replace(size, bytes=size.bytes + schedule.beyond_bytes)


def _pruner(network: "torch.nn.Module", task: "Task", schedule: Schedule) -> Any:  # noqa: ANN401
    import torch_pruning  # noqa: PLC0415

    worth = {
        "l1": torch_pruning.importance.GroupMagnitudeImportance(p=1),
        "taylor": torch_pruning.importance.GroupTaylorImportance(),
    }[schedule.importance]
    is_global = schedule.spread == "global"
    try:
        return torch_pruning.pruner.BasePruner(
            network,
            task.example,
            importance=worth,
            global_pruning=is_global,
            pruning_ratio=_MOST,
            max_pruning_ratio=_MOST_OF_A_LAYER if is_global else 1.0,
            iterative_steps=_CUTS,
            ignored_layers=[answering_layer(network, task.example)],
            # torch-pruning's defaults are shared between pruners and would be written to.
            in_channel_groups={},
            out_channel_groups={},
        )
    except CompressError:
        raise
    except Exception as error:  # tracing a person's network fails in its own ways
        words = " ".join(str(error).split()) or type(error).__name__
        raise CompressError(f"cannot cut channels of {task.name}: {words}") from error


def _gradients(network: "torch.nn.Module", task: "Task") -> None:
    """Add up the gradients of some training batches; cuts take them along."""
    network.zero_grad()
    for x, y in itertools.islice(task.train, _TAYLOR_BATCHES):
        task.loss(network(x), y).backward()


def _check_output(network: "torch.nn.Module", task: "Task") -> None:
    import torch  # noqa: PLC0415

    with torch.no_grad():
        shape = tuple(network(task.example).shape)
    if shape != (1, task.classes):
        raise CompressError(
            f"cannot cut channels of {task.name}: it would give {list(shape)} instead of "
            f"[1, {task.classes}]; let one linear layer or convolution make the classes"
        )
