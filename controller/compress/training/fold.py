"""Batch norms folded into the layers before them, as the converter folds them.

What is stored is the folded weight. Whoever trains weights for the file (on its grid, or shared by
two layers) has to train that one: before folding two equal weights become unequal, and another
largest weight of a channel sets its scale.

Needs torch: only functions that train import this module.
"""

import copy
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

_TOLERANCE = 1e-4
"""Of the largest output: sums of float32 in another order differ by some 1e-6 of it."""
_FOLDABLE = (nn.Linear, _ConvNd)


class Folded(nn.Module):  # type: ignore[misc, unused-ignore]  # Any without torch
    """A network whose batch norms, those that could not be folded away, stay as they are.

    Args:
        network: it is not copied.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map what the network maps."""
        answers: torch.Tensor = self.network(x)
        return answers

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's own signature
        """Set the mode of everything but batch norms: they would forget what was folded."""
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval()
        return self


@dataclass(frozen=True, slots=True)
class _Site:
    """A batch norm, and the layer whose output it reads, by their names in the network."""

    layer: str
    norm: str


def folded(network: nn.Module, x: torch.Tensor) -> Folded:
    """Return a copy of a network with its batch norms folded into convolutions and linear layers.

    A batch norm that reads something else, or that is not alone in reading a layer's output,
    cannot be folded and stays. Each fold is tried on samples.

    Args:
        network: in evaluation mode; it stays as it is.
        x: some samples, [n, ...].
    """
    made = copy.deepcopy(network).eval()
    with torch.no_grad():
        expected = made(x)
        for site in _sites(made, x):
            layer, norm = made.get_submodule(site.layer), made.get_submodule(site.norm)
            _replace(made, site.layer, _fused(layer, norm))
            _replace(made, site.norm, nn.Identity())
            if not _equal(made(x), expected):
                _replace(made, site.layer, layer)
                _replace(made, site.norm, norm)
    return Folded(made)


def _sites(network: nn.Module, x: torch.Tensor) -> list[_Site]:
    """Return where a batch norm reads a layer's output, of modules that run once."""
    wrote: dict[int, str] = {}
    held: list[torch.Tensor] = []  # an address is not given to another tensor meanwhile
    runs: dict[str, int] = {}
    found: list[_Site] = []

    def look(name: str, module: nn.Module, reads: Any, output: torch.Tensor) -> None:  # noqa: ANN401 - torch's hook
        runs[name] = runs.get(name, 0) + 1
        if isinstance(module, _BatchNorm) and id(reads[0]) in wrote:
            found.append(_Site(wrote[id(reads[0])], name))
        elif isinstance(module, _FOLDABLE):
            held.append(output)
            wrote[id(output)] = name

    hooks = [
        module.register_forward_hook(
            lambda module, reads, output, name=name: look(name, module, reads, output)
        )
        for name, module in network.named_modules()
        if isinstance(module, (_BatchNorm, *_FOLDABLE))
    ]
    network(x)
    for hook in hooks:
        hook.remove()
    return [site for site in found if runs[site.layer] == runs[site.norm] == 1]


def _fused(layer: nn.Module, norm: nn.Module) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return fuse_linear_bn_eval(layer, norm)
    transposed = bool(getattr(layer, "transposed", False))
    return fuse_conv_bn_eval(layer, norm, transpose=transposed)


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)


def _equal(given: torch.Tensor, expected: torch.Tensor) -> bool:
    apart, largest = (given - expected).abs().max(), expected.abs().max().clamp(min=1)
    return bool(apart <= _TOLERANCE * largest)
