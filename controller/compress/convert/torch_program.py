"""PyTorch exported programs (`.pt2`). Imported in the child alone."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from controller.compress.convert import torch_export
from controller.compress.convert.source import Arrays, Written, port
from controller.compress.errors import CompressError


class Program:
    """An exported program, as `convert.source.Source`.

    Raises:
        CompressError: it takes something else than tensors by position, or leaves axes open.
    """

    tools = torch_export.TOOLS

    def __init__(self, path: Path, name: str, shape: tuple[int, ...] | None) -> None:
        torch.set_num_threads(1)
        program = torch.export.load(path)
        self._network = _Flat(program.module())
        self.inputs = tuple(
            port(each, _dims(value), _dtype(value), shape, name)
            for each, value in _taken(program, name)
        )

    def run(self, arrays: Arrays) -> Arrays:
        """Answer one row of every input."""
        with torch.no_grad():
            return [each.numpy().copy() for each in self._network(*map(torch.from_numpy, arrays))]

    def write(self, path: Path, *, channels_last: bool) -> Written:
        """Write it as a `.tflite` file."""
        example = [
            torch.zeros(each.shape, dtype=getattr(torch, each.dtype)) for each in self.inputs
        ]
        with torch.no_grad():
            count = len(self._network(*example))
        names = [f"output_{number}" for number in range(count)]
        return torch_export.write(self._network, example, path, names, channels_last=channels_last)


class _Flat(nn.Module):  # type: ignore[misc, unused-ignore]  # Any without torch
    """A network that gives a list of tensors, whatever it has them in."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = False

    def forward(self, *taken: torch.Tensor) -> list[torch.Tensor]:
        found = torch.utils._pytree.tree_leaves(self.network(*taken))  # noqa: SLF001 - no other
        return [each for each in found if isinstance(each, torch.Tensor)]


def _taken(program: Any, name: str) -> list[tuple[str, Any]]:  # noqa: ANN401 - untyped without torch
    """Return the inputs of a program with the tensors that it was traced with."""
    arguments, keywords = (
        program.call_spec.in_spec.children_specs
        if hasattr(program.call_spec.in_spec, "children_specs")
        else program.call_spec.in_spec.children()
    )
    names = program.graph_signature.user_inputs
    traced = {node.name: node.meta.get("val") for node in program.graph.nodes}
    found = [(each, traced.get(each) if isinstance(each, str) else each) for each in names]
    nested = arguments.num_children != len(names) or keywords.num_children
    if nested or not all(isinstance(value, torch.Tensor) for _, value in found):
        raise CompressError(
            f"cannot convert {name}: it takes something else than tensors by position; export a "
            "module whose forward(self, x, ...) takes tensors alone"
        )
    return [(str(each), value) for each, value in found]


def _dims(value: Any) -> list[int | None]:  # noqa: ANN401
    return [dim if isinstance(dim, int) else None for dim in value.shape]


def _dtype(value: Any) -> str:  # noqa: ANN401
    return str(value.dtype).removeprefix("torch.")
