"""A small head on features: what gives classes early, of a size that is asked for."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from controller.compress.errors import CompressError
from controller.compress.training.export import to_int8, to_tflite
from controller.compress.training.hush import hushed
from controller.compress.training.network import measured
from controller.compress.training.target import Size, Target, of

if TYPE_CHECKING:
    import torch

_WIDEST = 1024
_IMAGE_RANK = 4
_SMALLEST_STRIDED = 4
"""Pixels of the shorter side from which the head halves them."""
_POOLED = 4


def fitted_head(
    features: "torch.Tensor",
    classes: int,
    target: Target,
    original: Size,
    *,
    is_int8: bool,
    channels_last: bool = False,
) -> "tuple[torch.nn.Module, Size]":
    """Return the widest head within a target, with random weights, and what it costs.

    Args:
        features: of one sample, its batch axis of 1 included; images have channels first.
        classes: that it tells apart.
        target: of the head alone; a share is one of the original.
        original: what the whole network costs.
        is_int8: whether its file will be int8; for a target in bytes.
        channels_last: whether its file takes the features so; for a target in bytes, too.

    Raises:
        CompressError: not even the narrowest is within it.
    """
    (limit,) = target.milestones(original, 1)

    def size(width: int, beyond: int = 0) -> Size:
        found = measured(head(features.shape, classes, width), features, is_int8=is_int8)
        return replace(found, bytes=found.bytes + beyond)

    def within(width: int, beyond: int = 0) -> bool:
        return of(size(width, beyond), target.measure) <= limit

    width, beyond = _widest(within), 0
    if target.measure == "bytes":
        x = features.movedim(1, -1) if channels_last else features
        seen = _used(head(features.shape, classes, width), features)
        file = head_file(seen, x, "a head", channels_last=channels_last)
        file = to_int8(file, x.numpy(), "a head") if is_int8 else file
        beyond = len(file) - size(width).bytes
        width = _widest(lambda width: within(width, beyond))
    if not within(width, beyond):
        smallest = of(size(width, beyond), target.measure)
        raise CompressError(
            f"cannot make a head of {target.measure} {limit:,.0f} on features "
            f"{list(features.shape[1:])}: the smallest has {smallest:,}; allow more, or cut behind "
            "a layer that gives fewer"
        )
    return head(features.shape, classes, width), size(width, beyond)


def head(shape: Sequence[int], classes: int, width: int) -> "torch.nn.Module":
    """Return a head with random weights, in evaluation mode.

    On images [n, c, h, w]: a 1 by 1 and a 3 by 3 convolution, pooled to at most 7 by 7, and a
    linear layer. On anything else: one hidden layer over all values.

    Args:
        shape: of the features, the batch axis included.
        classes: that it tells apart.
        width: channels of its layers.
    """
    from torch import nn  # noqa: PLC0415

    if len(shape) != _IMAGE_RANK:
        values = 1
        for n in shape[1:]:
            values *= n
        hidden = nn.Linear(values, width)
        return nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), nn.Linear(width, classes)).eval()
    _, channels, height, breadth = shape
    stride = 2 if min(height, breadth) >= _SMALLEST_STRIDED else 1
    rows, columns = (-(-side // stride) for side in (height, breadth))
    pool = max(1, rows // _POOLED), max(1, columns // _POOLED)
    left = (rows // pool[0]) * (columns // pool[1])
    return nn.Sequential(
        nn.Conv2d(channels, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, stride, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        *([nn.AvgPool2d(pool)] if pool != (1, 1) else []),
        nn.Flatten(),
        nn.Linear(width * left, classes),
    ).eval()


def head_file(
    network: "torch.nn.Module", x: "torch.Tensor", name: str, *, channels_last: bool
) -> bytes:
    """Return a head as a float32 file.

    Args:
        network: the head.
        x: some features, [n, ...], as the file takes them.
        name: for messages.
        channels_last: whether the file takes them with the channels as the last axis.

    Raises:
        CompressError: as `to_tflite`.
    """
    with hushed():
        import litert_torch  # noqa: PLC0415

    if channels_last:
        network = litert_torch.to_channel_last_io(network, args=[0]).eval()
    return to_tflite(network, x, name)


def _used(network: "torch.nn.Module", features: "torch.Tensor") -> "torch.nn.Module":
    """Return a head that has seen something: a new one has zeros that a file stores once."""
    import torch  # noqa: PLC0415

    network.train()
    network(torch.rand(2, *features.shape[1:]))
    return network.eval()


def _widest(is_within: Callable[[int], bool]) -> int:
    """Return the largest width that is within a limit; 1 if none is."""
    low, high = 1, _WIDEST + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_within(middle) else (low, middle)
    return low
