"""Which layer of a network is which layer of its file, and weights brought back from there.

A file's tools know more of a graph than a network's source tells: which channels can be put into
another order, for one. What they have done to a file comes back into the network so.

Needs torch: only functions that train import this module.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from controller.compress.graph import Graph
from controller.compress.layers import Layer, layers
from controller.compress.training.network import layers_run
from controller.compress.weights import weights

_OUTPUTS_FIRST = {"CONV_2D": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2)}
"""Axes of a file's kernels in torch's order: outputs, inputs, height, width."""


@dataclass(frozen=True, slots=True)
class Twin:
    """A layer of a network, and its place in the file.

    Attributes:
        name: of the module in the network.
        tensor: the file's tensor of its weights.
        bias: likewise, None where the file has none.
        kind: of the file's operator.
    """

    name: str
    tensor: int
    bias: int | None
    kind: str


def twins(network: nn.Module, example: torch.Tensor, graph: Graph) -> dict[str, Twin]:
    """Return those layers of a network that its file has, by name: found by their numbers.

    Args:
        network: of which the file was made.
        example: one sample with its batch axis.
        graph: the float32 file.
    """
    left = list(layers(graph))
    names = {id(module): name for name, module in network.named_modules()}
    run = {names[id(module)]: module for module, _ in layers_run(network, example)}
    found = {}
    for name, module in run.items():
        twin = next((layer for layer in left if _is_twin(module, graph, layer)), None)
        if twin is not None:
            left.remove(twin)
            found[name] = Twin(name, twin.weights, twin.bias, twin.kind)
    return found


def take_back(network: nn.Module, graph: Graph, known: Mapping[str, Twin]) -> None:
    """Put a file's weights and biases into a network; what the file stores once, it shares.

    Args:
        network: it is changed in place.
        graph: made from the network's file by tools that keep its tensors.
        known: the network's layers in the file.
    """
    with torch.no_grad():
        for twin in known.values():
            module = network.get_submodule(twin.name)
            values = _as_torch(graph, twin.tensor, twin.kind, tuple(module.weight.shape))
            module.weight.copy_(torch.from_numpy(values))
            if twin.bias is not None and module.bias is not None:
                module.bias.copy_(torch.from_numpy(graph.values(twin.bias).copy()))
    for stored in weights(graph):
        tie_modules(
            network, [twin.name for twin in known.values() if twin.tensor in stored.tensors]
        )


def tie_modules(network: nn.Module, names: Sequence[str]) -> None:
    """Let modules of a network share the first one's weight."""
    for name in names[1:]:
        network.get_submodule(name).weight = network.get_submodule(names[0]).weight


def _is_twin(module: nn.Module, graph: Graph, layer: Layer) -> bool:
    shape = tuple(module.weight.shape)
    if graph.type_name(layer.weights) != "float32" or getattr(module, "transposed", False):
        return False
    if np.prod(graph.shape(layer.weights)) != np.prod(shape):
        return False
    if graph.shape(layer.weights)[layer.channel_axis] != shape[0]:
        return False
    values = _as_torch(graph, layer.weights, layer.kind, shape)
    return bool(np.array_equal(values, module.weight.detach().numpy()))


def _as_torch(graph: Graph, tensor: int, kind: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    values = graph.values(tensor)
    order = _OUTPUTS_FIRST.get(kind)
    moved = values if order is None else values.transpose(order)
    back: NDArray[np.float32] = np.ascontiguousarray(moved, np.float32).reshape(shape)
    return back
