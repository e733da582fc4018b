"""Real `.tflite` models of any shape, written for a test: dense classifiers and broken ones.

Each function returns the bytes of a model file. A classifier is a chain of dense layers with ReLU
between them, then softmax, a sigmoid or nothing. Quantized ones are as converters write them:
weights symmetric int8 per tensor, biases int32, activations int8 (uint8 at the border only).
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Layers = list[tuple[Floats, Floats]]
"""Weights [out, in] and bias [out] of every layer."""

Form = Literal["float32", "int8", "uint8"]
Head = Literal["softmax", "sigmoid", "logits", "features"]
"""What ends the chain; `features` is a ReLU: the first part of a split model."""

_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "float16": schema.TensorType.FLOAT16,
    "bool": schema.TensorType.BOOL,
}
_ZERO_POINT_SHIFT = {"int8": 0, "uint8": 128}
_INT8_MAX = 127


@dataclass(frozen=True)
class Border:
    """What a classifier shows to the outside."""

    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...] | None
    form: Form
    head: Head


@dataclass(frozen=True)
class Quantized:
    """real = (q - zero_point) * scale."""

    scale: float
    zero_point: int = 0


@dataclass
class Graph:
    """One subgraph under construction; every method returns the index of a tensor it made."""

    tensors: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])
    operators: list[Any] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str = "float32",
        quantized: Quantized | None = None,
        data: NDArray[Any] | None = None,
        signature: tuple[int, ...] | None = None,
    ) -> int:
        """Add a tensor; `data` makes it a constant."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), _TYPES[dtype]
        tensor.hasRank = True
        if signature is not None:
            tensor.shapeSignature = list(signature)
        if quantized is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [quantized.scale]
            tensor.quantization.zeroPoint = [quantized.zero_point]
        tensor.buffer = 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def operate(self, code: str, inputs: list[int], output: int, options: object = None) -> int:
        """Add an operator whose options class is named after them; return its output."""
        value = getattr(schema.BuiltinOperator, code)
        if value not in self.codes:
            self.codes.append(value)
        operator = schema.OperatorT()
        operator.opcodeIndex = self.codes.index(value)
        operator.inputs, operator.outputs = inputs, [output]
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = options
        self.operators.append(operator)
        return output

    def encode(self, inputs: list[int], outputs: list[int]) -> bytes:
        """Return the model file."""
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self.tensors, self.operators
        graph.inputs, graph.outputs = inputs, outputs
        model = schema.ModelT()
        model.version, model.description = 3, "test"
        model.subgraphs, model.buffers = [graph], self.buffers
        model.operatorCodes = []
        for value in self.codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.version = value, 1
            code.deprecatedBuiltinCode = min(value, 127)
            model.operatorCodes.append(code)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def random_layers(features: int, *widths: int, seed: int = 0) -> Layers:
    """Return layers of random weights; the last width is the number of classes."""
    draw = np.random.default_rng(seed)
    layers: Layers = []
    for width in widths:
        weights = draw.normal(0, 2.0 / np.sqrt(features), (width, features))
        layers.append((weights.astype(np.float32), draw.normal(0, 0.1, width).astype(np.float32)))
        features = width
    return layers


def classifier(
    layers: Layers,
    *,
    sample_shape: tuple[int, ...] | None = None,
    form: Form = "float32",
    head: Head = "softmax",
    open_batch: bool = False,
    batch: int = 1,
    input_range: tuple[float, float] = (-1.0, 1.0),
    name: str = "x",
) -> bytes:
    """Return a dense classifier.

    Args:
        layers: weights and biases; see `random_layers`.
        sample_shape: of one sample, without the batch axis of 1 that the model has; default flat.
        form: dtype of input and output; int8 and uint8 are quantized inside.
        head: what ends the chain.
        batch: how many samples a float32 classifier takes at a time.
        open_batch: the batch axis is -1 in the signature, as converters write it.
        input_range: real values that a quantized input spans.
        name: of the input tensor; the output is `scores`.
    """
    shape = sample_shape or (layers[0][0].shape[1],)
    signature = (-1, *shape) if open_batch else None
    border = Border(name, (batch, *shape), signature, form, head)
    if form == "float32":
        return _float_classifier(layers, border)
    return _quantized_classifier(layers, border, _spanning(*input_range))


def open_image_classifier(layers: Layers) -> bytes:
    """Return a float32 classifier of images whose batch, height and width are open."""
    graph = Graph()
    x = graph.tensor("x", (1, 1, 1, 1), signature=(-1, -1, -1, 1))
    shape = np.array([1, layers[0][0].shape[1]], np.int32)
    sizes = graph.tensor("sizes", (2,), "int32", data=shape)
    flat = graph.tensor("flat", tuple(shape))
    value = graph.operate("RESHAPE", [x, sizes], flat, schema.ReshapeOptionsT())
    for number, layer in enumerate(layers):
        relu = number < len(layers) - 1
        value = _dense(graph, value, layer, f"dense{number}", relu=relu)
    return graph.encode([x], [value])


def two_inputs(features: int = 4) -> bytes:
    """Return a model that adds its inputs `a` and `b`, float32 [1, features]."""
    graph = Graph()
    a, b = graph.tensor("a", (1, features)), graph.tensor("b", (1, features))
    out = graph.tensor("sum", (1, features))
    graph.operate("ADD", [a, b], out, schema.AddOptionsT())
    return graph.encode([a, b], [out])


def two_outputs(layers: Layers) -> bytes:
    """Return a classifier whose outputs are its last hidden features and its softmax scores."""
    graph = Graph()
    x = graph.tensor("x", (1, layers[0][0].shape[1]))
    hidden = x
    for number, layer in enumerate(layers[:-1]):
        hidden = _dense(graph, hidden, layer, f"hidden{number}", relu=True)
    logits = _dense(graph, hidden, layers[-1], "logits", relu=False)
    scores = graph.tensor("scores", (1, layers[-1][0].shape[0]))
    graph.operate("SOFTMAX", [logits], scores, _softmax())
    return graph.encode([x], [hidden, scores])


def crashing() -> bytes:
    """Return a schema-valid model, float32 [1, 4] to [1, 4], that kills its process (SIGSEGV).

    It splits its input into no parts at all; the interpreter then reads past its outputs.
    """
    graph = Graph()
    axis = graph.tensor("axis", (), "int32", data=np.array([1], np.int32))
    x, out = graph.tensor("x", (1, 4)), graph.tensor("scores", (1, 4))
    options = schema.SplitOptionsT()
    options.numSplits = 0
    graph.operate("SPLIT", [axis, x], out, options)
    return graph.encode([x], [out])


def _float_classifier(layers: Layers, border: Border) -> bytes:
    graph = Graph()
    x = graph.tensor(border.name, border.shape, signature=border.signature)
    value = x
    for number, layer in enumerate(layers):
        last = number == len(layers) - 1
        plain = last and border.head != "features"
        label = "scores" if last and border.head in {"logits", "features"} else f"dense{number}"
        value = _dense(graph, value, layer, label, relu=not plain, batch=border.shape[0])
    if border.head in {"softmax", "sigmoid"}:
        scores = graph.tensor("scores", (border.shape[0], layers[-1][0].shape[0]))
        value = graph.operate(*_head(border.head, value, scores))
    return graph.encode([x], [value])


def _quantized_classifier(layers: Layers, border: Border, span: Quantized) -> bytes:
    form, head = border.form, border.head
    graph = Graph()
    x = graph.tensor(
        border.name, border.shape, form, _shifted(span, form), signature=border.signature
    )
    value = x
    if form == "uint8":
        value = graph.operate("QUANTIZE", [x], graph.tensor("x_int8", border.shape, "int8", span))
    low, high = ((q - span.zero_point) * span.scale for q in (-128, 127))
    seen = np.random.default_rng(0).uniform(low, high, (256, layers[0][0].shape[1]))
    inner = span
    for number, (weights, bias) in enumerate(layers):
        plain = number == len(layers) - 1 and head != "features"
        seen = seen @ weights.T + bias
        seen = seen if plain else np.maximum(seen, 0)
        outer = _spanning(min(float(seen.min()), 0.0), max(float(seen.max()), 1e-3))
        ends = number == len(layers) - 1 and head in {"logits", "features"} and form == "int8"
        label = "scores" if ends else f"dense{number}"
        value = _quantized_dense(
            graph, value, (weights, bias), (inner, outer), label, relu=not plain
        )
        inner = outer
    width = layers[-1][0].shape[0]
    if head in {"softmax", "sigmoid"}:
        inner = Quantized(1 / 256, -128)
        scores = graph.tensor(
            "scores" if form == "int8" else "scores_int8", (1, width), "int8", inner
        )
        value = graph.operate(*_head(head, value, scores))
    if form == "uint8":
        out = graph.tensor("scores", (1, width), "uint8", _shifted(inner, form))
        value = graph.operate("QUANTIZE", [value], out)
    return graph.encode([x], [value])


def _dense(
    graph: Graph,
    value: int,
    layer: tuple[Floats, Floats],
    label: str,
    *,
    relu: bool,
    batch: int = 1,
) -> int:
    weights, bias = layer
    inputs = [
        value,
        graph.tensor(f"{label}_weights", weights.shape, data=weights),
        graph.tensor(f"{label}_bias", bias.shape, data=bias),
    ]
    out = graph.tensor(label, (batch, weights.shape[0]))
    return graph.operate("FULLY_CONNECTED", inputs, out, _fully_connected(relu=relu))


def _quantized_dense(
    graph: Graph,
    value: int,
    layer: tuple[Floats, Floats],
    scales: tuple[Quantized, Quantized],
    label: str,
    *,
    relu: bool,
) -> int:
    weights, bias = layer
    inner, outer = scales
    scale = float(np.abs(weights).max()) / _INT8_MAX or 1.0
    ints = np.rint(weights / scale).astype(np.int8)
    both = Quantized(scale * inner.scale)
    bias_ints = np.rint(bias / both.scale).astype(np.int32)
    inputs = [
        value,
        graph.tensor(f"{label}_weights", weights.shape, "int8", Quantized(scale), ints),
        graph.tensor(f"{label}_bias", bias.shape, "int32", both, bias_ints),
    ]
    out = graph.tensor(label, (1, weights.shape[0]), "int8", outer)
    return graph.operate("FULLY_CONNECTED", inputs, out, _fully_connected(relu=relu))


def _fully_connected(*, relu: bool) -> object:
    options = schema.FullyConnectedOptionsT()
    kinds = schema.ActivationFunctionType
    options.fusedActivationFunction = kinds.RELU if relu else kinds.NONE
    return options


def _softmax() -> object:
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    return options


def _head(head: Head, value: int, scores: int) -> tuple[str, list[int], int, object]:
    if head == "softmax":
        return "SOFTMAX", [value], scores, _softmax()
    return "LOGISTIC", [value], scores, None


def _spanning(low: float, high: float) -> Quantized:
    """Return int8 quantization that spans real values and has an exact zero."""
    scale = (high - low) / 255
    return Quantized(scale, int(np.clip(round(-128 - low / scale), -128, 127)))


def _shifted(quantized: Quantized, form: Form) -> Quantized:
    return Quantized(quantized.scale, quantized.zero_point + _ZERO_POINT_SHIFT[form])
