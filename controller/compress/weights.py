"""The weights of a model's layers, each stored array once, however many layers read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.compress.anatomy import dissect
from controller.compress.graph import Graph
from controller.compress.layers import Layer, layers
from protocols.packing import sent_bytes


@dataclass(frozen=True, slots=True)
class Weights:
    """One stored array of weights.

    Attributes:
        layer: the first layer that reads it.
        tensors: all the layers' tensors that lie in its buffer and mean the same by zero.
    """

    layer: Layer
    tensors: tuple[int, ...]

    @property
    def tensor(self) -> int:
        """The first layer's tensor."""
        return self.tensors[0]


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a model file takes.

    Attributes:
        file_bytes: of the file.
        wire_bytes: of the file as delivery packs it: what goes over the air.
        parameters: learned numbers, also those that pass a DEQUANTIZE; what several layers share
            counts once.
        nonzero: those of them that do not stand for zero.
    """

    file_bytes: int
    wire_bytes: int
    parameters: int
    nonzero: int


def weights(graph: Graph) -> tuple[Weights, ...]:
    """Return the stored weights of a model, in the order in which they are first read."""
    found: dict[tuple[object, ...], list[Layer]] = {}
    for layer in layers(graph):
        found.setdefault(_place(graph, layer.weights), []).append(layer)
    return tuple(
        Weights(readers[0], tuple(dict.fromkeys(layer.weights for layer in readers)))
        for readers in found.values()
    )


def put(graph: Graph, stored: Weights, values: NDArray[Any]) -> None:
    """Put other values into stored weights; the layers that share them go on sharing."""
    graph.replace(stored.tensor, values)
    for tensor in stored.tensors[1:]:
        graph.share_buffer(tensor, stored.tensor)


def why_fixed(graph: Graph, tensor: int) -> str:
    """Say why a constant's numbers cannot be changed one by one; empty: they can."""
    if graph.is_sparse(tensor):
        return "its weights are stored as a sparse tensor"
    if graph.dtype(tensor) is None:
        return f"its weights are {graph.type_name(tensor)}, which stores several in one byte"
    return ""


def why_nothing(reasons: Sequence[str]) -> str:
    """Say why no layer of a model could be treated, from what was said of each."""
    return "; ".join(sorted({reason for reason in reasons if reason})) or (
        "none of its layers has constant weights (those of a float16 file pass a DEQUANTIZE; "
        "take the float32 or int8 form)"
    )


def relative_error(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Return the root mean square of a change over that of what was there."""
    whole = float(np.square(before, dtype=np.float64).sum())
    moved = float(np.square(np.subtract(after, before, dtype=np.float64)).sum())
    return float(np.sqrt(moved / whole)) if whole else 0.0


def zero_of(graph: Graph, tensor: int) -> NDArray[np.int64]:
    """Return the stored number that stands for zero, in a shape that goes with the tensor."""
    scale = graph.scale(tensor)
    if scale is None:
        return np.zeros((), np.int64)
    return scale.broadcast(len(graph.shape(tensor)))[1]


def wire_bytes(content: bytes) -> int:
    """Return how many bytes something takes over the air: packed as delivery packs it."""
    return sent_bytes(content)


def footprint(content: bytes, name: str) -> Footprint:
    """Measure a model file.

    Raises:
        CompressError: it is none.
    """
    found = dissect(content, name)
    return Footprint(len(content), wire_bytes(content), found.parameters, found.nonzero)


def wire_by_tensor(graph: Graph, stored: Weights) -> int:
    """Return how many bytes stored weights take over the air on their own."""
    return wire_bytes(graph.values(stored.tensor).tobytes())


def by_layer(graph: Graph) -> Mapping[int, Weights]:
    """Return the stored weights that each layer's tensor lies in."""
    return {tensor: stored for stored in weights(graph) for tensor in stored.tensors}


def _place(graph: Graph, tensor: int) -> tuple[object, ...]:
    zero = zero_of(graph, tensor)
    zeros = np.unique(zero).tolist() if np.ptp(zero) == 0 else (tensor,)
    return graph.buffer(tensor), graph.type_name(tensor), tuple(zeros)
