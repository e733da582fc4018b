"""Quantizing a float model: one form for the whole of it, or a width for each layer.

Where activations stay float32, weights alone become narrow: int8 and int4 layers quantize their
input as they run (dynamic range), float16 ones are unpacked when the model is loaded. Static forms
make activations integers too, with ranges taken from samples.
"""

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from controller.compress.anatomy import OperatorFacts, dissect
from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.layers import Layer, layers
from controller.compress.quantize_process import Job, Rule
from controller.compress.quantizer import check_installed, run_quantizer
from controller.compress.weights import by_layer, put, weights
from controller.compress.widths import Grade, Rounding, Width, near_lossless, rounding, why_not
from controller.inspect import inspect_model
from controller.samples import Samples
from controller.trial import TrialError
from protocols.bundle import TensorSpec
from protocols.inference.tensors import TensorError, conform

CALIBRATION_SAMPLES = 100
"""How many samples set the ranges of activations, if nobody says otherwise."""

OnCalibrated = Callable[[int], None]


class Form(StrEnum):
    """What a whole model becomes."""

    FP16 = "fp16"
    DYNAMIC_INT8 = "dynamic-int8"
    INT8 = "int8"
    INT8_INT16 = "int8-int16"
    INT4 = "int4"
    INT4_BLOCKWISE = "int4-blockwise"


_ACTIVATION_BITS = {Form.INT8: 8, Form.INT8_INT16: 16}
STATIC = frozenset(_ACTIVATION_BITS)
"""Forms whose activations are integers: they need samples."""

_STORED: dict[Width | None, str] = {
    None: "float32",
    Width.FLOAT16: "float16",
    Width.INT8: "int8",
    Width.INT8_TENSOR: "int8",
    Width.INT4: "int4",
    Width.INT4_BLOCKWISE: "int4",
}


@dataclass(frozen=True, slots=True)
class QuantizedLayer:
    """What one layer's weights became.

    Attributes:
        operator: its number in the original's graph.
        name: the layer's.
        kind: as the schema names it.
        weights: how many there are.
        stored: the type of its weights in the new file.
        rounding: what that costs; None: they stay float32.
    """

    operator: int
    name: str
    kind: str
    weights: int
    stored: str
    rounding: Rounding | None


@dataclass(frozen=True, slots=True)
class QuantizeReport:
    """What became of a model.

    Attributes:
        layers: in the order in which they run.
        calibration_samples: how many set the ranges of activations; 0: none.
    """

    layers: tuple[QuantizedLayer, ...]
    calibration_samples: int = 0

    @property
    def stored(self) -> dict[str, int]:
        """How many layers are stored as what."""
        return dict(Counter(layer.stored for layer in self.layers))


def quantize(
    content: bytes,
    form: Form,
    name: str,
    calibration: Samples | None = None,
    *,
    search: bool = False,
    on_calibrated: OnCalibrated = lambda _: None,
) -> tuple[bytes, QuantizeReport]:
    """Give a whole model one form. The result was loaded and run before it is returned.

    Args:
        content: the model's file.
        form: which one.
        name: the model's, for messages.
        calibration: what sets the ranges of activations, all of them; for static forms.
        search: choose scales of least squared error instead of the whole range of each channel.
        on_calibrated: told how many samples are done.

    Returns:
        The new file, and what became of its layers. Layers that cannot take a form of 4 bits take
        the next wider one.

    Raises:
        CompressError: it is quantized already, the form does not fit it, or it does not run.
    """
    doing = f"quantize {name} to {form}"
    check_installed()
    graph = _float_graph(content, name, doing)
    if form in _ACTIVATION_BITS:
        widths = {stored.tensor: Width.INT8 for stored in weights(graph)}
        base = Job(model="", out="", activation_bits=_ACTIVATION_BITS[form])
    else:
        widths = _uniform(graph, form, doing)
        base = Job(model="", out="", others=Width.FLOAT16 if form is Form.FP16 else Width.INT8)
    rows = _input_rows(graph, calibration, doing) if form in _ACTIVATION_BITS else None
    grades = {tensor: Grade(width, search) for tensor, width in widths.items()}
    made, report = _run(graph, base, grades, _Task(doing, rows, on_calibrated))
    check_runs(made, doing)
    return made, report


def quantize_layers(
    content: bytes, grades: Mapping[int, Grade], name: str
) -> tuple[bytes, QuantizeReport]:
    """Give each layer a width and scales of its own; activations stay float32.

    Args:
        content: the model's file.
        grades: by the weights' tensor (`Weights.tensor`); what is not named stays float32.
        name: the model's, for messages.

    Raises:
        CompressError: it is quantized already, or a layer cannot have its width. It was not run.
    """
    doing = f"quantize layers of {name}"
    graph = _float_graph(content, name, doing)
    for stored in weights(graph):
        grade = grades.get(stored.tensor)
        why = "" if grade is None else why_not(graph, stored.layer, grade.width)
        if why:
            raise CompressError(f"cannot {doing}: {stored.layer.name}: {why}")
    return _run(graph, Job(model="", out=""), grades, _Task(doing))


def choose_calibration(samples: Samples, count: int) -> Samples:
    """Choose samples at random (seeded), at most as many as there are."""
    order = np.random.default_rng(0).permutation(len(samples.x))[:count]
    rows = np.sort(order)
    y = None if samples.y is None else samples.y[rows]
    return Samples(samples.x[rows], y, samples.sha256, samples.source)


def check_runs(content: bytes, doing: str) -> None:
    """Check that a model can be loaded and answers, in a process of its own.

    Raises:
        CompressError: it does not.
    """
    with tempfile.TemporaryDirectory(prefix="sluice-quantize-") as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(content)
        try:
            inspect_model(path)
        except TrialError as error:
            raise CompressError(f"cannot {doing}: the result does not run: {error.why}") from error


def check_float(content: bytes, name: str, doing: str) -> None:
    """Check that a model has weights, and that all of them are float32.

    Raises:
        CompressError: it has none, or was quantized before.
    """
    stored = [layer.weights.type for layer in _weighty(content, name) if layer.weights]
    if not stored:
        raise CompressError(f"cannot {doing}: none of its operators has weights")
    narrow = [kind for kind in stored if kind != "float32"]
    if narrow:
        kinds = " and ".join(sorted(set(narrow)))
        raise CompressError(
            f"cannot {doing}: {len(narrow)} of its {len(stored)} layers hold {kinds} weights "
            "already; start from its float32 form"
        )


def _float_graph(content: bytes, name: str, doing: str) -> Graph:
    check_float(content, name, doing)
    graph = Graph.read(content, name)
    graph.complete()
    return graph


def _weighty(content: bytes, name: str) -> list[OperatorFacts]:
    """Return the model's layers, also those whose weights pass a DEQUANTIZE."""
    found = dissect(content, name).operators
    return [one for one in found if one.macs and one.weights and one.kind != "BATCH_MATMUL"]


def _uniform(graph: Graph, form: Form, doing: str) -> dict[int, Width]:
    """Return the narrowest width that a form allows to each layer.

    Raises:
        CompressError: no layer can have the form's own.
    """
    order = {
        Form.FP16: [Width.FLOAT16],
        Form.DYNAMIC_INT8: [],
        Form.INT4: [Width.INT4],
        Form.INT4_BLOCKWISE: [Width.INT4_BLOCKWISE, Width.INT4],
    }[form]
    reasons, widths = [], {}
    for stored in weights(graph):
        wanted = [width for width in order if not why_not(graph, stored.layer, width)]
        widths[stored.tensor] = wanted[0] if wanted else near_lossless(stored.layer)
        reasons += [why_not(graph, stored.layer, width) for width in order[:1]]
    if order and order[0] not in widths.values():
        raise CompressError(f"cannot {doing}: {'; '.join(sorted(set(reasons)))}")
    return widths


def _input_rows(graph: Graph, calibration: Samples | None, doing: str) -> NDArray[np.float32]:
    """Return samples as input tensors, [n, *shape of the input], float32."""
    if calibration is None:
        raise CompressError(
            f"cannot {doing}: ranges of its activations are needed; give --samples, or take a form "
            "that does without (fp16, dynamic-int8, int4)"
        )
    if len(graph.inputs) != 1 or graph.type_name(graph.inputs[0]) != "float32":
        kinds = ", ".join(graph.type_name(tensor) for tensor in graph.inputs)
        raise CompressError(f"cannot {doing}: it takes {kinds}, samples give one float32 input")
    number = graph.inputs[0]
    spec = TensorSpec(name=graph.tensor_name(number), shape=graph.shape(number), dtype="float32")
    try:
        return np.stack([conform(row, spec) for row in calibration.x])
    except TensorError as error:
        raise CompressError(f"cannot {doing}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Task:
    """How it is done: the beginning of messages, samples as inputs, who hears how far it is."""

    doing: str
    rows: NDArray[np.float32] | None = None
    on_calibrated: OnCalibrated = lambda _: None


def _run(
    graph: Graph, base: Job, grades: Mapping[int, Grade], task: _Task
) -> tuple[bytes, QuantizeReport]:
    rows, places = task.rows, by_layer(graph)
    widths = {tensor: grade.width for tensor, grade in grades.items()}
    found = [(layer, widths.get(places[layer.weights].tensor)) for layer in layers(graph)]
    costs = _fit(graph, grades)
    rules = [
        Rule(
            output=graph.tensor_name(graph.operator_outputs(layer.operator)[0]),
            operation=layer.kind,
            width=width,
        )
        for layer, width in found
    ]
    with tempfile.TemporaryDirectory(prefix="sluice-quantize-") as folder:
        paths = {key: Path(folder) / key for key in ("model", "out", "samples")}
        paths["model"].write_bytes(graph.write())
        if rows is not None:
            with paths["samples"].open("wb") as file:
                np.save(file, rows)
        job = base.with_(
            model=str(paths["model"]),
            out=str(paths["out"]),
            rules=rules,
            samples=None if rows is None else str(paths["samples"]),
        )
        run_quantizer(job, task.doing, task.on_calibrated)
        made = paths["out"].read_bytes()
    stored = [one.weights.type for one in _weighty(made, graph.name) if one.weights]
    told = tuple(
        _told(graph, layer, (kind, _STORED[width]), costs.get(layer.weights), task.doing)
        for (layer, width), kind in zip(found, stored, strict=True)
    )
    return made, QuantizeReport(told, 0 if rows is None else len(rows))


def _fit(graph: Graph, grades: Mapping[int, Grade]) -> dict[int, Rounding]:
    """Clip weights where scales are searched; return what rounding costs, by weights' tensor."""
    costs: dict[int, Rounding] = {}
    for stored in weights(graph):
        grade, axis = grades.get(stored.tensor), stored.layer.channel_axis
        if grade is None:
            continue
        before = graph.values(stored.tensor)
        values, cost = rounding(before, axis, grade.width, search=grade.searched)
        if values is not before:
            put(graph, stored, values)
        costs |= dict.fromkeys(stored.tensors, cost)
    return costs


def _told(
    graph: Graph,
    layer: Layer,
    stored: tuple[str, str],
    cost: Rounding | None,
    doing: str,
) -> QuantizedLayer:
    """Return what became of a layer, once it is what was asked for: the library skips in silence.

    Raises:
        CompressError: it is not.
    """
    is_now, wanted = stored
    if is_now != wanted:
        raise CompressError(f"cannot {doing}: {layer.name} became {is_now}, not {wanted}")
    count = math.prod(graph.shape(layer.weights))
    return QuantizedLayer(layer.operator, layer.name, layer.kind, count, is_now, cost)
