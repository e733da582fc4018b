"""A network that computes as its quantized file will, and can be trained so.

Weights and activations are rounded to the grid of the file while gradients pass as if they were
not: the straight-through estimator (Bengio et al., arXiv:1308.3432), within the grid's range (Jacob
et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", arXiv:1712.05877). The grid is that of `ai-edge-quantizer` with the widths that
`controller.compress.quantize` gives:

- weights symmetric, real = q * s with s = max|w| / q_max for each output channel (or for the whole
  of a dense layer in `dynamic-int8`), q_max 127 or 7; depthwise ones float16 where activations are
  float;
- static activations affine, real = (q - z) * s, one range for a tensor: least and largest value of
  samples, 0 included, s = (high - low) / 255;
- dynamic activations the same with the range of each sample, before each integer layer.

Every operation is met where torch calls it, so that functions count as modules do: `x + y` too.
What is rounded is what an operation reads; activation functions, which files fuse with the layer
before them, pads and reshapes read what they are given.

Needs torch: only functions that train import this module.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from controller.compress.errors import CompressError
from controller.compress.quantize import STATIC, Form
from controller.compress.training.fold import Folded
from controller.compress.widths import Width

_LOW, _HIGH = -128, 127
_LEAST = 1e-9
"""The quantizer's own smallest range."""
_MOST = {Width.INT8: 127, Width.INT8_TENSOR: 127, Width.INT4: 7}
_CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d"})
_TRANSPOSED = frozenset({"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"})
_WITH_WEIGHTS = _CONVOLUTIONS | _TRANSPOSED | {"linear"}
_POOLS = frozenset({"avg_pool1d", "avg_pool2d", "avg_pool3d"})
"""What these give keeps the scale of what they read."""
_COMPUTING = (
    _WITH_WEIGHTS
    | _POOLS
    | {
        *("add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "rsub", "square", "pow"),
        *("matmul", "bmm", "mean", "sum", "adaptive_avg_pool1d", "adaptive_avg_pool2d"),
        *("batch_norm", "layer_norm", "softmax", "log_softmax", "sigmoid", "tanh", "hardswish"),
        *("hardsigmoid", "gelu", "silu", "elu", "leaky_relu", "prelu", "cat", "concat", "stack"),
        "interpolate",
    }
)

_GROUPS_AT = 6

Place = tuple[int, int]
"""Which operation of a run, and which of the tensors that it reads."""


class FakeQuantized(Folded):
    """A network on the grid of a form.

    It has to `observe` samples before it runs, and again when its weights have moved far.

    Args:
        folded: the network; it is trained in place.
        form: `int8`, `dynamic-int8` or `int4`.
    """

    def __init__(self, folded: Folded, form: Form) -> None:
        super().__init__(folded.network)
        self.form = form
        self._ranges: dict[Place, tuple[float, float]] = {}
        self._observes = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x to logits, as the file will."""
        run = _Run(self._activation, self.form)
        with run:
            answers = super().forward(x)
        return run.rounded(answers) if self.form in STATIC else answers

    def observe(self, x: torch.Tensor) -> None:
        """Take ranges of activations from samples [n, ...], with weights on the grid.

        Raises:
            CompressError: they are no numbers any more.
        """
        self._ranges, self._observes = {}, True
        self.eval()
        with torch.no_grad():
            for part in x.split(64):
                self(part)
        self._observes = False

    def settle(self, x: torch.Tensor) -> None:
        """Put the weights themselves on the grid, where a file's quantizer finds them again.

        Args:
            x: a sample with its batch axis.
        """
        run = _Run(lambda tensor, _place: tensor, self.form)
        self.eval()
        with torch.no_grad():
            with run:
                super().forward(x)
            for weight, values in run.weights:
                weight.copy_(values)

    def _activation(self, tensor: torch.Tensor, place: Place) -> torch.Tensor:
        if self._observes:
            low, high = tensor.min().item(), tensor.max().item()
            if not math.isfinite(high - low):
                raise CompressError(
                    f"cannot fine-tune: activations became {low} to {high}; try a lower --rate"
                )
            before = self._ranges.get(place, (0.0, 0.0))
            self._ranges[place] = min(low, before[0]), max(high, before[1])
            return tensor
        low, high = self._ranges[place]
        scale = max(high - low, _LEAST) / (_HIGH - _LOW)
        zero = round(_LOW - low / scale)
        rounded: torch.Tensor = torch.fake_quantize_per_tensor_affine(
            tensor, scale, zero, _LOW, _HIGH
        )
        return rounded


class _Run(TorchFunctionMode):  # type: ignore[misc, unused-ignore]  # Any without torch
    """What happens to each operation of one run.

    Args:
        static: rounds a tensor with the range of its place.
        form: of the file.
    """

    def __init__(self, static: Callable[[torch.Tensor, Place], torch.Tensor], form: Form) -> None:
        super().__init__()
        self.weights: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._static = static
        self._form = form
        self._operation = 0

    def __torch_function__(
        self,
        function: Any,  # noqa: ANN401 - torch's protocol
        _types: Sequence[type],
        arguments: Sequence[Any] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        name, named = getattr(function, "__name__", ""), named or {}
        if name not in _COMPUTING:
            return function(*arguments, **named)
        if name in _WITH_WEIGHTS:
            arguments = self._layer(name, arguments, named)
        elif self._form in STATIC:
            arguments = self._read(name, arguments)
        result = function(*arguments, **named)
        is_pool = name in _POOLS and self._form in STATIC
        return self._static(result, (self._operation - 1, 0)) if is_pool else result

    def rounded(self, tensor: torch.Tensor, at: int = 0) -> torch.Tensor:
        """Round what the operation after the last one reads, or what the network gives."""
        return self._static(tensor, (self._operation, at))

    def _layer(self, name: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        x, weight, *others = arguments
        width, axis = _width(self._form, name, weight, _groups(arguments, named))
        on_grid = on_weights_grid(weight, width, axis)
        self.weights.append((weight, on_grid))
        if self._form in STATIC:
            x = self.rounded(x)
            self._operation += 1
        elif width is not Width.FLOAT16:
            x = dynamic(x, per_row=name == "linear")
        return [x, on_grid, *others]

    def _read(self, name: str, arguments: Sequence[Any]) -> list[Any]:
        first = arguments[0]
        if isinstance(first, (list, tuple)):  # cat, stack
            read = [[self._real(one, at) for at, one in enumerate(first)], *arguments[1:]]
        elif name == "batch_norm":  # its numbers are constants of the file
            read = [self._real(first, 0), *arguments[1:]]
        else:
            read = [self._real(one, at) for at, one in enumerate(arguments)]
        if name.endswith("_") and read[0] is not first:  # who holds the tensor sees it changed
            read[0] = first.copy_(read[0])
        self._operation += 1
        return read

    def _real(self, argument: Any, at: int) -> Any:  # noqa: ANN401 - whatever an operation takes
        if isinstance(argument, torch.Tensor) and argument.is_floating_point():
            return self.rounded(argument, at)
        return argument


def on_weights_grid(weight: torch.Tensor, width: Width, axis: int) -> torch.Tensor:
    """Return weights on the grid of a width; gradients pass straight through.

    Args:
        weight: float32, its output channels along `axis`.
        width: float16, int8, one scale's int8, or int4.
        axis: see above.
    """
    if width is Width.FLOAT16:
        half: torch.Tensor = weight + (weight.detach().half().float() - weight.detach())
        return half
    most = _MOST[width]
    others = [number for number in range(weight.ndim) if number != axis]
    largest = weight.detach().abs()
    largest = largest.max() if width is Width.INT8_TENSOR else largest.amax(dim=others)
    scale = largest.clamp(min=_LEAST) / most
    if width is Width.INT8_TENSOR:
        scale = scale.expand(weight.shape[axis])
    zero = torch.zeros(len(scale), dtype=torch.int32)
    rounded: torch.Tensor = torch.fake_quantize_per_channel_affine(
        weight, scale.contiguous(), zero, axis, -most, most
    )
    return rounded


def dynamic(x: torch.Tensor, *, per_row: bool) -> torch.Tensor:
    """Return activations on a grid of 8 bits of their own; gradients pass straight through.

    Args:
        x: [n, ...].
        per_row: a range for each row of the last axis, as dense layers have it, else one for each
            sample.
    """
    with torch.no_grad():
        rows = x.flatten(0, -2) if per_row else x.flatten(1)
        low, high = rows.amin(1, keepdim=True).clamp(max=0), rows.amax(1, keepdim=True).clamp(min=0)
        scale = (high - low).clamp(min=_LEAST) / (_HIGH - _LOW)
        zero = (_LOW - low / scale).round()
        whole = ((rows / scale).round() + zero).clamp(_LOW, _HIGH)
        moved = ((whole - zero) * scale).reshape(x.shape) - x
    straight: torch.Tensor = x + moved
    return straight


def layer_width(layer: torch.nn.Module, form: Form) -> Width:
    """Return what the weights of a convolution or linear layer become in a form."""
    if isinstance(layer, torch.nn.Linear):
        name = "linear"
    else:
        name = "conv_transpose2d" if layer.transposed else "conv2d"
    return _width(form, name, layer.weight, getattr(layer, "groups", 1))[0]


def _groups(arguments: Sequence[Any], named: Mapping[str, Any]) -> int:
    at = _GROUPS_AT
    return int(named.get("groups", arguments[at] if len(arguments) > at else 1))


def _width(form: Form, name: str, weight: torch.Tensor, groups: int) -> tuple[Width, int]:
    """Return what a form stores a layer's weights as, and the axis of its output channels."""
    axis = 1 if name in _TRANSPOSED else 0
    if form in STATIC:
        return Width.INT8, axis
    if name in _CONVOLUTIONS and groups > 1 and weight.shape[1] == 1:
        return Width.FLOAT16, axis
    if form is Form.INT4 and name not in _TRANSPOSED:
        return Width.INT4, axis
    return (Width.INT8_TENSOR if name == "linear" else Width.INT8), axis
