import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bundle import DType, Quantization, SampleSpec, TensorSpec
from protocols.inference.tensors import TensorError, conform, from_sample, hand_on, quantize, real

INT8 = Quantization(scale=0.5, zero_point=-10)


def spec(
    dtype: DType, shape: tuple[int, ...] = (1, 4), quantization: Quantization | None = None
) -> TensorSpec:
    return TensorSpec(name="x", shape=shape, dtype=dtype, quantization=quantization)


def test_same_dtype_passes_through_in_the_models_shape() -> None:
    sample = np.array([[1, 2], [3, 4]], np.int8)
    out = conform(sample, spec("int8", (1, 2, 2, 1), INT8))
    assert out.shape == (1, 2, 2, 1)
    assert out.dtype == np.int8
    assert out.ravel().tolist() == [1, 2, 3, 4]


def test_real_values_are_quantized_and_clipped() -> None:
    sample = np.array([0.0, 1.0, -1000.0, 1000.0], np.float32)
    out = conform(sample, spec("int8", quantization=INT8))
    assert out.tolist() == [[-10, -8, -128, 127]]


def test_integers_of_another_type_are_real_values_for_a_quantized_model() -> None:
    out = conform(np.array([0, 1, 2, 200], np.uint8), spec("int8", quantization=INT8))
    assert out.tolist() == [[-10, -8, -6, 127]]


def test_integers_are_cast_by_value_into_a_float_model() -> None:
    out = conform(np.array([0, 7, 16, 255], np.uint8), spec("float32"))
    assert out.dtype == np.float32
    assert out.tolist() == [[0.0, 7.0, 16.0, 255.0]]


def test_float64_samples_fit_a_float32_model() -> None:
    assert conform(np.zeros(4), spec("float32")).dtype == np.float32


def test_another_number_of_elements_is_refused() -> None:
    with pytest.raises(TensorError, match=r"cannot use a sample of shape \[5\].*4 elements"):
        conform(np.zeros(5, np.float32), spec("float32"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_has_no_quantized_value_is_refused(bad: float) -> None:
    with pytest.raises(TensorError, match="NaN or infinite"):
        conform(np.array([0, 0, 0, bad], np.float32), spec("int8", quantization=INT8))


def test_unquantized_integers_hold_only_what_they_can() -> None:
    assert conform(np.array([0.0, 1.0, 2.0, 3.0]), spec("int32")).tolist() == [[0, 1, 2, 3]]
    with pytest.raises(TensorError, match="unquantized"):
        conform(np.array([0.5, 0, 0, 0]), spec("int32"))
    with pytest.raises(TensorError, match="-128 to 127"):
        conform(np.array([0, 0, 0, 300], np.int32), spec("int8"))
    assert conform(np.array([0, 1, 1, 0], np.int32), spec("bool")).dtype == np.bool_


def test_only_a_tensor_with_a_scale_is_quantized_into() -> None:
    with pytest.raises(TensorError, match="no scale"):
        quantize(np.zeros(4), spec("int8"))


@given(st.lists(st.floats(-50, 50, width=32), min_size=4, max_size=4))
def test_quantizing_errs_by_half_a_step(values: list[float]) -> None:
    into = spec("int8", quantization=INT8)
    sample = np.array(values, np.float32)
    back = real(conform(sample, into), into).ravel()
    assert np.abs(back - sample).max() <= INT8.scale / 2 + 1e-4


@given(
    st.lists(st.integers(-128, 127), min_size=4, max_size=4),
    st.floats(0.001, 10),
    st.integers(-128, 127),
)
def test_the_same_scale_hands_on_the_same_bytes(
    values: list[int], scale: float, zero_point: int
) -> None:
    same = spec("int8", quantization=Quantization(scale=scale, zero_point=zero_point))
    out = hand_on(np.array([values], np.int8), same, same)
    assert out.tolist() == [values]


def test_another_scale_is_requantized() -> None:
    source = spec("int8", quantization=Quantization(scale=0.1, zero_point=0))
    target = spec("uint8", quantization=Quantization(scale=0.2, zero_point=128))
    out = hand_on(np.array([[0, 10, -20, 120]], np.int8), source, target)
    assert out.tolist() == [[128, 133, 118, 188]]
    floats = hand_on(np.array([[0, 10, -20, 120]], np.int8), source, spec("float32"))
    assert np.allclose(floats, [[0, 1, -2, 12]])


def test_a_request_in_the_cascades_own_quantization() -> None:
    declared = SampleSpec(name="x", shape=(4,), dtype="int8", quantization=INT8)
    own = np.array([-10, -8, -6, 127], np.int8)
    assert from_sample(own, declared, spec("int8", quantization=INT8)).tolist() == [own.tolist()]
    assert from_sample(own, declared, spec("float32")).tolist() == [[0, 1, 2, 68.5]]
    values = np.array([0, 1, 2, 68.5], np.float32)
    assert from_sample(values, declared, spec("float32")).tolist() == [[0, 1, 2, 68.5]]
    plain = SampleSpec(name="x", shape=(4,), dtype="uint8")
    pixels = np.array([0, 7, 16, 255], np.uint8)
    assert from_sample(pixels, plain, spec("float32")).tolist() == [[0, 7, 16, 255]]


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_values_far_out_of_range_are_clipped_whatever_the_width(dtype: DType) -> None:
    sample = np.array([3e38, -3e38, 0.0, 1.0], np.float32)
    out = conform(sample, spec(dtype, quantization=Quantization(scale=1e-3, zero_point=5)))
    limits = np.iinfo(dtype)
    assert out.dtype == dtype
    assert out[0, 0] > limits.max * 0.999
    assert out[0, 1] == limits.min
    assert out[0, 2] == 5


def test_an_int32_tensor_keeps_the_digits_that_float32_has_not() -> None:
    into = spec("int32", quantization=Quantization(scale=1.0, zero_point=1))
    assert conform(np.array([2**24, 0, 0, 0], np.int64), into)[0, 0] == 2**24 + 1


def test_the_first_number_that_int64_lacks_is_refused() -> None:
    with pytest.raises(TensorError, match="int64"):
        conform(np.array([2.0**63, 0, 0, 0]), spec("int64"))


def test_a_number_too_large_for_a_float_model_is_infinite() -> None:
    assert np.isinf(conform(np.array([1e300, 0, 0, 0]), spec("float32"))[0, 0])
