"""From a user's sample to a model's input tensor, and from an output tensor to real values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.bundle import SampleSpec, TensorSpec
from protocols.errors import SluiceError

_BOOL_RANGE = (0, 1)


class TensorError(SluiceError):
    """Values cannot become the tensor that is wanted."""


def conform(sample: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
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


def from_request(sample: NDArray[Any], declared: SampleSpec, spec: TensorSpec) -> NDArray[Any]:
    """Make a sample of the cascade's input the input tensor of a model that reads the request.

    Where the cascade's input is quantized itself and the sample has its dtype, the sample holds
    quantized values: they are requantized for a model with another scale, or made real for a float
    model. Anything else is conformed as `conform` says.

    Args:
        sample: of the declared dtype, or float32 real values of a quantized one.
        declared: `Bundle.input`.
        spec: the model's input tensor.

    Raises:
        TensorError: it does not fit.
    """
    if declared.quantization is None or sample.dtype != declared.dtype:
        return conform(sample, spec)
    return hand_on(sample, whole(declared), spec)


def whole(spec: SampleSpec) -> TensorSpec:
    """Return the cascade's tensor as a model's: the same, without a batch axis."""
    return TensorSpec(
        name=spec.name, shape=spec.shape, dtype=spec.dtype, quantization=spec.quantization
    )


def quantize(values: NDArray[Any], spec: TensorSpec | SampleSpec) -> NDArray[Any]:
    """Return q = clip(round(x / scale) + zero_point) in the tensor's dtype; the shape stays.

    Raises:
        TensorError: the tensor has no quantization, or a value is NaN or infinite.
    """
    if spec.quantization is None:
        raise TensorError(f"cannot quantize into {spec.name!r}: it has no scale")
    if not np.isfinite(values).all():
        raise TensorError(f"cannot quantize into {spec.name!r}: a value is NaN or infinite")
    scaled = np.rint(values / np.float32(spec.quantization.scale)) + spec.quantization.zero_point
    limits = np.iinfo(spec.dtype)
    quantized: NDArray[Any] = np.clip(scaled, limits.min, limits.max).astype(spec.dtype)
    return quantized


def real(values: NDArray[Any], spec: TensorSpec | SampleSpec) -> NDArray[np.float32]:
    """Return the real values of a tensor as float32, same shape: (q - zero_point) * scale."""
    if spec.quantization is None:
        return values.astype(np.float32, copy=False)
    offset = values.astype(np.float32) - np.float32(spec.quantization.zero_point)
    return offset * np.float32(spec.quantization.scale)


def from_sample(
    sample: NDArray[Any], given: TensorSpec | SampleSpec, target: TensorSpec
) -> NDArray[Any]:
    """Make a user's sample a model's input tensor.

    Values in the cascade's own quantized dtype are requantized where the model's scale is another;
    anything else is real, as `conform` takes it.

    Raises:
        TensorError: it does not fit.
    """
    if given.quantization is not None and sample.dtype == given.dtype:
        return hand_on(sample, given, target)
    return conform(sample, target)


def hand_on(
    values: NDArray[Any], source: TensorSpec | SampleSpec, target: TensorSpec
) -> NDArray[Any]:
    """Make one stage's output tensor the next stage's input tensor, requantized where they differ.

    Raises:
        TensorError: the elements are not as many.
    """
    if source.dtype == target.dtype and source.quantization == target.quantization:
        return conform(values, target)
    return conform(real(values, source), target)


def _cast(sample: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Cast by value: into floats always, into integers only what they hold exactly."""
    target = np.dtype(spec.dtype)
    if target.kind == "f":
        return sample.astype(target)
    if sample.dtype.kind == "f" and not (np.rint(sample) == sample).all():
        raise TensorError(f"cannot use real values: {spec.name!r} holds {spec.dtype}, unquantized")
    low, high = _BOOL_RANGE if target.kind == "b" else _limits(target)
    if sample.size and (sample.min() < low or sample.max() > high):
        raise TensorError(
            f"cannot use values {sample.min():g} to {sample.max():g}: "
            f"{spec.name!r} holds {spec.dtype}, {low} to {high}"
        )
    return sample.astype(target)


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)
