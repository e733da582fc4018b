"""A network trained towards labels and towards what a better network says.

Knowledge distillation (Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network",
arXiv:1503.02531): loss = (1 - w) * loss(outputs, y) + w * T^2 * KL(teacher at T || student at T).
"""

import math
from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.compress.errors import CompressError

if TYPE_CHECKING:
    import torch

    from controller.compress.training.protocol import Task

_WEIGHT_DECAY = 0.01
_CLIP_NORM = 5.0
_SMALLEST_BATCH = 2
"""Batch norm cannot learn from a single sample."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """How to train.

    Attributes:
        epochs: passes over the training data.
        rate: highest learning rate of AdamW; it rises at first and falls to almost nothing
            (Smith and Topin, "Super-Convergence", arXiv:1708.07120).
        weight: w above, how much the teacher counts beside the labels, 0 to 1.
        temperature: T above.
    """

    epochs: int
    rate: float
    weight: float = 0.7
    temperature: float = 4.0


def teach(
    student: "torch.nn.Module",
    task: "Task",
    lesson: Lesson,
    on_epoch: Callable[[int, int], None] = lambda _epoch, _epochs: None,
) -> None:
    """Train a network in place; the task's own network is the teacher. It ends in evaluation mode.

    Args:
        student: maps the task's x to logits of the same classes.
        task: data, labels' loss and teacher.
        lesson: how.
        on_epoch: told after each epoch which it was, from 1, and how many there are.

    Raises:
        CompressError: training diverges.
    """
    import torch  # noqa: PLC0415

    if lesson.epochs == 0:
        student.eval()
        return
    optimizer = torch.optim.AdamW(student.parameters(), lr=lesson.rate, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lesson.rate, total_steps=lesson.epochs * _batches(task) + 1
    )
    for epoch in range(1, lesson.epochs + 1):
        student.train()
        for x, y in task.train:
            if len(y) < _SMALLEST_BATCH:
                continue
            loss = _loss(student, task, lesson, x, y)
            if not math.isfinite(loss.item()):
                raise CompressError(
                    f"cannot train {task.name}: the loss became {loss.item()} in epoch {epoch}; "
                    "try a lower --rate"
                )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), _CLIP_NORM)
            optimizer.step()
            schedule.step()
        on_epoch(epoch, lesson.epochs)
    student.eval()


def _batches(task: "Task") -> int:
    """Return how many batches an epoch has at most."""
    if isinstance(task.train, Sized):
        return len(task.train)
    return sum(1 for _ in task.train)


def _loss(
    student: "torch.nn.Module", task: "Task", lesson: Lesson, x: "torch.Tensor", y: "torch.Tensor"
) -> "torch.Tensor":
    import torch  # noqa: PLC0415
    from torch.nn import functional  # noqa: PLC0415

    outputs = student(x)
    loss = task.loss(outputs, y) * (1 - lesson.weight)
    if lesson.weight == 0:
        return loss
    with torch.no_grad():
        told = task.network(x)
    heat = lesson.temperature
    apart = functional.kl_div(
        functional.log_softmax(outputs / heat, dim=1),
        functional.log_softmax(told / heat, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return loss + apart * (lesson.weight * heat**2)
