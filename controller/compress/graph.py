"""A `.tflite` file taken apart: its first subgraph's tensors and operators, and the way back.

The classes that `ai_edge_litert.schema_py_generated` makes of the TFLite schema are untyped; this
module is the only one that touches them. Flatbuffer layout, options and whatever we do not know of
a model are kept as they were.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from controller.compress.errors import CompressError

_IDENTIFIER = b"TFL3"
_MAGIC = slice(4, 8)
_LEFT_OUT = -1
_KEPT_METADATA = (b"min_runtime_version",)
"""What of the metadata is as true of a part as of the whole."""

_DTYPES: dict[int, np.dtype[Any]] = {
    schema.TensorType.FLOAT32: np.dtype(np.float32),
    schema.TensorType.FLOAT16: np.dtype(np.float16),
    schema.TensorType.FLOAT64: np.dtype(np.float64),
    schema.TensorType.INT8: np.dtype(np.int8),
    schema.TensorType.UINT8: np.dtype(np.uint8),
    schema.TensorType.INT16: np.dtype(np.int16),
    schema.TensorType.INT32: np.dtype(np.int32),
    schema.TensorType.INT64: np.dtype(np.int64),
    schema.TensorType.BOOL: np.dtype(np.bool_),
}
_OPERATOR_NAMES: dict[int, str] = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)
}
_TYPE_NAMES: dict[int, str] = {
    value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)
}


@dataclass(frozen=True, slots=True)
class AffineScale:
    """real = (q - zero_point) * scale, per tensor, or per slice of `axis`.

    Attributes:
        scale: [1] or [slices of axis], float32.
        zero_point: as scale, int64.
        axis: which axis of the tensor the scales run along; None: one scale for all.
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int | None

    def broadcast(self, rank: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return scale and zero point in a shape that goes with a tensor of `rank` axes."""
        if self.axis is None:
            return self.scale.reshape(()), self.zero_point.reshape(())
        shape = [1] * rank
        shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero_point.reshape(shape)


class Graph:
    """One model file. Tensors and operators are named by their numbers in the first subgraph."""

    def __init__(self, model: Any, name: str) -> None:  # noqa: ANN401 - schema's classes are untyped
        self._model = model
        self._subgraph = model.subgraphs[0]
        self.name = name

    @classmethod
    def read(cls, content: bytes, name: str) -> Self:
        """Take a file apart.

        Args:
            content: the whole file.
            name: for messages.

        Raises:
            CompressError: it is no `.tflite` file.
        """
        if content[_MAGIC] != _IDENTIFIER:
            raise CompressError(f"cannot read {name}: it is no .tflite file (no 'TFL3' at byte 4)")
        try:
            model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        except Exception as error:  # a damaged flatbuffer fails anywhere, in any way
            raise CompressError(f"cannot read {name}: it is damaged ({error})") from error
        if not model.subgraphs or not model.subgraphs[0].operators:
            raise CompressError(f"cannot read {name}: it has no operators")
        _bring_in(model, content)
        return cls(model, name)

    def write(self) -> bytes:
        """Return the file. Reading it again gives an equal graph."""
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self._model.Pack(builder), file_identifier=_IDENTIFIER)
        return bytes(builder.Output())

    # --- what it is made of

    @property
    def subgraphs(self) -> int:
        """How many subgraphs it has; only the first is taken apart."""
        return len(self._model.subgraphs)

    @property
    def inputs(self) -> tuple[int, ...]:
        """The tensors that it takes."""
        return tuple(int(n) for n in self._subgraph.inputs)

    @property
    def outputs(self) -> tuple[int, ...]:
        """The tensors that it gives."""
        return tuple(int(n) for n in self._subgraph.outputs)

    def named_ends(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return what the first signature's inputs and outputs are called; empty: it has none."""
        if not self._model.signatureDefs:
            return {}, {}
        first = self._model.signatureDefs[0]
        taken, gives = (
            {end.name.decode(errors="replace"): int(end.tensorIndex) for end in ends or ()}
            for ends in (first.inputs, first.outputs)
        )
        return taken, gives

    @property
    def tensors(self) -> range:
        """All tensors."""
        return range(len(self._subgraph.tensors))

    @property
    def operators(self) -> range:
        """All operators, in the order in which they run."""
        return range(len(self._subgraph.operators))

    # --- operators

    def operator_name(self, operator: int) -> str:
        """Return the schema's name of an operator's kind, such as CONV_2D."""
        code = self._model.operatorCodes[self._subgraph.operators[operator].opcodeIndex]
        if code.customCode:
            return f"CUSTOM {code.customCode.decode(errors='replace')}"
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        return _OPERATOR_NAMES.get(number, f"OPERATOR {number}")

    def operator_inputs(self, operator: int) -> tuple[int, ...]:
        """Return the tensors that an operator reads; -1 stands for one that is left out."""
        inputs = self._subgraph.operators[operator].inputs
        return () if inputs is None else tuple(int(n) for n in inputs)

    def operator_outputs(self, operator: int) -> tuple[int, ...]:
        """Return the tensors that an operator writes."""
        outputs = self._subgraph.operators[operator].outputs
        return () if outputs is None else tuple(int(n) for n in outputs)

    def readers(self, tensor: int) -> tuple[int, ...]:
        """Return the operators that read a tensor."""
        return tuple(o for o in self.operators if tensor in self.operator_inputs(o))

    def has_subgraphs(self, operator: int) -> bool:
        """Whether an operator runs other subgraphs, as conditions and loops do."""
        one = self._subgraph.operators[operator]
        options = (one.builtinOptions, one.builtinOptions2)
        return any("ubgraph" in name for found in options if found for name in vars(found))

    # --- tensors

    def tensor_name(self, tensor: int) -> str:
        """Return a tensor's name; it may be empty, and need not be its alone."""
        name = self._subgraph.tensors[tensor].name
        return name.decode(errors="replace") if name else ""

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return a tensor's shape, with 1 for an axis that is left open."""
        shape = self._subgraph.tensors[tensor].shape
        return () if shape is None else tuple(max(1, int(n)) for n in shape)

    def type_name(self, tensor: int) -> str:
        """Return a tensor's type as the schema names it, in lower case: float32, int8, int4."""
        kind = self._subgraph.tensors[tensor].type
        return _TYPE_NAMES.get(kind, f"type {kind}")

    def dtype(self, tensor: int) -> np.dtype[Any] | None:
        """Return a tensor's dtype; None: numpy has none for it (int4, strings, resources)."""
        return _DTYPES.get(self._subgraph.tensors[tensor].type)

    def buffer(self, tensor: int) -> int:
        """Return the number of the buffer that holds a tensor's values; several may share one."""
        return int(self._subgraph.tensors[tensor].buffer)

    def stored_bytes(self, tensor: int) -> int:
        """Return how many bytes of the file a tensor's values take; 0: it is no constant."""
        data = self._model.buffers[self.buffer(tensor)].data
        return 0 if data is None else len(data)

    def is_constant(self, tensor: int) -> bool:
        """Whether a tensor's values stand in the file."""
        return self.stored_bytes(tensor) > 0

    def constants(self) -> Iterator[int]:
        """Yield the tensors whose values stand in the file."""
        return (tensor for tensor in self.tensors if self.is_constant(tensor))

    def scale(self, tensor: int) -> AffineScale | None:
        """Return how a quantized tensor's numbers are meant; None: they mean themselves."""
        quantization = self._subgraph.tensors[tensor].quantization
        if quantization is None or quantization.scale is None or not len(quantization.scale):
            return None
        scale = np.asarray(quantization.scale, np.float32)
        zero_point = quantization.zeroPoint
        zeros = np.zeros(scale.size) if zero_point is None else zero_point
        axis = int(quantization.quantizedDimension) if scale.size > 1 else None
        return AffineScale(scale, np.resize(np.asarray(zeros, np.int64), scale.size), axis)

    def block_scales(self, tensor: int) -> int | None:
        """Return the tensor with the scales of a blockwise quantized one; None: it is not."""
        quantization = self._subgraph.tensors[tensor].quantization
        details = None if quantization is None else quantization.details
        return int(details.scales) if isinstance(details, schema.BlockwiseQuantizationT) else None

    def is_sparse(self, tensor: int) -> bool:
        """Whether a tensor's zeros are left out of the file."""
        return self._subgraph.tensors[tensor].sparsity is not None

    def raw(self, tensor: int) -> NDArray[np.uint8]:
        """Return the bytes of a constant as they stand in the file; empty: it is none."""
        data = self._model.buffers[self.buffer(tensor)].data
        return np.zeros(0, np.uint8) if data is None else np.asarray(data, np.uint8)

    def values(self, tensor: int) -> NDArray[Any]:
        """Return a constant's numbers as they are stored, in its dtype and shape; a copy.

        Raises:
            CompressError: it is no constant, or of a type that numpy does not have.
        """
        dtype = self.dtype(tensor)
        if dtype is None or not self.is_constant(tensor):
            raise CompressError(
                f"cannot take tensor {tensor} of {self.name} apart: "
                f"{self.type_name(tensor)}, {self.stored_bytes(tensor)} bytes stored"
            )
        data = np.asarray(self._model.buffers[self.buffer(tensor)].data, np.uint8)
        return data.view(dtype).reshape(self.shape(tensor)).copy()

    def real(self, tensor: int) -> NDArray[np.float32]:
        """Return what a constant's numbers mean: dequantized where it is quantized.

        Raises:
            CompressError: as `values`.
        """
        stored = self.values(tensor)
        scale = self.scale(tensor)
        if scale is None:
            return stored.astype(np.float32)
        factor, zero_point = scale.broadcast(stored.ndim)
        return ((stored.astype(np.int64) - zero_point) * factor).astype(np.float32)

    def replace(self, tensor: int, values: NDArray[Any]) -> None:
        """Put other numbers of the same dtype and shape into a constant.

        A buffer that other tensors read too stays theirs: this tensor gets one of its own.

        Raises:
            CompressError: dtype or shape differ.
        """
        if values.dtype != self.dtype(tensor) or values.shape != self.shape(tensor):
            raise CompressError(
                f"cannot replace tensor {tensor} of {self.name}: {values.dtype} {values.shape} "
                f"into {self.type_name(tensor)} {self.shape(tensor)}"
            )
        data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        if len(self.users(self.buffer(tensor))) > 1:
            fresh = schema.BufferT()
            fresh.data = data
            self._model.buffers.append(fresh)
            self._subgraph.tensors[tensor].buffer = len(self._model.buffers) - 1
        else:
            self._model.buffers[self.buffer(tensor)].data = data

    def reorder(self, tensor: int, axis: int, order: NDArray[np.intp]) -> None:
        """Put the slices of a constant along an axis into another order, with their scales.

        Args:
            tensor: which one.
            axis: of its shape.
            order: where each of the new slices stood, [slices].

        Raises:
            CompressError: as `values`.
        """
        self.replace(tensor, self.values(tensor).take(order, axis))
        scale = self.scale(tensor)
        if scale is not None and scale.axis == axis:
            quantization = self._subgraph.tensors[tensor].quantization
            quantization.scale = scale.scale[order]
            quantization.zeroPoint = scale.zero_point[order]

    def complete(self) -> None:
        """Add what old converters left out and newer tools need; what it computes stays.

        Codes of operators stand in the field of 32 bits too; every tensor has a name of its own;
        there is a signature (`serving_default`), its ends named as the tensors are.
        """
        for code in self._model.operatorCodes:
            code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
        taken = {self.tensor_name(tensor) for tensor in (*self.inputs, *self.outputs)}
        for tensor in self.tensors:
            name = self.tensor_name(tensor)
            if tensor in (*self.inputs, *self.outputs) or (name and name not in taken):
                taken.add(name)
                continue
            self._subgraph.tensors[tensor].name = f"{name or 'tensor'}#{tensor}".encode()
        if not self._model.signatureDefs:
            self._model.signatureDefs = [self._signature()]

    def _signature(self) -> Any:  # noqa: ANN401
        made = schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = b"serving_default", 0
        made.inputs = [self._end(tensor) for tensor in self.inputs]
        made.outputs = [self._end(tensor) for tensor in self.outputs]
        return made

    def _end(self, tensor: int) -> Any:  # noqa: ANN401
        end = schema.TensorMapT()
        end.name, end.tensorIndex = self.tensor_name(tensor).encode(), tensor
        return end

    def share_buffer(self, tensor: int, owner: int) -> None:
        """Let a tensor read the buffer of another; the one it had is emptied if nobody reads it."""
        mine = self.buffer(tensor)
        self._subgraph.tensors[tensor].buffer = self.buffer(owner)
        if not self.users(mine):
            self._model.buffers[mine].data = None

    # --- parts

    def signature(self, tensor: int) -> tuple[int, ...] | None:
        """Return a tensor's shape with -1 for an axis that is left open; None: no rank is known."""
        one = self._subgraph.tensors[tensor]
        shape = one.shapeSignature if one.shapeSignature is not None else one.shape
        if shape is None:
            return () if one.hasRank else None
        return tuple(int(n) for n in shape)

    def is_variable(self, tensor: int) -> bool:
        """Whether a tensor keeps its values from one answer to the next."""
        return bool(self._subgraph.tensors[tensor].isVariable)

    def operator_intermediates(self, operator: int) -> tuple[int, ...]:
        """Return the tensors that stand for scales inside of an operator, as LSTMs have them."""
        found = self._subgraph.operators[operator].intermediates
        return () if found is None else tuple(int(n) for n in found)

    @property
    def lies_outside(self) -> bool:
        """Whether values or options lie where only the original file has them."""
        large = any(o.largeCustomOptionsOffset > 1 for o in self._subgraph.operators)
        return large or any(t.externalBuffer for t in self._subgraph.tensors)

    def part(
        self, operators: Sequence[int], inputs: Sequence[int], outputs: Sequence[int], name: str
    ) -> "Graph":
        """Return a graph of some operators alone: with their tensors, buffers and codes, no others.

        Names, shapes, quantization and options stay. Signatures are made anew under the same keys:
        an input or output of the whole keeps its name there, others are called as their tensors.
        Of the metadata only `min_runtime_version` stays.

        Args:
            operators: which ones, in the order in which they run.
            inputs: the tensors that it takes.
            outputs: the tensors that it gives.
            name: of the part, for messages.
        """
        whole = self._model
        used = {*inputs, *outputs}
        for operator in operators:
            used |= {*self.operator_inputs(operator), *self.operator_outputs(operator)}
            used |= {*self.operator_intermediates(operator)}
        tensors = sorted(used - {_LEFT_OUT})
        place = {old: new for new, old in enumerate(tensors)} | {_LEFT_OUT: _LEFT_OUT}
        made = schema.ModelT()
        made.version, made.description = whole.version, whole.description
        buffers = _Renumbered([whole.buffers[0]])
        codes = _Renumbered([])
        subgraph = schema.SubGraphT()
        subgraph.name, subgraph.debugMetadataIndex = self._subgraph.name, -1
        subgraph.tensors = [copy.copy(self._subgraph.tensors[tensor]) for tensor in tensors]
        for tensor in subgraph.tensors:
            content = whole.buffers[tensor.buffer]
            tensor.buffer = 0 if content.data is None else buffers.add(content)
        subgraph.operators = [copy.copy(self._subgraph.operators[o]) for o in operators]
        for operator in subgraph.operators:
            operator.opcodeIndex = codes.add(whole.operatorCodes[operator.opcodeIndex])
            operator.debugMetadataIndex = -1
            for field in ("inputs", "outputs", "intermediates"):
                old = getattr(operator, field)
                if old is not None:
                    setattr(operator, field, [place[int(n)] for n in old])
        subgraph.inputs = [place[n] for n in inputs]
        subgraph.outputs = [place[n] for n in outputs]
        made.subgraphs, made.operatorCodes = [subgraph], codes.items
        made.metadata = [_moved(entry, whole, buffers) for entry in self._kept_metadata()]
        made.signatureDefs = [
            self._signature_of(one, (inputs, outputs), place)
            for one in whole.signatureDefs or ()
            if one.subgraphIndex == 0
        ]
        made.buffers = buffers.items
        return Graph(made, name)

    def _kept_metadata(self) -> list[Any]:
        return [entry for entry in self._model.metadata or () if entry.name in _KEPT_METADATA]

    def _signature_of(
        self,
        whole: Any,  # noqa: ANN401
        ends: tuple[Sequence[int], Sequence[int]],
        place: dict[int, int],
    ) -> Any:  # noqa: ANN401
        """Return a signature of a part under the key of the whole's."""
        made = schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = whole.signatureKey, 0
        for field, tensors in zip(("inputs", "outputs"), ends, strict=True):
            known = {int(one.tensorIndex): one.name for one in getattr(whole, field) or ()}
            entries = []
            for tensor in tensors:
                entry = schema.TensorMapT()
                entry.tensorIndex = place[tensor]
                entry.name = known.get(tensor) or self.tensor_name(tensor) or f"tensor_{tensor}"
                entries.append(entry)
            setattr(made, field, entries)
        return made

    def users(self, buffer: int) -> tuple[tuple[int, int], ...]:
        """Return the tensors, as (subgraph, tensor), whose values a buffer holds."""
        return tuple(
            (number, index)
            for number, subgraph in enumerate(self._model.subgraphs)
            for index, tensor in enumerate(subgraph.tensors)
            if int(tensor.buffer) == buffer
        )


def _bring_in(model: Any, content: bytes) -> None:  # noqa: ANN401
    """Take in buffers that lie behind the flatbuffer, as large models have them (schema.fbs)."""
    for buffer in model.buffers:
        if buffer.offset > 1 and buffer.size > 1:  # 0 and 1 mean: none
            data = content[buffer.offset : buffer.offset + buffer.size]
            buffer.data = np.frombuffer(data, np.uint8)
        buffer.offset = buffer.size = 0


class _Renumbered:
    """Things of a file that get new numbers, each of them once."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self._places = {id(item): place for place, item in enumerate(items)}

    def add(self, item: object) -> int:
        """Return the new number of a thing."""
        if id(item) not in self._places:
            self._places[id(item)] = len(self.items)
            self.items.append(item)
        return self._places[id(item)]


def _moved(entry: Any, whole: Any, buffers: _Renumbered) -> Any:  # noqa: ANN401
    made = schema.MetadataT()
    made.name, made.buffer = entry.name, buffers.add(whole.buffers[entry.buffer])
    return made
