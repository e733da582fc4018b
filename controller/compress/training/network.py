"""Torch networks looked at: what they cost, which layer answers, how often they are right."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from controller.compress.errors import CompressError
from controller.compress.training.target import Size, file_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from controller.compress.training.protocol import Batch


def measured(network: "torch.nn.Module", example: "torch.Tensor", *, is_int8: bool) -> Size:
    """Return what a network costs, by running one sample through it.

    Multiply-accumulates are those of convolutions and linear layers: output elements times the
    kernel's elements that each of them reads.

    Args:
        network: in evaluation mode.
        example: one sample with its batch axis.
        is_int8: whether the file will be int8; for `Size.bytes`.
    """
    macs = weights = channels = 0
    run = layers_run(network, example)
    for layer, output in run:
        per_output = math.prod(layer.weight.shape[1:])
        if hasattr(layer, "transposed") and layer.transposed:
            per_output = layer.weight.numel() // layer.out_channels
        macs += output.numel() * per_output
    distinct = {id(layer): layer for layer, _ in run}.values()
    for layer in distinct:
        weights += layer.weight.numel()
        channels += layer.out_channels if hasattr(layer, "out_channels") else layer.out_features
    return Size(
        parameters=sum(p.numel() for p in network.parameters()),
        macs=macs,
        bytes=file_bytes(weights, channels, len(distinct), is_int8=is_int8),
    )


def layers_run(
    network: "torch.nn.Module", example: "torch.Tensor"
) -> list[tuple[Any, "torch.Tensor"]]:
    """Return the convolutions and linear layers in the order in which they run, with outputs."""
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415
    from torch.nn.modules.conv import _ConvNd  # noqa: PLC0415

    found: list[tuple[Any, torch.Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda layer, _, output: found.append((layer, output)))
        for layer in network.modules()
        if isinstance(layer, nn.Linear | _ConvNd)
    ]
    with torch.no_grad():
        network(example)
    for hook in hooks:
        hook.remove()
    return found


def answering_layer(network: "torch.nn.Module", example: "torch.Tensor") -> Any:  # noqa: ANN401
    """Return the layer whose outputs are the classes: the last one that runs.

    Raises:
        CompressError: the network has neither convolutions nor linear layers.
    """
    run = layers_run(network, example)
    if not run:
        raise CompressError("cannot cut channels: the network has no convolution or linear layer")
    return run[-1][0]


def logits(network: "torch.nn.Module", x: "torch.Tensor") -> NDArray[np.float32]:
    """Return the answers of a network, [n, classes]; it is left in evaluation mode."""
    import torch  # noqa: PLC0415

    network.eval()
    with torch.no_grad():
        rows: NDArray[np.float32] = network(x).numpy()
    return rows


def accuracy(network: "torch.nn.Module", batches: "Iterable[Batch]") -> float:
    """Return the share of samples that a network answers rightly."""
    return float(right_answers(network, batches).mean())


def right_answers(network: "torch.nn.Module", batches: "Iterable[Batch]") -> NDArray[np.bool_]:
    """Return of which samples a network finds the class, [n]."""
    return np.concatenate([logits(network, x).argmax(axis=1) == y.numpy() for x, y in batches])


def arrays(
    batches: "Iterable[Batch]", most: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return batches as arrays, x [n, ...] and y [n]; `most` ends them after so many samples."""
    xs: list[NDArray[np.float32]] = []
    ys: list[NDArray[np.int64]] = []
    total = 0
    for x, y in batches:
        xs.append(x.numpy())
        ys.append(y.numpy().astype(np.int64))
        total += len(y)
        if most is not None and total >= most:
            break
    return np.concatenate(xs)[:most], np.concatenate(ys)[:most]
