"""From a torch network to a `.tflite` file, with litert-torch. Imported in the child alone."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch
from torch import nn

from controller.compress.convert.source import Written

TOOLS = tuple(f"{tool} {metadata.version(tool)}" for tool in ("litert-torch", "torch"))
"""What converts here, with versions."""
_AXES_OF_IMAGES = 4


def write(
    network: nn.Module,
    example: Sequence[torch.Tensor],
    path: Path,
    output_names: Sequence[str],
    *,
    channels_last: bool,
) -> Written:
    """Write a network as a file that takes what the example is.

    Args:
        network: takes tensors by position, gives a list of tensors; its state gets memory of its
            own.
        example: one tensor for every input.
        path: the file.
        output_names: one for every output.
        channels_last: move the channels of tensors with four axes to the end.
    """
    import litert_torch  # noqa: PLC0415 - it costs seconds, and a source may be refused before

    own_memory(network)
    with torch.no_grad():
        outputs = network(*example)
    moved_inputs = _images(example) if channels_last else frozenset()
    moved_outputs = _images(outputs) if channels_last else frozenset()
    wrapped = _Moved(network, moved_inputs, moved_outputs)
    taken = tuple(
        (each.movedim(1, -1) if number in moved_inputs else each).contiguous()
        for number, each in enumerate(example)
    )
    litert_torch.convert(wrapped, taken).export(str(path))
    return Written(
        inputs=tuple(f"args_{number}" for number in range(len(taken))),
        outputs=tuple(f"output_{number}" for number in range(len(outputs))),
        output_names=tuple(output_names),
        moved_inputs=moved_inputs,
        moved_outputs=moved_outputs,
    )


def own_memory(network: nn.Module) -> None:
    """Give every tensor of a network contiguous memory that no other shares.

    litert-torch 0.10 knows a constant by its address: a tensor that is a view of another, or whose
    copy takes a freed one's place, would silently get that one's values.
    """
    for tensor in [*network.parameters(), *network.buffers()]:
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
    for module in network.modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                setattr(module, name, value.clone(memory_format=torch.contiguous_format))


class _Moved(nn.Module):  # type: ignore[misc, unused-ignore]  # Any without torch
    """A network whose images are channels last outside, and channels first inside."""

    def __init__(self, network: nn.Module, inputs: frozenset[int], outputs: frozenset[int]) -> None:
        super().__init__()
        self.network, self.inputs, self.outputs = network, inputs, outputs
        self.training = False  # exported programs forbid eval(), which would say the same

    def forward(self, *taken: torch.Tensor) -> tuple[torch.Tensor, ...]:
        inner = [
            each.permute(0, 3, 1, 2) if number in self.inputs else each
            for number, each in enumerate(taken)
        ]
        return tuple(
            each.permute(0, 2, 3, 1) if number in self.outputs else each
            for number, each in enumerate(self.network(*inner))
        )


def _images(tensors: Sequence[torch.Tensor]) -> frozenset[int]:
    return frozenset(n for n, each in enumerate(tensors) if each.ndim == _AXES_OF_IMAGES)
