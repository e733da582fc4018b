"""From a user's sample to a model's input tensor, and from an output tensor to real values."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.bundle import SampleSpec, TensorSpec
from protocols.errors import SluiceError

Spec = TensorSpec | SampleSpec

_NARROW_BYTES = 2
_BOOL_RANGE = (0, 1)


class TensorError(SluiceError):
    """Values cannot become the tensor that is wanted."""


def conform(sample: NDArray[Any], spec: Spec) -> NDArray[Any]:
    """Make one sample an input tensor of a model.

    The dtype of the tensor passes through as it is (an int8 sample for an int8 model is quantized
    already). Anything else is a real value: it is quantized where the tensor is, else cast.
    The shape may differ as long as the elements are as many: a batch axis of 1 or none, flat or
    image.

    Args:
        sample: any shape with `spec.elements` elements, any dtype of `protocols.bundle.DType`.
        spec: the input tensor.

    Returns:
        An array of `spec.shape` and `spec.dtype`; a view of the sample where nothing changes.

    Raises:
        TensorError: too many or too few elements, or values that the tensor cannot hold.
    """
    if sample.size != spec.elements:
        raise TensorError(
            f"cannot use a sample of shape {list(sample.shape)}: "
            f"{spec.name!r} has shape {list(spec.shape)}, {spec.elements} elements"
        )
    if sample.dtype == spec.dtype:
        return np.ascontiguousarray(sample).reshape(spec.shape)
    if spec.quantization is not None:
        return quantize(sample, spec).reshape(spec.shape)
    return _cast(sample, spec).reshape(spec.shape)


def from_sample(sample: NDArray[Any], given: Spec, target: Spec) -> NDArray[Any]:
    """Make a sample of the cascade's input the input tensor of a model that reads the request.

    Where the cascade's input is quantized itself and the sample has its dtype, the sample holds
    quantized values: they are requantized for a model with another scale, or made real for a float
    model. Anything else is real, as `conform` takes it.

    Args:
        sample: of the given dtype, or float32 real values of a quantized one.
        given: `Bundle.input`.
        target: the model's input tensor.

    Raises:
        TensorError: it does not fit.
    """
    if given.quantization is not None and sample.dtype == given.dtype:
        return hand_on(sample, given, target)
    return conform(sample, target)


def quantize(values: NDArray[Any], spec: Spec) -> NDArray[Any]:
    """Return q = clip(round(x / scale) + zero_point) in the tensor's dtype; the shape stays.

    Raises:
        TensorError: the tensor has no quantization, or a value is NaN or infinite.
    """
    if spec.quantization is None:
        raise TensorError(f"cannot quantize into {spec.name!r}: it has no scale")
    if not np.isfinite(values).all():
        raise TensorError(f"cannot quantize into {spec.name!r}: a value is NaN or infinite")
    low, high = _limits(np.dtype(spec.dtype))
    narrow = np.dtype(spec.dtype).itemsize <= _NARROW_BYTES
    exact: np.dtype[Any] = np.dtype(np.float32 if narrow else np.float64)
    with np.errstate(over="ignore"):  # what overflows is clipped
        scaled = np.rint(values.astype(exact, copy=False) / exact.type(spec.quantization.scale))
    top = math.nextafter(high, 0) if float(high) > high else high  # 2^63 is no int64
    quantized: NDArray[Any] = np.clip(scaled + spec.quantization.zero_point, low, top)
    return quantized.astype(spec.dtype)


def real(values: NDArray[Any], spec: Spec) -> NDArray[np.float32]:
    """Return the real values of a tensor as float32, same shape: (q - zero_point) * scale."""
    if spec.quantization is None:
        return values.astype(np.float32, copy=False)
    offset = values.astype(np.float32) - np.float32(spec.quantization.zero_point)
    return offset * np.float32(spec.quantization.scale)


def hand_on(values: NDArray[Any], source: Spec, target: Spec) -> NDArray[Any]:
    """Make one tensor another: a stage's output the next one's input, or the cascade's answer.

    Values are requantized where the two differ.

    Raises:
        TensorError: the elements are not as many.
    """
    if source.dtype == target.dtype and source.quantization == target.quantization:
        return conform(values, target)
    return conform(real(values, source), target)


def _cast(sample: NDArray[Any], spec: Spec) -> NDArray[Any]:
    """Cast by value: into floats always, into integers only what they hold exactly."""
    target = np.dtype(spec.dtype)
    if target.kind == "f":
        with np.errstate(over="ignore"):  # a value too large for it is infinite
            return sample.astype(target)
    if sample.dtype.kind == "f" and not (np.rint(sample) == sample).all():
        raise TensorError(f"cannot use real values: {spec.name!r} holds {spec.dtype}, unquantized")
    smallest, largest = sample.min().item(), sample.max().item()  # Python compares these exactly
    low, high = _limits(target)
    if smallest < low or largest > high:
        raise TensorError(
            f"cannot use values {smallest:g} to {largest:g}: "
            f"{spec.name!r} holds {spec.dtype}, {low} to {high}"
        )
    return sample.astype(target)


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    if dtype.kind == "b":
        return _BOOL_RANGE
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)
