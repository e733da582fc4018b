"""An ONNX graph as a torch network. Imported in the child alone.

What does not depend on the inputs' values (weights, and shapes, since these are fixed) is worked
out by ONNX's own reference implementation, once; the rest are calls of torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from controller.compress.convert.onnx_operators import OPERATORS, Call, Value
from controller.compress.errors import CompressError

_SHAPES = frozenset({"Shape", "Size"})
_DOMAINS = frozenset({"", "ai.onnx"})
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinear", "ConvInteger", "MatMulInteger")
_RECURRENT = frozenset({"LSTM", "GRU", "RNN", "Loop", "If", "Scan"})


@dataclass(frozen=True, slots=True)
class _Node:
    """One operator: the protobuf, and what of it is asked for again and again."""

    proto: Any
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


class Network(nn.Module):  # type: ignore[misc, unused-ignore]  # Any without torch
    """Runs a graph. Call `prepare` before it is traced.

    Args:
        model: an `onnx.ModelProto` without local functions.
        inputs: names of what it takes, in order.
        name: for messages.

    Raises:
        CompressError: it has operators that are not known here.
    """

    def __init__(self, model: Any, inputs: Sequence[str], name: str) -> None:  # noqa: ANN401
        super().__init__()
        _check(model, name)
        self._name, self._inputs = name, tuple(inputs)
        self._outputs = tuple(each.name for each in model.graph.output)
        versions = {each.domain: each.version for each in model.opset_import}
        self._version = max(versions.get(domain, 0) for domain in _DOMAINS)
        self._nodes = [_node(each) for each in model.graph.node]
        self._known: dict[str, NDArray[Any]] = {
            each.name: numpy_helper.to_array(each) for each in model.graph.initializer
        }
        self._buffers_of: dict[str, str] = {}

    def prepare(self, example: Sequence[torch.Tensor]) -> None:
        """Run once, so that all that is constant is worked out and has its place."""
        with torch.no_grad():
            self(*example)

    def forward(self, *taken: torch.Tensor) -> list[torch.Tensor]:
        """Answer inputs in the model's order."""
        values: dict[str, Value] = {**self._known, **dict(zip(self._inputs, taken, strict=True))}
        for node in self._nodes:
            if node.outputs[0] in self._known:
                continue
            given = [values[each] if each else None for each in node.inputs]
            if node.kind in _SHAPES or all(
                each is None or isinstance(each, np.ndarray) for each in given
            ):
                worked_out = self._worked_out(node, given)
                self._known |= dict(zip(node.outputs, worked_out, strict=False))
                results: Sequence[Value] = worked_out
            else:
                results = self._called(node, given)
            values |= zip(node.outputs, results, strict=False)
        return [self._tensor(each, values[each]) for each in self._outputs]

    def _called(self, node: _Node, given: list[Value | None]) -> Sequence[Value]:
        call = Call(node.kind, node.attributes, node.inputs, given, self._version, self._tensor)
        call.outputs = len(node.outputs)
        try:
            found = OPERATORS[node.kind](call)
        except Exception as error:
            words = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CompressError(
                f"cannot convert {self._name}: operator {node.kind} "
                f"{node.proto.name or node.outputs[0]!r}: {words}"
            ) from error
        return found if isinstance(found, (list, tuple)) else [found]

    def _worked_out(self, node: _Node, given: list[Value | None]) -> list[NDArray[Any]]:
        if node.kind in _SHAPES and given[0] is not None:
            shape = np.array(given[0].shape, np.int64)
            if node.kind == "Size":
                return [np.array(shape.prod(), np.int64)]
            return [shape[node.attributes.get("start", 0) : node.attributes.get("end")]]
        feeds = {
            name: value
            for name, value in zip(node.inputs, given, strict=True)
            if isinstance(value, np.ndarray)
        }
        evaluator = ReferenceEvaluator(node.proto, opsets={"": self._version})
        return [np.asarray(each) for each in evaluator.run(None, feeds)]

    def _tensor(self, name: str, value: Value) -> torch.Tensor:
        """Return a value as a tensor; a constant is a buffer with memory of its own."""
        if isinstance(value, torch.Tensor):
            return value
        if name not in self._buffers_of:
            key = f"constant_{len(self._buffers_of)}"
            self.register_buffer(key, torch.from_numpy(np.array(value, order="C")))
            self._buffers_of[name] = key
        return getattr(self, self._buffers_of[name])  # type: ignore[no-any-return, unused-ignore]


def _node(proto: Any) -> _Node:  # noqa: ANN401 - made by protobuf
    attributes = {each.name: helper.get_attribute_value(each) for each in proto.attribute}
    words = {
        key: value.decode() if isinstance(value, bytes) else value
        for key, value in attributes.items()
    }
    return _Node(proto, proto.op_type, tuple(proto.input), tuple(proto.output), words)


def _check(model: Any, name: str) -> None:  # noqa: ANN401
    unknown = sorted(
        {
            each.op_type if each.domain in _DOMAINS else f"{each.domain}.{each.op_type}"
            for each in model.graph.node
            if each.op_type not in {*OPERATORS, *_SHAPES, "Constant", "ConstantOfShape", "Range"}
            or each.domain not in _DOMAINS
        }
    )
    if not unknown:
        return
    if any(each.startswith(_QUANTIZED) for each in unknown):
        hint = "; convert the float model, then ctl model quantize"
    elif _RECURRENT & set(unknown):
        hint = "; loops and recurrent layers are converted from PyTorch (.pt2) and Keras, not ONNX"
    else:
        hint = "; export the model with other operators, or from PyTorch (.pt2) directly"
    raise CompressError(
        f"cannot convert {name}: it has operators that are not converted: "
        f"{', '.join(unknown)}{hint}"
    )
