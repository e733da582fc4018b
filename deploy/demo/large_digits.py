"""Handwritten digits for the toolkit: a float32 classifier of ten million parameters, and its data.

This is a training module as `controller.compress.training.protocol` describes it; scikit-learn
brings the images, `train_models.py` beside this file the split and the distortions. The classifier
is trained when it is asked for, which takes about a minute:

    ctl model recipe deploy/demo/large_digits.py --target macs=0.02 --first-stage macs=0.005

The split is that of the demo: 400 test and 600 calibration images that nothing is trained on; the
rest, 797, is divided here once more into 637 to train on and 160 to look at meanwhile.
"""

# ruff: noqa: INP001 (a script, not a package)

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch import nn
from train_models import BATCH, CLASSES, SEED, distort, split_digits

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    Batch = tuple[torch.Tensor, torch.Tensor]

EPOCHS = 30
PEAK_RATE = 1e-3
VALIDATION = 160


@functools.cache
def split() -> dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Return images, [n, 8, 8, 1], and digits, [n], by the name of their part."""
    digits = split_digits()
    x, y = digits.x_train, digits.y_train
    return {
        "train": (x[VALIDATION:], y[VALIDATION:]),
        "validation": (x[:VALIDATION], y[:VALIDATION]),
        "calibration": (digits.x_calibration, digits.y_calibration),
        "test": (digits.x_test, digits.y_test),
    }


class Distorted:
    """The training images, distorted and shuffled anew each time that they are gone through."""

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(split()["train"][1]) // BATCH

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches."""
        x, y = (torch.from_numpy(part) for part in split()["train"])
        for chosen in torch.randperm(len(y))[: len(self) * BATCH].split(BATCH):
            images = distort(x[chosen].permute(0, 3, 1, 2))
            yield images.permute(0, 2, 3, 1).contiguous(), y[chosen]


class Classifier(nn.Module):
    """Convolutions over [n, 8, 8, 1], to [n, 10] logits; most weights lie where it is 2 by 2."""

    def __init__(self) -> None:
        """Make it with random weights."""
        super().__init__()
        self.convolutions = nn.Sequential(
            _convolution(1, 64, 1),
            _convolution(64, 256, 2),
            _convolution(256, 512, 2),
            _convolution(512, 1024, 1),
        )
        self.hidden = nn.Linear(1024 * 4, 896)
        self.logits = nn.Linear(896, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map [n, 8, 8, 1] to [n, 10] logits."""
        seen = self.convolutions(image.permute(0, 3, 1, 2)).flatten(1)
        return self.logits(nn.functional.relu(self.hidden(seen)))


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Return convolution, batch norm (the converter folds it away) and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def model() -> Classifier:
    """Train the classifier and return it."""
    torch.manual_seed(SEED)
    network, batches = Classifier().train(), Distorted()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=PEAK_RATE, total_steps=EPOCHS * len(batches)
    )
    for _ in range(EPOCHS):
        for x, y in batches:
            loss = nn.functional.cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def train_loader() -> Distorted:
    """Return batches to train on."""
    return Distorted()


def validation_loader() -> list[Batch]:
    """Return batches to look at while training."""
    return _batches("validation")


def calibration_loader() -> list[Batch]:
    """Return batches that nothing but a certificate has seen."""
    return _batches("calibration")


def test_loader() -> list[Batch]:
    """Return batches that nothing has seen."""
    return _batches("test")


def _batches(part: str) -> list[Batch]:
    x, y = (torch.from_numpy(found) for found in split()[part])
    return list(zip(x.split(BATCH), y.split(BATCH), strict=True))
