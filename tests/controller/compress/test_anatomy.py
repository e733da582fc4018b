import math
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from controller.compress.anatomy import Anatomy, constant_of, dissect, unpackers
from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from tests import models
from tests.models import Graph as Draft
from tests.models import Quantized


def parts(anatomy: Anatomy) -> int:
    found = anatomy.bytes
    return found.weights + found.biases + found.constants + found.overhead


@pytest.mark.parametrize("form", ["float32", "int8", "uint8"])
def test_a_classifier(form: models.Form) -> None:
    content = models.classifier(models.random_layers(16, 32, 10), form=form)
    found = dissect(content, "m")
    width = 4 if form == "float32" else 1
    assert found.bytes.weights == (16 * 32 + 32 * 10) * width
    assert found.bytes.biases == (32 + 10) * 4
    assert found.bytes.total == len(content) == parts(found)
    assert found.parameters == 16 * 32 + 32 * 10 + 32 + 10
    assert found.macs == 16 * 32 + 32 * 10
    dense = [o for o in found.operators if o.kind == "FULLY_CONNECTED"]
    assert [o.parameters for o in dense] == [16 * 32 + 32, 32 * 10 + 10]
    assert [o.weights.shape for o in dense if o.weights] == [(32, 16), (10, 32)]
    scales = {o.weights.quantization for o in dense if o.weights}
    assert scales == ({None} if form == "float32" else {"per tensor"})
    assert sum(o.macs for o in found.operators) == found.macs


def test_zeros_are_counted_by_what_they_mean() -> None:
    draft = Draft()
    x = draft.tensor("x", (1, 4))
    half = draft.tensor(
        "half", (1, 4), "int8", Quantized(0.5, 3), np.array([[3, 3, 0, 4]], np.int8)
    )
    plain = draft.operate("DEQUANTIZE", [half], draft.tensor("plain", (1, 4)))
    draft.operate("ADD", [x, plain], draft.tensor("y", (1, 4)))
    found = dissect(draft.encode([x], [3]), "m")
    unpack, add = found.operators
    assert (add.parameters, add.nonzero) == (4, 2)
    assert (unpack.parameters, unpack.constant_bytes) == (0, 0)
    assert (found.parameters, found.nonzero, found.bytes.weights) == (4, 2, 4)
    graph = Graph.read(draft.encode([x], [3]), "m")
    assert constant_of(graph, plain) == half
    assert unpackers(graph, plain) == (0,)
    assert constant_of(graph, x) is constant_of(graph, -1) is None


def test_plain_integers_are_no_parameters() -> None:
    draft = Draft()
    x = draft.tensor("x", (1, 4))
    shape = draft.tensor("shape", (2,), "int32", data=np.array([2, 2], np.int32))
    draft.operate("RESHAPE", [x, shape], draft.tensor("y", (2, 2)))
    found = dissect(draft.encode([x], [2]), "m")
    assert (found.parameters, found.bytes.constants, found.bytes.weights) == (0, 8, 0)
    assert found.operators[0].constant_bytes == 8


def test_shared_bytes_count_once() -> None:
    layer = models.random_layers(8, 8)
    content = models.classifier([*layer, *layer], head="logits")
    graph = Graph.read(content, "m")
    first, second = (graph.operator_inputs(o)[1] for o in graph.operators)
    before = dissect(content, "m")
    graph.share_buffer(second, first)
    after = dissect(graph.write(), "m")
    assert before.bytes.weights - after.bytes.weights == 8 * 8 * 4
    assert before.parameters - after.parameters == 64
    assert after.tensors[first].shared_with == (f"0:{second}",)
    assert [replace(o, weights=None) for o in after.operators] == [
        replace(o, weights=None) for o in before.operators
    ]


def test_roles_of_the_ends() -> None:
    found = dissect(models.two_inputs(), "m")
    roles = [t.role for t in found.tensors]
    assert roles.count("input") == 2
    assert roles.count("output") == 1
    assert all(t.elements == math.prod(t.shape) for t in found.tensors)


def test_no_model() -> None:
    with pytest.raises(CompressError, match=r"cannot read m: it is no \.tflite file"):
        dissect(b"x" * 100, "m")


def test_blocks_of_narrow_numbers() -> None:
    draft = Draft()
    x = draft.tensor("x", (1, 4))
    scales = draft.tensor("scales", (2, 2), "float16", data=np.ones((2, 2), np.float16))
    packed = draft.tensor("w", (2, 4), "int8", data=np.array([0x10, 0x00, 0x23, 0x0F], np.uint8))
    weights = draft.tensors[packed]
    weights.type = schema.TensorType.INT4
    weights.quantization = schema.QuantizationParametersT()
    weights.quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
    weights.quantization.details = schema.BlockwiseQuantizationT()
    weights.quantization.details.scales, weights.quantization.details.blockSize = scales, 2
    y = draft.tensor("y", (1, 2))
    options = schema.FullyConnectedOptionsT()
    draft.operate("FULLY_CONNECTED", [x, packed], y, options)
    found = dissect(draft.encode([x], [y]), "m")
    tensor = found.operators[0].weights
    assert tensor is not None
    assert (tensor.type, tensor.quantization, tensor.scales) == ("int4", "blockwise", 4)
    assert (found.parameters, found.nonzero) == (8, 4)
    assert (found.bytes.weights, found.bytes.constants) == (4, 8)
