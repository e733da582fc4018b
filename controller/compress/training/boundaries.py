"""Where a network can be cut so that a second reader fits: layers whose output crosses alone.

A layer's output is a boundary if the exported file hands it over at a legal cut of one tensor
(`controller.compress.cuts`): everything behind reads that tensor and nothing else before it. Which
tensor of the file a layer's output is, is found by its values on some samples: converters rename,
fold a convolution, its batch norm and its activation into one operator, and put channels last.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from controller.compress.cuts import Cut, legal_cuts
from controller.compress.errors import CompressError
from controller.compress.split import read_flow
from controller.compress.training.hush import hushed

if TYPE_CHECKING:
    import torch

_TOLERANCE = 1e-3
"""Of the largest value: float32 sums taken in another order differ by some 1e-5 of it."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """A layer behind which a network can be cut.

    Attributes:
        layer: name of the module, as `named_modules` has it.
        tensor: name of its output in the exported file.
        channels_last: the file has it with the channels as the last axis, the network as the first
            one behind the batch.
        shape: of one sample in the file, its batch axis of 1 included.
        share: of the network's multiply-accumulates that lie before it.
    """

    layer: str
    tensor: str
    channels_last: bool
    shape: tuple[int, ...]
    share: float


def boundaries(
    network: "torch.nn.Module", x: "torch.Tensor", content: bytes, name: str
) -> tuple[Boundary, ...]:
    """Return the boundaries of a network, in the order in which its layers end.

    Several layers may stand for one tensor (a block, and the last layer in it).

    Args:
        network: in evaluation mode.
        x: some samples, [n, ...], on which file and network are compared.
        content: the network as a float32 file.
        name: for messages.

    Raises:
        CompressError: the file has control flow, and cannot be cut at all.
    """
    flow = read_flow(content, name)
    cuts = legal_cuts(flow)
    values = _file_values(content, x.numpy(), [cut.tensors[0] for cut in cuts])
    found = []
    for layer, output in _outputs(network, x).items():
        for cut in cuts:
            tensor = cut.tensors[0]
            last = _layout(output, values[tensor])
            if last is not None:
                found.append(
                    Boundary(
                        layer=layer,
                        tensor=flow.graph.tensor_name(tensor),
                        channels_last=last,
                        shape=flow.graph.shape(tensor),
                        share=_share(cut),
                    )
                )
                break
    return tuple(found)


def boundary(found: Sequence[Boundary], layer: str, network: "torch.nn.Module") -> Boundary:
    """Return the boundary behind a layer.

    Raises:
        CompressError: there is no such layer, or the network cannot be cut behind it.
    """
    for one in found:
        if one.layer == layer:
            return one
    named = dict(network.named_modules())
    why = "there is no such layer"
    if layer in named:
        why = (
            "no tensor of the exported file is its output and alone hands over to what follows "
            "(the converter folds it into its neighbours, or something passes it by)"
        )
    known = ", ".join(one.layer for one in distinct(found)) or "none"
    raise CompressError(
        f"cannot cut the network behind {layer!r}: {why}; it can be cut behind: {known}"
    )


def distinct(found: Sequence[Boundary]) -> tuple[Boundary, ...]:
    """Return one boundary for each tensor, in order: the one whose layer has the shortest name."""
    best: dict[str, Boundary] = {}
    for one in found:
        if one.tensor not in best or len(one.layer) < len(best[one.tensor].layer):
            best[one.tensor] = one
    return tuple(sorted(best.values(), key=lambda one: one.share))


def spread(found: Sequence[Boundary], most_share: float, count: int) -> tuple[Boundary, ...]:
    """Return at most so many boundaries, from the earliest to the latest, evenly by share. Pure.

    Args:
        found: candidates.
        most_share: of the multiply-accumulates; what lies behind it is left out.
        count: how many at most.
    """
    near = [one for one in distinct(found) if 0 < one.share <= most_share]
    if len(near) <= count:
        return tuple(near)
    wanted = np.linspace(near[0].share, near[-1].share, count)
    shares = np.array([one.share for one in near])
    nearest = {int(np.abs(shares - at).argmin()) for at in wanted}
    return tuple(near[index] for index in sorted(nearest))


def _share(cut: Cut) -> float:
    return cut.macs_before / max(1, cut.macs_before + cut.macs_after)


def _outputs(network: "torch.nn.Module", x: "torch.Tensor") -> "dict[str, torch.Tensor]":
    """Return what every layer gives that runs once and gives one tensor, in the order of ends."""
    import torch  # noqa: PLC0415

    given: list[tuple[str, Any]] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, output, name=name: given.append((name, output)))
        for name, layer in network.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            network(x)
    finally:
        for hook in hooks:
            hook.remove()
    runs = Counter(name for name, _ in given)
    return {
        name: output
        for name, output in given
        if runs[name] == 1 and isinstance(output, torch.Tensor) and len(output) == len(x)
    }


def _file_values(
    content: bytes, x: NDArray[np.float32], tensors: Sequence[int]
) -> Mapping[int, NDArray[np.float32]]:
    """Return what tensors of a float32 file hold, [n, ...] each."""
    with hushed():
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

        interpreter = Interpreter(model_content=content, experimental_preserve_all_tensors=True)
        interpreter.allocate_tensors()
        rows: dict[int, list[NDArray[np.float32]]] = {tensor: [] for tensor in tensors}
        for sample in x:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample[np.newaxis])
            interpreter.invoke()
            for tensor in tensors:
                rows[tensor].append(interpreter.get_tensor(tensor))
    return {tensor: np.concatenate(found) for tensor, found in rows.items()}


def _layout(output: "torch.Tensor", values: NDArray[np.float32]) -> bool | None:
    """Return whether a tensor of the file is a layer's output with channels last; None: neither."""
    plain = output.numpy()
    if _equal(plain, values):
        return False
    return True if plain.ndim > 2 and _equal(np.moveaxis(plain, 1, -1), values) else None  # noqa: PLR2004 - [n, c] has no other layout


def _equal(one: NDArray[Any], other: NDArray[np.float32]) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype or not one.size:
        return False
    largest = float(np.abs(one).max())
    return largest > 0 and float(np.abs(one - other).max()) <= _TOLERANCE * largest
