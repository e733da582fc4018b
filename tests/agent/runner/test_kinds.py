"""Models of every kind go through as they are: the answer is the bare interpreter's, bit by bit."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from agent.runner import blackbox
from agent.runner.blackbox import BlackBox
from agent.runner.http1 import Request
from agent.runner.oip import handle
from agent.runner.prepare import prepare
from agent.runner.room import Room
from protocols.bundle import OIP_DATATYPE
from tests.agent.runner.cascades import Built, Piece, build
from tests.agent.runner.samples import samples
from tests.models import Graph, Quantized, random_layers

FLOATS = samples(4)
BYTES = (FLOATS * 127).astype(np.int8)
UNIT = Quantized(1 / 127)


@dataclass(frozen=True)
class Kind:
    """A dense layer and softmax between tensors of some kind."""

    label: str
    x: NDArray[Any] = field(default_factory=lambda: FLOATS)
    shape: tuple[int, ...] = (1, 64)
    dtype: str = "float32"
    scale: Quantized | None = None
    classes: int = 10
    out_shape: tuple[int, ...] | None = None
    out_dtype: str = "float32"
    out_scale: Quantized | None = None
    names: tuple[str, str] = ("x", "scores")


KINDS = (
    Kind("int8 in, float out", BYTES, dtype="int8", scale=UNIT),
    Kind("float in, int8 out", out_dtype="int8", out_scale=Quantized(1 / 256, -128)),
    Kind("int16", dtype="int16", scale=Quantized(1 / 32767), out_dtype="int16", out_scale=UNIT),
    Kind("uint8 pixels", (FLOATS > 0).astype(np.uint8), dtype="uint8", scale=Quantized(1 / 255)),
    Kind("uint8 around 128", FLOATS, dtype="uint8", scale=Quantized(1 / 128, 128)),
    Kind("float16 in", FLOATS, dtype="float16"),
    Kind("int32 in", BYTES.astype(np.int32), dtype="int32"),
    Kind("bool in", FLOATS > 0, dtype="bool"),
    Kind("int64 in", BYTES.astype(np.int64), dtype="int64"),
    Kind("float16 out", out_dtype="float16"),
    Kind("rank 1", shape=(64,)),
    Kind("rank 2 without a batch axis", samples(4, 8, 8), shape=(8, 8)),
    Kind("rank 5", samples(4, 2, 2, 4, 4), shape=(1, 2, 2, 4, 4)),
    Kind("rank 5, flat samples", FLOATS, shape=(1, 2, 2, 4, 4)),
    Kind("output [C]", out_shape=(10,)),
    Kind("output [1, 1, 1, C]", out_shape=(1, 1, 1, 10)),
    Kind("two classes", classes=2),
    Kind("one class", classes=1),
    Kind("1001 classes", classes=1001),
    Kind("no names", names=("", "")),
    Kind("one name for both", names=("t", "t")),
    Kind("names in no ASCII", names=("输入:0\n", "☃" * 200)),
    Kind("a name that the protocol uses", names=("data", "stage")),
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_a_model_of_any_kind(tmp_path: Path, kind: Kind) -> None:
    check(build(tmp_path, [Piece("only", model(kind), kind="raw")], kind.x))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_a_model_that_gives_the_class_itself(tmp_path: Path, dtype: str) -> None:
    graph = Graph()
    x = graph.tensor("x", (1, 64))
    axis = graph.tensor("axis", (1,), "int32", data=np.array([1], np.int32))
    options = schema.ArgMaxOptionsT()
    options.outputType = schema.TensorType.INT32 if dtype == "int32" else schema.TensorType.INT64
    scores = dense(graph, x, 10)
    out = graph.operate("ARG_MAX", [scores, axis], graph.tensor("class", (1,), dtype), options)
    check(build(tmp_path, [Piece("only", graph.encode([x], [out]), kind="raw")], FLOATS))


def model(kind: Kind) -> bytes:
    graph = Graph()
    x = graph.tensor(kind.names[0], kind.shape, kind.dtype, kind.scale)
    value = convert(graph, x, kind.shape, "float32", None)
    value = reshape(graph, value, (1, 64))
    scores = graph.tensor("softmax", (1, kind.classes))
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    value = graph.operate("SOFTMAX", [dense(graph, value, kind.classes)], scores, options)
    shape = kind.out_shape or (1, kind.classes)
    value = reshape(graph, value, shape)
    value = convert(graph, value, shape, kind.out_dtype, kind.out_scale)
    graph.tensors[value].name = kind.names[1]
    return graph.encode([x], [value])


def convert(
    graph: Graph, value: int, shape: tuple[int, ...], dtype: str, scale: Quantized | None
) -> int:
    """Bring a tensor into another dtype, as converters do it."""
    before = graph.tensors[value]
    if before.type == schema.TensorType.FLOAT32 and dtype == "float32":
        return value
    after = graph.tensor("converted", shape, dtype, scale)
    if scale is not None:
        return graph.operate("QUANTIZE", [value], after)
    if before.quantization is not None or before.type == schema.TensorType.FLOAT16:
        return graph.operate("DEQUANTIZE", [value], after)
    return graph.operate("CAST", [value], after, schema.CastOptionsT())


def reshape(graph: Graph, value: int, shape: tuple[int, ...]) -> int:
    sizes = graph.tensor("sizes", (len(shape),), "int32", data=np.array(shape, np.int32))
    out = graph.tensor("reshaped", shape)
    return graph.operate("RESHAPE", [value, sizes], out, schema.ReshapeOptionsT())


def dense(graph: Graph, value: int, classes: int) -> int:
    ((weights, bias),) = random_layers(64, classes, seed=1)
    inputs = [
        value,
        graph.tensor("weights", weights.shape, data=weights),
        graph.tensor("bias", bias.shape, data=bias),
    ]
    out = graph.tensor("dense", (1, classes))
    return graph.operate("FULLY_CONNECTED", inputs, out, schema.FullyConnectedOptionsT())


def check(built: Built) -> None:
    """Ask for every sample in JSON and in binary, and compare with the bare interpreter."""
    fd = blackbox.create()
    cascade = prepare(
        built.assignment(), built.plan(), BlackBox(fd), Room(), lambda _change: None, lambda: None
    )
    os.close(fd)
    variant = built.bundle.stages[0].variants[0]
    interpreter = Interpreter(model_path=str(built.folder / variant.artifact.sha256))
    interpreter.allocate_tensors()
    (given,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()
    for sample in built.x:
        interpreter.set_tensor(given["index"], natural(sample, given))
        interpreter.invoke()
        bare = interpreter.get_tensor(gives["index"])
        for binary in (False, True):
            response = handle(asking(sample, binary=binary), {"digits": cascade}, "1")
            assert response.status == 200, response.body
            answered = dict(response.headers).get("Inference-Header-Content-Length")
            document = json.loads(response.body[: int(answered) if answered else None])
            (output,) = document["outputs"]
            assert output["name"] == gives["name"]
            assert output["datatype"] == OIP_DATATYPE[bare.dtype.name]
            data = response.body[int(answered) :] if answered else None
            if data is None:
                data = np.array(output["data"], bare.dtype).tobytes()
            assert data == bare.tobytes()
    cascade.set_plan(built.plan("out"), "end")
    cascade.shrink()


def natural(sample: NDArray[Any], given: dict[str, Any]) -> NDArray[Any]:
    """Return a sample as somebody would feed it to the bare interpreter."""
    scale, zero_point = given["quantization"]
    if sample.dtype != given["dtype"] and scale:
        sample = np.clip(np.rint(sample / np.float32(scale)) + zero_point, *limits(given["dtype"]))
    return sample.astype(given["dtype"]).reshape(given["shape"])


def limits(dtype: Any) -> tuple[int, int]:  # noqa: ANN401 - a class of numpy's
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def asking(sample: NDArray[Any], *, binary: bool) -> Request:
    tensor: dict[str, Any] = {
        "name": "any",
        "datatype": OIP_DATATYPE[sample.dtype.name],  # type: ignore[index]
        "shape": [1, *sample.shape],
    }
    if binary:
        tensor["parameters"] = {"binary_data_size": sample.nbytes}
    else:
        tensor["data"] = sample[np.newaxis].tolist()  # nested, as the protocol allows
    document = {"inputs": [tensor], "parameters": {"binary_data_output": binary}}
    header = json.dumps(document).encode()
    tail = sample.tobytes() if binary else b""
    headers = {"inference-header-content-length": str(len(header))} if binary else {}
    return Request("POST", "/v2/models/digits/infer", headers, header + tail)
