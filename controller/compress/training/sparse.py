"""Weights near zero made zero while a network learns: what is left makes up for them.

How many are zero follows a cubic curve (Zhu and Gupta, "To prune, or not to prune",
arXiv:1710.01878): most go early, while the rate is high. Which ones is told by LAMP (Lee et al.,
"Layer-adaptive Sparsity for the Magnitude-based Pruning", arXiv:2010.07611): a weight's square over
the sum of the squares, in its layer, that are no smaller. That compares layers without a share to
be set for each, and every layer keeps its largest weight.

Zeros save bytes over the air and parameters, not time.
"""

from typing import TYPE_CHECKING

from controller.compress.training.network import layers_run

if TYPE_CHECKING:
    import torch

_RAMP = 0.6
"""Share of the lesson in which zeros are added; in the rest what is left settles."""
_CHOICES = 24
"""How often weights are chosen anew on the way."""


class Masks:
    """Holds the weights of a network at zero. Call it after each step of a lesson.

    Args:
        network: its convolutions and linear layers are made sparse, in place.
        example: one sample with its batch axis.
        nonzero: how many of its parameters may be non-zero at the end; biases and norms count.
    """

    def __init__(self, network: "torch.nn.Module", example: "torch.Tensor", nonzero: float) -> None:
        found = {id(layer): layer.weight for layer, _ in layers_run(network, example)}
        self._weights: list[torch.Tensor] = list(found.values())
        self._all = sum(weight.numel() for weight in self._weights)
        others = sum(one.numel() for one in network.parameters()) - self._all
        self._kept = max(len(self._weights), min(self._all, int(nonzero - others)))
        self._masks: list[torch.Tensor] = []
        self._choice = -1

    def __call__(self, share: float) -> None:
        """Put weights to zero, `share` of the lesson being done."""
        import torch  # noqa: PLC0415

        ramp = min(1.0, share / _RAMP)
        choice = int(ramp * _CHOICES)
        with torch.no_grad():
            if choice != self._choice:
                self._choice = choice
                zeros = (self._all - self._kept) * (1 - (1 - choice / _CHOICES) ** 3)
                self._masks = chosen(self._weights, self._all - round(zeros))
            for weight, mask in zip(self._weights, self._masks, strict=True):
                weight.mul_(mask)


def chosen(weights: "list[torch.Tensor]", kept: int) -> "list[torch.Tensor]":
    """Return which weights stay, a boolean tensor for each of theirs.

    Args:
        weights: by layer.
        kept: how many stay, of all.
    """
    import torch  # noqa: PLC0415

    scores = [_lamp(weight.detach().flatten()) for weight in weights]
    together = torch.cat(scores)
    if kept >= len(together):
        return [torch.ones_like(weight, dtype=torch.bool) for weight in weights]
    least = together.kthvalue(len(together) - kept + 1).values
    return [(score >= least).view_as(weight) for score, weight in zip(scores, weights, strict=True)]


def _lamp(flat: "torch.Tensor") -> "torch.Tensor":
    import torch  # noqa: PLC0415

    squares = flat.double().square()
    order = squares.argsort(descending=True)
    falling = squares[order]
    scores = torch.empty_like(squares)
    scores[order] = falling / falling.cumsum(0).clamp_min(torch.finfo(torch.double).tiny)
    return scores
