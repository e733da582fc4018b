"""A network trained towards labels and towards what a better network says.

Knowledge distillation (Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network",
arXiv:1503.02531): loss = (1 - w) * loss(outputs, y) + w * T^2 * KL(teacher at T || student at T).
"""

import math
import time
from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from controller.compress.errors import CompressError

if TYPE_CHECKING:
    import torch

    from controller.compress.training.protocol import Batch, Task

    Teacher = Callable[[torch.Tensor], torch.Tensor]

_WEIGHT_DECAY = 0.01
_CLIP_NORM = 5.0
_WARM_UP = 0.1
"""Of all steps, in which the rate rises; then it falls as a cosine."""
_SAME_CLASSES = 0.98
"""How many answers of a teacher in half precision have to be the same for it to be used."""
_SMALLEST_BATCH = 2
"""Batch norm cannot learn from a single sample."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """How to train.

    Attributes:
        epochs: passes over the training data.
        rate: highest learning rate of AdamW; it rises at first and falls to almost nothing
            (Smith and Topin, "Super-Convergence", arXiv:1708.07120). Only what multiplies decays:
            biases and the numbers of norms do not.
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
    *,
    after_step: Callable[[float], None] = lambda _share: None,
) -> None:
    """Train a network in place; the task's own network is the teacher. It ends in evaluation mode.

    The training data may change from pass to pass (augmentation): the teacher sees what the student
    sees.

    Args:
        student: maps the task's x to logits of the same classes.
        task: data, labels' loss and teacher.
        lesson: how.
        on_epoch: told after each epoch which it was, from 1, and how many there are.
        after_step: told after each step which share of all is done; it may change the weights.

    Raises:
        CompressError: training diverges.
    """
    import torch  # noqa: PLC0415

    if lesson.epochs == 0:
        student.eval()
        return
    total = lesson.epochs * _batches(task) + 1
    optimizer = torch.optim.AdamW(_groups(student), lr=lesson.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lesson.rate, total_steps=total, pct_start=_WARM_UP
    )
    teacher = _teacher(task) if lesson.weight > 0 else None
    for epoch in range(1, lesson.epochs + 1):
        student.train()
        for x, y in task.train:
            if len(y) < _SMALLEST_BATCH:
                continue
            loss = _loss(student, teacher, task, lesson, (x, y))
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
            after_step(schedule.last_epoch / total)
        on_epoch(epoch, lesson.epochs)
    after_step(1.0)
    student.eval()


def _groups(student: "torch.nn.Module") -> "list[dict[str, Any]]":
    """Return the parameters: those that multiply, which decay, and those that do not."""
    trained = [one for one in student.parameters() if one.requires_grad]
    return [
        {"params": [one for one in trained if one.ndim > 1], "weight_decay": _WEIGHT_DECAY},
        {"params": [one for one in trained if one.ndim <= 1], "weight_decay": 0.0},
    ]


def _teacher(task: "Task") -> "Teacher":
    """Return what answers as the task's network does, in half precision where that is quicker.

    It takes a third of the time of training a network of the teacher's size, and most of the time
    where the student is small.
    """
    import torch  # noqa: PLC0415

    def plain(x: "torch.Tensor") -> "torch.Tensor":
        with torch.no_grad():
            told: torch.Tensor = task.network(x)
        return told

    def halved(x: "torch.Tensor") -> "torch.Tensor":
        with torch.autocast("cpu", torch.bfloat16):
            return plain(x).float()

    x, _ = next(iter(task.train))
    try:
        same = (plain(x).argmax(1) == halved(x).argmax(1)).float().mean().item()
    except RuntimeError:  # not every network bears another precision
        return plain
    is_better = same >= _SAME_CLASSES and _cpu_s(halved, x) < _cpu_s(plain, x)
    return halved if is_better else plain


def _cpu_s(teacher: "Teacher", x: "torch.Tensor") -> float:
    begun = time.process_time()
    teacher(x)
    return time.process_time() - begun


def _batches(task: "Task") -> int:
    """Return how many batches an epoch has at most."""
    if isinstance(task.train, Sized):
        return len(task.train)
    return sum(1 for _ in task.train)


def _loss(
    student: "torch.nn.Module",
    teacher: "Teacher | None",
    task: "Task",
    lesson: Lesson,
    batch: "Batch",
) -> "torch.Tensor":
    from torch.nn import functional  # noqa: PLC0415

    x, y = batch
    outputs = student(x)
    loss = task.loss(outputs, y) * (1 - lesson.weight)
    if teacher is None:
        return loss
    heat = lesson.temperature
    apart = functional.kl_div(
        functional.log_softmax(outputs / heat, dim=1),
        functional.log_softmax(teacher(x) / heat, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return loss + apart * (lesson.weight * heat**2)
