"""A small network taught by a large one: the first stage of a cascade.

The person's module may bring the small network itself (`first_stage`); else it is the large one's
own architecture, made thinner until it fits and started anew from random weights.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.compress.errors import CompressError
from controller.compress.training.channels import Schedule, fitted, thin
from controller.compress.training.network import accuracy, measured
from controller.compress.training.target import Size, Target
from controller.compress.training.teach import Lesson, teach

if TYPE_CHECKING:
    import torch

    from controller.compress.training.protocol import Task

LESSON = Lesson(epochs=20, rate=5e-3)


@dataclass(frozen=True, slots=True)
class Distilled:
    """What came out.

    Attributes:
        original: the teacher's size.
        size: the student's.
        accuracy_original: the teacher's, on validation data.
        accuracy: the student's, on validation data.
    """

    original: Size
    size: Size
    accuracy_original: float
    accuracy: float


def distill(
    task: "Task",
    target: Target | None,
    lesson: Lesson = LESSON,
    on_epoch: Callable[[int, int], None] = lambda _epoch, _epochs: None,
) -> "tuple[torch.nn.Module, Distilled]":
    """Return a small network taught by the task's own.

    Args:
        task: the teacher and its data.
        target: the student's size; None: the module's `first_stage` is the student.
        lesson: how long and how.
        on_epoch: as `teach`.

    Raises:
        CompressError: there is neither target nor `first_stage`, or both; the target cannot be
            reached; training diverges.
    """
    original = measured(task.network, task.example, is_int8=True)
    student = _brought(task) if target is None else _thinner(task, target, original)
    teach(student, task, lesson, on_epoch)
    return student, Distilled(
        original=original,
        size=measured(student, task.example, is_int8=True),
        accuracy_original=accuracy(task.network, task.validation),
        accuracy=accuracy(student, task.validation),
    )


def _brought(task: "Task") -> "torch.nn.Module":
    import torch  # noqa: PLC0415

    if task.first_stage is None:
        raise CompressError(
            f"cannot distill {task.name}: no size is given, and the module has no first_stage(); "
            "write --target parameters=20000, for example"
        )
    student = task.first_stage()
    with torch.no_grad():
        shape = list(student(task.example).shape)
    if shape != [1, task.classes]:
        raise CompressError(
            f"cannot distill {task.name}: first_stage() gives {shape}, the large network "
            f"[1, {task.classes}]"
        )
    return student


def _thinner(task: "Task", target: Target, original: Size) -> "torch.nn.Module":
    """Return the teacher's architecture within a target, with weights as if it were new."""
    student = copy.deepcopy(task.network)
    (limit,) = target.milestones(original, 1)
    absolute = Target(target.measure, limit)
    schedule = fitted(task, target, Schedule(importance="l1", is_int8=True))
    thin(student, task, absolute, schedule)
    for layer in student.modules():
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()
    return student
