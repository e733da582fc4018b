"""What ONNX's operators are in torch. Imported in the child alone.

Each function takes a `Call` and returns the operator's output, or a list of them. Meanings are
those of the operator schemas of ONNX (github.com/onnx/onnx, docs/Operators.md), in the versions
that attributes and inputs tell apart; `Call.version` is the model's, where they do not.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

Value: TypeAlias = torch.Tensor | NDArray[Any]
Operator: TypeAlias = Callable[["Call"], torch.Tensor | Sequence[torch.Tensor]]

_SOFTMAX_OF_ONE_AXIS = 13
_TO_TORCH = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
}
"""ONNX's TensorProto.DataType."""


class UnsupportedError(Exception):
    """An operator is used in a way that is not converted."""


@dataclass
class Call:
    """One use of an operator.

    Attributes:
        kind: of the operator.
        attributes: of the node.
        names: of its inputs; empty: left out.
        given: their values; None: left out.
        version: of the model's operator set.
        as_tensor: makes a constant a tensor.
        outputs: how many are asked for.
    """

    kind: str
    attributes: dict[str, Any]
    names: Sequence[str]
    given: Sequence[Value | None]
    version: int
    as_tensor: Callable[[str, Value], torch.Tensor]
    outputs: int = field(default=1)

    def has(self, number: int) -> bool:
        """Whether an input is there."""
        return number < len(self.given) and self.given[number] is not None

    def tensor(self, number: int = 0) -> torch.Tensor:
        """Return an input as a tensor."""
        value = self.given[number]
        if value is None:
            raise UnsupportedError(f"input {number} is missing")
        return self.as_tensor(self.names[number], value)

    def tensors(self) -> list[torch.Tensor]:
        """Return all inputs as tensors."""
        return [self.tensor(number) for number in range(len(self.given))]

    def optional(self, number: int) -> torch.Tensor | None:
        """Return an input as a tensor; None: it is left out."""
        return self.tensor(number) if self.has(number) else None

    def known(self, number: int) -> NDArray[Any]:
        """Return an input that is a constant.

        Raises:
            UnsupportedError: it depends on what the model takes.
        """
        value = self.given[number]
        if not isinstance(value, np.ndarray):
            raise UnsupportedError(f"input {self.names[number]!r} depends on what the model takes")
        return value

    def numbers(self, number: int, attribute: str) -> list[int] | None:
        """Return integers that are an input in newer versions, an attribute in older ones."""
        if self.has(number):
            return [int(each) for each in self.known(number).ravel()]
        found = self.attributes.get(attribute)
        return None if found is None else [int(each) for each in np.ravel(found)]

    def attribute(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """Return an attribute of the node."""
        return self.attributes.get(name, default)


# --- windows: convolutions and pooling


def _pads(call: Call, size: Sequence[int], window: Sequence[int]) -> list[tuple[int, int]]:
    """Return the padding (before, after) of each axis of an image.

    Args:
        call: has the attributes.
        size: of the image.
        window: of the kernel, dilated.
    """
    rank = len(size)
    automatic = call.attribute("auto_pad", "NOTSET")
    if automatic in {"NOTSET", ""}:
        pads = call.attribute("pads", [0] * 2 * rank)
        return list(zip(pads[:rank], pads[rank:], strict=True))
    if automatic == "VALID":
        return [(0, 0)] * rank
    strides = call.attribute("strides", [1] * rank)
    found = []
    for length, extent, stride in zip(size, window, strides, strict=True):
        total = max(0, (math.ceil(length / stride) - 1) * stride + extent - length)
        less = total // 2
        found.append((less, total - less) if automatic == "SAME_UPPER" else (total - less, less))
    return found


def _extent(kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    return [(each - 1) * dilation + 1 for each, dilation in zip(kernel, dilations, strict=True)]


def _padded(
    x: torch.Tensor, pads: Sequence[tuple[int, int]], value: float
) -> tuple[torch.Tensor, list[int]]:
    """Return an image and the padding that is left to do, equal on both sides of each axis."""
    if all(before == after for before, after in pads):
        return x, [before for before, _ in pads]
    flat = [each for pair in reversed(pads) for each in pair]
    return functional.pad(x, flat, value=value), [0] * len(pads)


def _convolution(call: Call) -> torch.Tensor:
    x, weight = call.tensor(0), call.tensor(1)
    rank = x.ndim - 2
    dilations = call.attribute("dilations", [1] * rank)
    x, padding = _padded(x, _pads(call, x.shape[2:], _extent(weight.shape[2:], dilations)), 0.0)
    run = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
    strides, groups = call.attribute("strides", [1] * rank), call.attribute("group", 1)
    return run(x, weight, call.optional(2), strides, padding, dilations, groups)


def _transposed_convolution(call: Call) -> torch.Tensor:
    x, weight = call.tensor(0), call.tensor(1)
    rank = x.ndim - 2
    if call.attribute("auto_pad", "NOTSET") not in {"NOTSET", ""} or "output_shape" in (
        call.attributes
    ):
        raise UnsupportedError("only with explicit pads, without output_shape")
    pads = _pads(call, x.shape[2:], weight.shape[2:])
    if any(before != after for before, after in pads):
        raise UnsupportedError("only with equal pads on both sides")
    run = (
        functional.conv_transpose1d,
        functional.conv_transpose2d,
        functional.conv_transpose3d,
    )[rank - 1]
    return run(
        x,
        weight,
        call.optional(2),
        call.attribute("strides", [1] * rank),
        [before for before, _ in pads],
        call.attribute("output_padding", [0] * rank),
        call.attribute("group", 1),
        call.attribute("dilations", [1] * rank),
    )


def _max_pool(call: Call) -> torch.Tensor:
    if call.outputs > 1:
        raise UnsupportedError("only without indices")
    x, kernel = call.tensor(), call.attribute("kernel_shape")
    rank = len(kernel)
    dilations = call.attribute("dilations", [1] * rank)
    pads = _pads(call, x.shape[2:], _extent(kernel, dilations))
    x, padding = _padded(x, pads, float("-inf"))
    run = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[rank - 1]
    strides = call.attribute("strides", [1] * rank)
    return run(x, kernel, strides, padding, dilations, bool(call.attribute("ceil_mode", 0)))


def _average_pool(call: Call) -> torch.Tensor:
    x, kernel = call.tensor(), call.attribute("kernel_shape")
    rank = len(kernel)
    if any(each != 1 for each in call.attribute("dilations", [1] * rank)):
        raise UnsupportedError("only without dilations")
    pads = _pads(call, x.shape[2:], kernel)
    counted = bool(call.attribute("count_include_pad", 0))
    run = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[rank - 1]
    rest = (call.attribute("strides", [1] * rank), [0] * rank, bool(call.attribute("ceil_mode", 0)))
    if not any(map(any, pads)):
        return run(x, kernel, *rest)
    flat = [each for pair in reversed(pads) for each in pair]
    if counted:
        return run(functional.pad(x, flat), kernel, *rest)
    share = run(functional.pad(torch.ones_like(x), flat), kernel, *rest)
    return run(functional.pad(x, flat), kernel, *rest) / share


def _over_image(reduce: Callable[..., torch.Tensor]) -> Operator:
    return lambda call: reduce(call.tensor(), list(range(2, call.tensor().ndim)), keepdim=True)


# --- normalization


def _batch_normalization(call: Call) -> torch.Tensor:
    x, scale, shift, mean, variance = (call.tensor(number) for number in range(5))
    if call.attribute("training_mode", 0):
        raise UnsupportedError("it is in training mode; export the model in evaluation mode")
    epsilon = call.attribute("epsilon", 1e-5)
    return functional.batch_norm(x, mean, variance, scale, shift, training=False, eps=epsilon)


def _instance_normalization(call: Call) -> torch.Tensor:
    epsilon = call.attribute("epsilon", 1e-5)
    return functional.instance_norm(
        call.tensor(), weight=call.tensor(1), bias=call.tensor(2), eps=epsilon
    )


def _layer_normalization(call: Call) -> torch.Tensor:
    if call.outputs > 1:
        raise UnsupportedError("only its first output")
    x = call.tensor()
    shape = list(x.shape[call.attribute("axis", -1) :])
    epsilon = call.attribute("epsilon", 1e-5)
    return functional.layer_norm(x, shape, call.tensor(1), call.optional(2), epsilon)


def _group_normalization(call: Call) -> torch.Tensor:
    x, groups = call.tensor(), call.attribute("num_groups")
    weight, bias = call.tensor(1), call.tensor(2)
    if weight.shape[0] != x.shape[1]:  # before version 21 one for each group
        weight = weight.repeat_interleave(x.shape[1] // groups)
        bias = bias.repeat_interleave(x.shape[1] // groups)
    return functional.group_norm(x, groups, weight, bias, call.attribute("epsilon", 1e-5))


# --- matrices


def _gemm(call: Call) -> torch.Tensor:
    a, b = call.tensor(0), call.tensor(1)
    a = a.transpose(0, 1) if call.attribute("transA", 0) else a
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    if alpha == 1 and beta == 1 and call.attribute("transB", 0):
        bias = call.optional(2)
        flat = bias is None or bias.ndim == 1
        return functional.linear(a, b, bias) if flat else functional.linear(a, b) + bias
    b = b.transpose(0, 1) if call.attribute("transB", 0) else b
    product = alpha * (a @ b)
    return product + beta * call.tensor(2) if call.has(2) else product


# --- one tensor to another of its shape


def _clip(call: Call) -> torch.Tensor:
    low, high = call.attribute("min"), call.attribute("max")
    if call.has(1):
        low = call.known(1).item()
    if call.has(2):
        high = call.known(2).item()
    if low is None and high is None:
        return call.tensor()
    return (
        functional.relu6(call.tensor())
        if (low, high) == (0, 6)
        else (torch.clamp(call.tensor(), low, high))
    )


def _prelu(call: Call) -> torch.Tensor:
    x, slope = call.tensor(0), call.tensor(1)
    return torch.where(x < 0, x * slope, x)


def _hard_sigmoid(call: Call) -> torch.Tensor:
    alpha, beta = call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    return torch.clamp(alpha * call.tensor() + beta, 0, 1)


def _gelu(call: Call) -> torch.Tensor:
    return functional.gelu(call.tensor(), approximate=call.attribute("approximate", "none"))


def _soft(run: Callable[..., torch.Tensor]) -> Operator:
    """Softmax and its logarithm: over one axis, or, in old versions, all from it on."""

    def softmax(call: Call) -> torch.Tensor:
        x = call.tensor()
        if call.version >= _SOFTMAX_OF_ONE_AXIS:
            return run(x, call.attribute("axis", -1))
        axis = call.attribute("axis", 1) % max(1, x.ndim)
        if axis == x.ndim - 1:
            return run(x, axis)
        return run(x.flatten(axis), axis).reshape(x.shape)

    return softmax


def _cast(call: Call) -> torch.Tensor:
    target = _TO_TORCH.get(call.attribute("to"))
    if target is None:
        raise UnsupportedError(f"to data type {call.attribute('to')}")
    return call.tensor().to(target)


def _alone(run: Callable[[torch.Tensor], torch.Tensor]) -> Operator:
    return lambda call: run(call.tensor())


def _pair(run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Operator:
    return lambda call: run(call.tensor(0), call.tensor(1))


def _all(run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Operator:
    return lambda call: functools.reduce(run, call.tensors())


def _divide(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _mean(call: Call) -> torch.Tensor:
    return functools.reduce(torch.add, call.tensors()) / len(call.given)


def _modulo(call: Call) -> torch.Tensor:
    run = torch.fmod if call.attribute("fmod", 0) else torch.remainder
    return run(call.tensor(0), call.tensor(1))


# --- over axes


def _reduce(run: Callable[..., torch.Tensor]) -> Operator:
    def reduced(call: Call) -> torch.Tensor:
        x, axes = call.tensor(), call.numbers(1, "axes")
        if not axes:
            if call.attribute("noop_with_empty_axes", 0):
                return x
            axes = list(range(x.ndim))
        return run(x, axes, keepdim=bool(call.attribute("keepdims", 1)))

    return reduced


def _product(x: torch.Tensor, axes: list[int], *, keepdim: bool) -> torch.Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keepdim)
    return x


def _sum_of(inner: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda x, axes, keepdim: inner(x).sum(axes, keepdim=keepdim)


def _length(x: torch.Tensor, axes: list[int], *, keepdim: bool) -> torch.Tensor:
    return torch.sqrt((x * x).sum(axes, keepdim=keepdim))


def _log_sum(x: torch.Tensor, axes: list[int], *, keepdim: bool) -> torch.Tensor:
    return torch.log(x.sum(axes, keepdim=keepdim))


def _place(run: Callable[..., torch.Tensor]) -> Operator:
    def found(call: Call) -> torch.Tensor:
        if call.attribute("select_last_index", 0):
            raise UnsupportedError("only the first of equals")
        keep = bool(call.attribute("keepdims", 1))
        return run(call.tensor(), call.attribute("axis", 0), keepdim=keep)

    return found


# --- shapes


def _reshape(call: Call) -> torch.Tensor:
    x, shape = call.tensor(), call.numbers(1, "shape") or []
    if not call.attribute("allowzero", 0):
        shape = [x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    return x.reshape(shape)


def _flatten(call: Call) -> torch.Tensor:
    x, axis = call.tensor(), call.attribute("axis", 1)
    rows = math.prod(x.shape[: axis if axis >= 0 else x.ndim + axis])
    return x.reshape(rows, -1)


def _transpose(call: Call) -> torch.Tensor:
    x = call.tensor()
    return x.permute(call.attribute("perm", list(reversed(range(x.ndim)))))


def _squeeze(call: Call) -> torch.Tensor:
    axes = call.numbers(1, "axes")
    return call.tensor().squeeze() if axes is None else call.tensor().squeeze(axes)


def _unsqueeze(call: Call) -> torch.Tensor:
    x, axes = call.tensor(), call.numbers(1, "axes") or []
    rank = x.ndim + len(axes)
    for axis in sorted(each % rank for each in axes):
        x = x.unsqueeze(axis)
    return x


def _concatenate(call: Call) -> torch.Tensor:
    return torch.cat(call.tensors(), call.attribute("axis"))


def _split(call: Call) -> Sequence[torch.Tensor]:
    x, axis = call.tensor(), call.attribute("axis", 0)
    sizes = call.numbers(1, "split")
    if sizes is None:
        each = math.ceil(x.shape[axis] / call.outputs)
        return torch.split(x, each, axis)  # type: ignore[no-any-return, unused-ignore]
    return torch.split(x, sizes, axis)  # type: ignore[no-any-return, unused-ignore]


def _slice(call: Call) -> torch.Tensor:
    x = call.tensor()
    starts, ends = call.numbers(1, "starts") or [], call.numbers(2, "ends") or []
    axes = call.numbers(3, "axes") or list(range(len(starts)))
    steps = call.numbers(4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        taken = range(x.shape[axis])[start:end:step]
        if step > 0:
            where = [slice(None)] * (axis % x.ndim) + [slice(taken.start, taken.stop, step)]
            x = x[tuple(where)]
        else:
            x = x.index_select(axis, torch.tensor(list(taken)))
    return x


def _gather(call: Call) -> torch.Tensor:
    x, axis = call.tensor(), call.attribute("axis", 0)
    if isinstance(call.given[1], np.ndarray) and call.known(1).ndim == 0:
        return x.select(axis, int(call.known(1)))
    places = call.tensor(1).long()
    places = torch.where(places < 0, places + x.shape[axis], places)
    shape = (*x.shape[: axis % x.ndim], *places.shape, *x.shape[axis % x.ndim + 1 :])
    return x.index_select(axis, places.flatten()).reshape(shape)


def _expand(call: Call) -> torch.Tensor:
    x = call.tensor()
    shape = torch.broadcast_shapes(tuple(x.shape), tuple(call.numbers(1, "shape") or ()))
    return x.expand(shape)


def _tile(call: Call) -> torch.Tensor:
    return call.tensor().repeat(call.numbers(1, "repeats"))


def _pad(call: Call) -> torch.Tensor:
    x, pads = call.tensor(), call.numbers(1, "pads") or []
    value = float(call.known(2).item()) if call.has(2) else call.attribute("value", 0.0)
    axes = [axis % x.ndim for axis in call.numbers(3, "axes") or range(x.ndim)]
    of_axis = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))
    flat = [size for axis in reversed(range(x.ndim)) for size in of_axis.get(axis, (0, 0))]
    mode = call.attribute("mode", "constant")
    if mode == "constant":
        return functional.pad(x, flat, value=value)
    while flat[-2:] == [0, 0]:
        flat = flat[:-2]
    names = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    return functional.pad(x, flat, mode=names[mode])


def _depth_to_space(call: Call) -> torch.Tensor:
    x, block = call.tensor(), call.attribute("blocksize")
    batch, channels, height, width = x.shape
    if call.attribute("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(x, block)
    x = x.reshape(batch, block, block, channels // block**2, height, width)
    x = x.permute(0, 3, 4, 1, 5, 2)
    return x.reshape(batch, channels // block**2, height * block, width * block)


def _space_to_depth(call: Call) -> torch.Tensor:
    x, block = call.tensor(), call.attribute("blocksize")
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // block, block, width // block, block)
    x = x.permute(0, 3, 5, 1, 2, 4)
    return x.reshape(batch, channels * block**2, height // block, width // block)


def _resize(call: Call) -> torch.Tensor:
    """Return an image of another size: nearest or linear, as torch and TensorFlow do it."""
    x = call.tensor()
    scales, sizes = (1, None) if call.kind == "Upsample" else (2, 3)
    if sizes is not None and call.has(sizes) and call.known(sizes).size:
        target = [int(each) for each in call.known(sizes)]
    else:
        factors = call.known(scales) if call.has(scales) else call.attribute("scales")
        target = [math.floor(size * factor) for size, factor in zip(x.shape, factors, strict=True)]
    if "axes" in call.attributes or tuple(target[:2]) != tuple(x.shape[:2]):
        raise UnsupportedError("only height and width of [n, c, h, w]")
    mode = call.attribute("mode", "nearest")
    upsample = "asymmetric" if call.kind == "Upsample" else "half_pixel"
    how = call.attribute("coordinate_transformation_mode", upsample)
    if mode == "nearest":
        return _nearest(call, x, target[2:], how)
    if mode != "linear" or how not in {"half_pixel", "pytorch_half_pixel", "align_corners"}:
        raise UnsupportedError(f"mode {mode} with {how} coordinates")
    corners = how == "align_corners"
    return functional.interpolate(x, target[2:], mode="bilinear", align_corners=corners)


def _nearest(call: Call, x: torch.Tensor, size: list[int], how: str) -> torch.Tensor:
    whole = all(new % old == 0 for new, old in zip(size, x.shape[2:], strict=True))
    rounding = call.attribute("nearest_mode", "round_prefer_floor")
    floors = how == "asymmetric" and (rounding == "floor" or call.kind == "Upsample")
    if not floors and not (whole and how == "half_pixel" and rounding != "floor"):
        raise UnsupportedError(f"nearest with {how} coordinates and {rounding}")
    return functional.interpolate(x, size, mode="nearest")


def _einsum(call: Call) -> torch.Tensor:
    return torch.einsum(call.attribute("equation"), *call.tensors())


def _dropout(call: Call) -> torch.Tensor:
    return call.tensor()


def _log_sum_exp(x: torch.Tensor, axes: list[int], *, keepdim: bool) -> torch.Tensor:
    return torch.logsumexp(x, axes, keepdim=keepdim)


OPERATORS: dict[str, Operator] = {
    "Abs": _alone(torch.abs),
    "Add": _pair(torch.add),
    "And": _pair(torch.logical_and),
    "ArgMax": _place(torch.argmax),
    "ArgMin": _place(torch.argmin),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Ceil": _alone(torch.ceil),
    "Clip": _clip,
    "Concat": _concatenate,
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "Cos": _alone(torch.cos),
    "DepthToSpace": _depth_to_space,
    "Div": _pair(_divide),
    "Dropout": _dropout,
    "Einsum": _einsum,
    "Elu": lambda call: functional.elu(call.tensor(), call.attribute("alpha", 1.0)),
    "Equal": _pair(torch.eq),
    "Erf": _alone(torch.erf),
    "Exp": _alone(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": _alone(torch.floor),
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _over_image(torch.mean),
    "GlobalMaxPool": _over_image(torch.amax),
    "Greater": _pair(torch.gt),
    "GreaterOrEqual": _pair(torch.ge),
    "GroupNormalization": _group_normalization,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _alone(functional.hardswish),
    "Identity": _alone(lambda x: x),
    "InstanceNormalization": _instance_normalization,
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": lambda call: functional.leaky_relu(call.tensor(), call.attribute("alpha", 0.01)),
    "Less": _pair(torch.lt),
    "LessOrEqual": _pair(torch.le),
    "Log": _alone(torch.log),
    "LogSoftmax": _soft(torch.log_softmax),
    "MatMul": _pair(torch.matmul),
    "Max": _all(torch.maximum),
    "MaxPool": _max_pool,
    "Mean": _mean,
    "Min": _all(torch.minimum),
    "Mish": _alone(functional.mish),
    "Mod": _modulo,
    "Mul": _pair(torch.mul),
    "Neg": _alone(torch.neg),
    "Not": _alone(torch.logical_not),
    "Or": _pair(torch.logical_or),
    "PRelu": _prelu,
    "Pad": _pad,
    "Pow": _pair(torch.pow),
    "Reciprocal": _alone(torch.reciprocal),
    "ReduceL1": _reduce(_sum_of(torch.abs)),
    "ReduceL2": _reduce(_length),
    "ReduceLogSum": _reduce(_log_sum),
    "ReduceLogSumExp": _reduce(_log_sum_exp),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceMin": _reduce(torch.amin),
    "ReduceProd": _reduce(_product),
    "ReduceSum": _reduce(torch.sum),
    "ReduceSumSquare": _reduce(_sum_of(torch.square)),
    "Relu": _alone(functional.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Round": _alone(torch.round),
    "Selu": _alone(functional.selu),
    "Sigmoid": _alone(torch.sigmoid),
    "Sign": _alone(torch.sign),
    "Sin": _alone(torch.sin),
    "Slice": _slice,
    "Softmax": _soft(torch.softmax),
    "Softplus": _alone(functional.softplus),
    "Softsign": _alone(functional.softsign),
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Sqrt": _alone(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _pair(torch.sub),
    "Sum": _all(torch.add),
    "Swish": _alone(functional.silu),
    "Tanh": _alone(torch.tanh),
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": _resize,
    "Where": lambda call: torch.where(call.tensor(0), call.tensor(1), call.tensor(2)),
}
