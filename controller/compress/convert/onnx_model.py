"""ONNX models. Imported in the child alone.

The graph runs as a torch network (`onnx_graph`), which litert-torch converts; what it is compared
with are the answers of onnxruntime, which shares nothing with either.
"""

from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, inliner

from controller.compress.convert import torch_export
from controller.compress.convert.onnx_graph import Network
from controller.compress.convert.source import Arrays, Written, port
from controller.compress.errors import CompressError

_SILENT = 4


class OnnxModel:
    """An ONNX model, as `convert.source.Source`.

    Raises:
        CompressError: it has operators that cannot be converted, or leaves axes open.
    """

    tools = (
        *torch_export.TOOLS,
        f"onnx {onnx.__version__}",
        f"onnxruntime {onnxruntime.__version__}",
    )

    def __init__(self, path: Path, name: str, shape: tuple[int, ...] | None) -> None:
        torch.set_num_threads(1)
        onnx.checker.check_model(str(path))
        model = onnx.load(path)
        if model.functions:
            model = inliner.inline_local_functions(model)
        constants = {each.name for each in model.graph.initializer}
        taken = [each for each in model.graph.input if each.name not in constants]
        if not taken:
            raise CompressError(f"cannot convert {name}: it has no inputs")
        self.inputs = tuple(
            port(each.name, _dims(each), _dtype(each), shape, name) for each in taken
        )
        self._network = Network(model, [each.name for each in taken], name)
        self._outputs = [each.name for each in model.graph.output]
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = _SILENT
        settings.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            path, settings, providers=["CPUExecutionProvider"]
        )

    def run(self, arrays: Arrays) -> Arrays:
        """Answer one row of every input, with onnxruntime."""
        feeds = dict(zip([each.name for each in self.inputs], arrays, strict=True))
        answers: Arrays = self._session.run(self._outputs, feeds)
        return answers

    def write(self, path: Path, *, channels_last: bool) -> Written:
        """Write it as a `.tflite` file."""
        example = [
            torch.zeros(each.shape, dtype=getattr(torch, each.dtype)) for each in self.inputs
        ]
        self._network.prepare(example)
        return torch_export.write(
            self._network, example, path, self._outputs, channels_last=channels_last
        )


def _dims(value: Any) -> list[int | None]:  # noqa: ANN401 - made by protobuf, untyped
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]


def _dtype(value: Any) -> str:  # noqa: ANN401
    if not value.type.HasField("tensor_type"):
        return str(value.type.WhichOneof("value"))
    kind = value.type.tensor_type.elem_type
    if kind == TensorProto.STRING:
        return "strings"
    return str(helper.tensor_dtype_to_np_dtype(kind).name)
