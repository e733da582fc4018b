"""A training module for tests: the pictures of `blobs`, and a network with layers of one shape."""

import functools

import torch
from torch import nn

from tests.controller.compress.training.blobs import (
    calibration_loader,
    train_loader,
    validation_loader,
)

__all__ = ["calibration_loader", "model", "train_loader", "validation_loader"]


class _Block(nn.Module):  # type: ignore[misc, unused-ignore]  # Any without torch
    """Two convolutions beside a way around them: the channels between them are free."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [n, c, h, w] to the same shape."""
        around: torch.Tensor = x + self.second(torch.relu(self.norm(self.first(x))))
        return around


@functools.cache
def model() -> nn.Module:
    """Train the network and return it."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        nn.Conv2d(1, 8, 3, 2, 1),
        nn.ReLU(),
        _Block(8),
        nn.Flatten(),
        nn.Linear(8 * 16, 4),
    ).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(3):
        for x, y in train_loader():
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
    return network.eval()
