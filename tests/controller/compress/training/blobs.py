"""A training module for tests: pictures with one bright quarter, and a network that finds it."""

import functools

import numpy as np
import torch
from torch import nn

_SIDE = 8
_HALF = _SIDE // 2

Batch = tuple[torch.Tensor, torch.Tensor]


def _samples(count: int, seed: int) -> list[Batch]:
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 4, count)
    x = draw.normal(0, 0.4, (count, _SIDE, _SIDE)).astype(np.float32)
    for picture, quarter in zip(x, y, strict=True):
        row, column = divmod(int(quarter), 2)
        picture[row * _HALF : (row + 1) * _HALF, column * _HALF : (column + 1) * _HALF] += 1
    return list(zip(torch.from_numpy(x).split(32), torch.from_numpy(y).split(32), strict=True))


def network() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, _SIDE)),
        nn.Conv2d(1, 16, 3, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24 * 4, 32),
        nn.ReLU(),
        nn.Linear(32, 4),
    )


@functools.cache
def _trained() -> nn.Module:
    torch.manual_seed(0)
    trained = network().train()
    optimizer = torch.optim.Adam(trained.parameters(), lr=0.01)
    for _ in range(3):
        for x, y in train_loader():
            optimizer.zero_grad()
            nn.functional.cross_entropy(trained(x), y).backward()
            optimizer.step()
    return trained.eval()


def model() -> nn.Module:
    return _trained()


def train_loader() -> list[Batch]:
    return _samples(320, 1)


def validation_loader() -> list[Batch]:
    return _samples(96, 2)


def calibration_loader() -> list[Batch]:
    return _samples(480, 3)
