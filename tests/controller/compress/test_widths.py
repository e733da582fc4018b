"""What rounding to a width costs, and the search for better scales."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.layers import layers
from controller.compress.widths import (
    BLOCK,
    Width,
    clipped,
    layer_bytes,
    narrowed,
    rounded,
    rounding,
    why_not,
)
from tests.models import classifier, random_layers

INTEGERS = [Width.INT8, Width.INT8_TENSOR, Width.INT4, Width.INT4_BLOCKWISE]


def heavy_tailed(seed: int, channels: int = 3) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.standard_t(3, (channels, 4 * BLOCK)).astype(np.float32)


@given(seed=st.integers(0, 1000), width=st.sampled_from(INTEGERS))
def test_no_weight_moves_by_more_than_half_a_step(seed: int, width: Width) -> None:
    values = heavy_tailed(seed)
    sizes = {Width.INT4_BLOCKWISE: BLOCK, Width.INT8_TENSOR: values.size}
    size = sizes.get(width) or values.shape[1]
    most = np.abs(values.reshape(-1, size)).max(axis=1)
    step = most / (127 if width in {Width.INT8, Width.INT8_TENSOR} else 7)

    near, _ = rounded(values, 0, width)

    moved = np.abs(near - values).reshape(-1, size)
    assert (moved <= step[:, None] * 0.5 * (1 + 1e-5)).all()


@given(seed=st.integers(0, 1000), width=st.sampled_from(INTEGERS))
def test_what_was_rounded_stays_when_it_is_rounded_again(seed: int, width: Width) -> None:
    once, _ = rounded(heavy_tailed(seed), 0, width)

    twice, cost = rounded(once, 0, width)

    np.testing.assert_allclose(twice, once, rtol=1e-5, atol=1e-7)
    assert cost.min_max < 1e-5


@given(seed=st.integers(0, 1000), width=st.sampled_from(INTEGERS))
def test_the_search_is_never_worse_and_its_figure_is_what_comes_out(
    seed: int, width: Width
) -> None:
    values = heavy_tailed(seed)

    kept, cost = clipped(values, 0, width)

    near, _ = rounded(kept, 0, width)
    error = np.sqrt(np.square(near - values).sum() / np.square(values).sum())
    assert cost.searched is not None
    assert cost.searched <= cost.min_max
    assert cost.error == cost.searched
    assert error == pytest.approx(cost.searched, rel=1e-3)


def test_outliers_are_clipped_where_that_makes_the_rest_finer() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(0, 1, 4000), [8.0]])
    values = values.astype(np.float32)[None]

    kept, cost = clipped(values, 0, Width.INT4)

    assert np.abs(kept).max() < 6.0
    assert cost.searched is not None
    assert cost.searched < 0.8 * cost.min_max


def test_channels_have_scales_of_their_own_along_any_axis() -> None:
    values = np.random.default_rng(0).normal(0, 1, (1, 3, 3, 4)).astype(np.float32)
    values[..., 2] *= 1000

    near, _ = rounded(values, 3, Width.INT8)

    errors = np.abs(near - values).max(axis=(0, 1, 2)) / np.abs(values).max(axis=(0, 1, 2))
    assert (errors < 0.5 / 127 * 1.001).all()


@pytest.mark.parametrize("width", INTEGERS)
def test_weights_that_are_all_zero_stay_so(width: Width) -> None:
    values = np.zeros((2, BLOCK), np.float32)

    kept, cost = rounding(values, 0, width, search=True)

    assert not kept.any()
    assert cost.error == 0


def test_float16_is_never_clipped() -> None:
    values = heavy_tailed(0)

    kept, cost = rounding(values, 0, Width.FLOAT16, search=True)

    assert kept is values
    assert cost.searched is None
    assert cost.error < 2**-11


def test_a_layer_takes_what_its_width_and_its_scales_take() -> None:
    graph = Graph.read(classifier(random_layers(64, 10)), "dense")
    (layer,) = layers(graph)

    takes = {width: layer_bytes(graph, layer, width) for width in Width}

    assert takes == {
        Width.FLOAT16: 1280,
        Width.INT8: 640 + 120,
        Width.INT8_TENSOR: 640 + 12,
        Width.INT4: 320 + 120,
        Width.INT4_BLOCKWISE: 320 + 40,
    }


def test_rows_that_do_not_divide_into_blocks_are_refused() -> None:
    content = classifier(random_layers(40, 10))
    graph = Graph.read(content, "dense")
    (layer,) = layers(graph)

    assert why_not(graph, layer, Width.INT4) == ""
    assert "rows of 40 weights" in why_not(graph, layer, Width.INT4_BLOCKWISE)
    with pytest.raises(CompressError, match="cannot store operator 0 as int4-blockwise: its rows"):
        narrowed(Width.INT4_BLOCKWISE).apply(content, layer)


def test_one_scale_for_a_whole_layer_is_for_dense_layers() -> None:
    graph = Graph.read(classifier(random_layers(8, 4)), "dense")
    (dense,) = layers(graph)

    assert why_not(graph, dense, Width.INT8_TENSOR) == ""
    told = why_not(graph, replace(dense, kind="CONV_2D"), Width.INT8_TENSOR)
    assert told.startswith("CONV_2D has a scale for each channel")


def test_weights_beyond_float16_are_refused() -> None:
    large = [(np.full((2, 4), 1e5, np.float32), np.zeros(2, np.float32))]
    graph = Graph.read(classifier(large), "dense")

    assert "1e+05" in why_not(graph, layers(graph)[0], Width.FLOAT16)


def test_quantized_weights_are_refused() -> None:
    graph = Graph.read(classifier(random_layers(8, 4), form="int8"), "dense")

    assert why_not(graph, layers(graph)[0], Width.INT8) == "its weights are int8 already"
