import pytest

from controller.compress.convert.messages import End
from controller.compress.convert.source import port
from controller.compress.errors import CompressError


def test_an_open_batch_is_one() -> None:
    found = port("x", [None, 3, 8, 8], "float32", None, "model")

    assert (found.shape, found.is_open) == ((1, 3, 8, 8), True)


def test_a_fixed_shape_stays() -> None:
    found = port("x", [4, 3], "int32", (7,), "model")

    assert (found.shape, found.is_open) == ((4, 3), False)


@pytest.mark.parametrize("shape", [(3, 8, 6), (1, 3, 8, 6)])
def test_open_axes_take_the_shape_of_a_sample(shape: tuple[int, ...]) -> None:
    assert port("x", [None, 3, None, None], "float32", shape, "model").shape == (1, 3, 8, 6)


@pytest.mark.parametrize("shape", [None, (8,), (4, 8, 8)])
def test_axes_that_stay_open_are_refused(shape: tuple[int, ...] | None) -> None:
    with pytest.raises(CompressError, match=r"'x' leaves its shape \[1, 3, \?, \?\] open.*--shape"):
        port("x", [None, 3, None, None], "float32", shape, "model")


@pytest.mark.parametrize("dtype", ["string", "strings", "resource", "complex64"])
def test_only_numbers_are_taken(dtype: str) -> None:
    with pytest.raises(CompressError, match=f"its input 'x' takes {dtype}; only numbers"):
        port("x", [1], dtype, None, "model")


def test_a_moved_end_has_its_channels_last_in_the_file() -> None:
    end = End(name="x", shape=(1, 3, 8, 6), dtype="float32", is_open=True, moved=True, key="k")

    assert end.file_shape == (1, 8, 6, 3)
    assert end.with_(moved=False).file_shape == (1, 3, 8, 6)
