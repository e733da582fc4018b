"""Quantizing real models with the real library."""

from pathlib import Path

import numpy as np
import pytest

from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.layers import layers
from controller.compress.proof import prove
from controller.compress.quantize import (
    Form,
    choose_calibration,
    quantize,
    quantize_layers,
)
from controller.compress.quantize_process import Job
from controller.compress.quantizer import check_installed, run_quantizer
from controller.compress.widths import Grade, Width, rounded, rounding
from controller.samples import Samples
from tests.models import classifier, random_layers, two_inputs

FEATURES = 64
LAYERS = random_layers(FEATURES, 16, 10)
MODEL = classifier(LAYERS)
X = np.random.default_rng(0).uniform(-1, 1, (40, FEATURES)).astype(np.float32)
SAMPLES = Samples(X, None, "", "samples")


def as_old_converters_wrote_it() -> bytes:
    """Return the model with operator codes in 8 bits, no signature and names for two."""
    graph = Graph.read(MODEL, "old")
    for code in graph._model.operatorCodes:
        code.deprecatedBuiltinCode, code.builtinCode = code.builtinCode, 0
    for tensor in graph.tensors:
        if tensor not in (*graph.inputs, *graph.outputs):
            graph._subgraph.tensors[tensor].name = b"Identity" if tensor % 2 else None
    graph._model.signatureDefs = None
    return graph.write()


def nibbles(graph: Graph, tensor: int) -> np.ndarray:
    """Return stored int4 numbers, the first in the lower half of a byte."""
    data = graph._model.buffers[graph.buffer(tensor)].data.astype(np.uint8)
    pairs = np.stack([data & 15, data >> 4], axis=-1).astype(np.int8)
    return np.where(pairs > 7, pairs - 16, pairs).reshape(graph.shape(tensor))


def test_static_int8_takes_its_ranges_from_samples_also_for_old_files() -> None:
    heard: list[int] = []

    made, report = quantize(
        as_old_converters_wrote_it(), Form.INT8, "old", SAMPLES, on_calibrated=heard.append
    )

    graph = Graph.read(made, "made")
    assert graph.type_name(graph.inputs[0]) == "int8"
    assert report.stored == {"int8": 2}
    assert report.calibration_samples == 40
    assert all(0 < done <= 40 for done in heard)
    moved = prove(MODEL, made, "made", SAMPLES)
    assert moved is not None
    assert moved < 0.05


def test_int4_stands_in_the_file_as_the_search_chose_it() -> None:
    made, report = quantize(MODEL, Form.INT4, "dense", search=True)

    graph = Graph.read(made, "made")
    for layer, told, (weights, _) in zip(layers(graph), report.layers, LAYERS, strict=True):
        kept, cost = rounding(weights, 0, Width.INT4, search=True)
        scale = graph.scale(layer.weights)
        assert scale is not None
        stored = nibbles(graph, layer.weights) * scale.scale[:, None]
        np.testing.assert_allclose(stored, rounded(kept, 0, Width.INT4)[0], rtol=1e-5, atol=1e-6)
        assert told.stored == "int4"
        assert told.rounding == cost
        assert cost.searched is not None
        assert cost.searched <= cost.min_max


def test_layers_have_widths_of_their_own_or_stay_as_they_are() -> None:
    graph = Graph.read(MODEL, "dense")
    first, second = layers(graph)

    blocks, _ = quantize_layers(MODEL, {first.weights: Grade(Width.INT4_BLOCKWISE)}, "dense")
    _, report = quantize_layers(MODEL, {second.weights: Grade(Width.FLOAT16)}, "dense")

    found = Graph.read(blocks, "blocks")
    assert [found.type_name(layer.weights) for layer in layers(found)] == ["int4", "float32"]
    assert [layer.stored for layer in report.layers] == ["float32", "float16"]
    assert report.layers[0].rounding is None


def test_dense_layers_have_one_scale_where_activations_stay_float() -> None:
    """With several, tflite-runtime 2.14 takes their weights for zero."""
    made, report = quantize(MODEL, Form.DYNAMIC_INT8, "dense")

    graph = Graph.read(made, "made")
    scales = [graph.scale(layer.weights) for layer in layers(graph)]
    assert [None if scale is None else scale.scale.size for scale in scales] == [1, 1]
    assert report.stored == {"int8": 2}


def test_a_quantized_model_is_refused() -> None:
    narrow = classifier(LAYERS, form="int8")

    with pytest.raises(
        CompressError,
        match="cannot quantize small to fp16: 2 of its 2 layers hold int8 weights already; start",
    ):
        quantize(narrow, Form.FP16, "small")


@pytest.mark.parametrize(
    ("content", "form", "samples", "why"),
    [
        (MODEL, Form.INT8, None, "ranges of its activations are needed; give --samples"),
        (MODEL, Form.INT8, Samples(X[:, :3], None, "", "s"), "64 elements"),
        (
            classifier(random_layers(40, 10)),
            Form.INT4_BLOCKWISE,
            None,
            "its rows of 40 weights are no multiple of 32",
        ),
        (two_inputs(), Form.INT8, SAMPLES, "none of its operators has weights"),
        (b"no model at all", Form.FP16, None, "it is no .tflite file"),
    ],
)
def test_what_cannot_be_done_is_said(
    content: bytes, form: Form, samples: Samples | None, why: str
) -> None:
    with pytest.raises(CompressError) as refused:
        quantize(content, form, "m", samples)

    assert str(refused.value).startswith("cannot ")
    assert why in str(refused.value)


def test_a_width_that_a_layer_cannot_have_is_refused() -> None:
    content = classifier(random_layers(40, 10))
    (layer,) = layers(Graph.read(content, "m"))

    with pytest.raises(CompressError, match=r"cannot quantize layers of m: .* rows of 40"):
        quantize_layers(content, {layer.weights: Grade(Width.INT4_BLOCKWISE)}, "m")


def test_the_extra_is_named_where_it_is_missing() -> None:
    with pytest.raises(CompressError, match=r"needs ai-edge-quantizer; pip install '\.\[compress"):
        check_installed("no_such_quantizer")


def test_what_the_library_says_is_handed_on(tmp_path: Path) -> None:
    job = Job(model=str(tmp_path / "gone.tflite"), out=str(tmp_path / "out"))

    with pytest.raises(CompressError, match=r"cannot quantize gone: .*No such file"):
        run_quantizer(job, "quantize gone")


def test_calibration_samples_are_chosen_the_same_each_time() -> None:
    one, other = choose_calibration(SAMPLES, 7), choose_calibration(SAMPLES, 7)

    assert len(one.x) == 7
    assert np.array_equal(one.x, other.x)
    assert len(choose_calibration(SAMPLES, 1000).x) == 40
