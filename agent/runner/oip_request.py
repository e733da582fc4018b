"""Inference requests of the Open Inference Protocol v2: from bytes to samples. Pure."""

import json
import math
import re
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.runner.http1 import HttpError, Request
from protocols.bundle import OIP_DATATYPE, Bundle, SampleSpec

MAX_SAMPLES = 128
MAX_JSON_BYTES = 4 << 20
JSON_LENGTH = "inference-header-content-length"
STAGE, DEGRADED = "stage", "degraded"

_MOST_OUTPUTS = 3
NAME_OF: dict[str, str] = {str(dtype): name for dtype, name in OIP_DATATYPE.items()}
_DTYPE_OF = {name: dtype for dtype, name in OIP_DATATYPE.items()}
_LENGTH = re.compile("[0-9]{1,10}")

_decoding = threading.Lock()
"""A JSON document can take forty times its size while it is read, so it is one at a time."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that a request asks for."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """An inference request, read."""

    id: str | None
    batch: NDArray[Any]
    """[n, *sample shape], in the bundle's input dtype or float32 for a quantized one."""
    batched: bool
    """Whether the request had the batch axis."""
    outputs: tuple[Wanted, ...]


def read(request: Request, bundle: Bundle) -> Asked:
    """Read an inference request.

    Raises:
        HttpError: it is malformed, or its tensor is not the bundle's input.
    """
    with _decoding:
        header, raw = _split(request)
        document = read_object(header)
        inputs = document.get("inputs")
        if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
            raise _bad('want "inputs": one tensor with name, shape, datatype and data')
        wanted = _outputs(document, bundle)
        batch, batched = _batch(inputs[0], raw, bundle.input)
        identity = document.get("id")
        if identity is not None and not isinstance(identity, str):
            raise _bad('"id" is not a string')
        return Asked(identity, batch, batched, wanted)


def read_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        HttpError: it is none, or too large.
    """
    if len(body) > MAX_JSON_BYTES:
        raise HttpError(
            413,
            f"cannot infer: {len(body)} bytes of JSON, at most {MAX_JSON_BYTES} are read; "
            "send fewer samples, or binary data",
        )
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _bad(f"the body is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise _bad("the body is not a JSON object")
    return document


def _split(request: Request) -> tuple[bytes, memoryview]:
    """Return the JSON and the binary data behind it."""
    text, body = request.headers.get(JSON_LENGTH), request.body
    if text is None:
        return body, memoryview(b"")
    length = int(text) if _LENGTH.fullmatch(text) else -1
    if not 0 <= length <= len(body):
        raise _bad(f"Inference-Header-Content-Length is {text}, the body {len(body)} bytes")
    return body[:length], memoryview(body)[length:]


def _batch(tensor: dict[str, Any], raw: memoryview, spec: SampleSpec) -> tuple[NDArray[Any], bool]:
    """Return the samples, [n, *sample shape], and whether the request had the batch axis."""
    shape, batched = _shape(tensor.get("shape"), spec)
    dtype = _dtype(tensor.get("datatype"), spec)
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        if raw:
            raise _bad(f"{len(raw)} bytes follow the JSON and no input has binary_data_size")
        values = _from_json(tensor.get("data"), dtype)
    else:
        if "data" in tensor:
            raise _bad("the input has both data and binary_data_size")
        values = _from_bytes(raw, size, dtype)
    count = math.prod(shape)
    if values.size != count:
        raise _bad(f"shape {shape} has {count} elements, the data {values.size}")
    if dtype.kind == "f" and not np.isfinite(values).all():
        raise _bad("the data holds NaN or infinity, or a value that does not fit the datatype")
    return values.reshape((-1, *spec.shape)), batched


def _shape(shape: object, spec: SampleSpec) -> tuple[list[int], bool]:
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise _bad('"shape" is not a list of integers')
    sample = list(spec.shape)
    if shape == sample:
        return shape, False
    if shape[1:] != sample or len(shape) != len(sample) + 1:
        raise _bad(f"shape {shape} is neither {['n', *sample]} nor {sample}".replace("'", ""))
    if not 1 <= shape[0] <= MAX_SAMPLES:
        raise _bad(f"{shape[0]} samples, 1 to {MAX_SAMPLES} are allowed")
    return shape, True


def _dtype(datatype: object, spec: SampleSpec) -> np.dtype[Any]:
    declared = OIP_DATATYPE[spec.dtype]
    allowed = (declared, "FP32") if spec.quantization is not None else (declared,)
    if not isinstance(datatype, str) or datatype not in allowed:
        raise _bad(f"datatype is {datatype!r}, want {' or '.join(allowed)}")
    return np.dtype(_DTYPE_OF[datatype])


def _from_json(data: object, dtype: np.dtype[Any]) -> NDArray[Any]:
    if not isinstance(data, list):
        raise _bad('"data" is not a list')
    try:
        values = np.asarray(data)
    except (ValueError, OverflowError) as error:
        raise _bad('"data" is ragged, or no list of numbers') from error
    if dtype.kind == "b" and values.dtype.kind in "iu" and np.isin(values, (0, 1)).all():
        return values.astype(dtype).ravel()
    if values.dtype.kind not in ("b" if dtype.kind == "b" else "iuf"):
        raise _bad(f'"data" holds something other than {NAME_OF[dtype.name]} values')
    return _exactly(values.ravel(), dtype)


def _exactly(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Cast numbers from JSON; integers must be whole and in range."""
    if not values.size:
        return values.astype(dtype)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):  # what overflows is infinite then, and refused
            numbers: NDArray[Any] = values.astype(dtype, copy=False)
        return numbers
    if dtype.kind == "b":
        return values
    limits = np.iinfo(dtype)
    whole = values.dtype.kind != "f" or bool((np.rint(values) == values).all())
    smallest, largest = values.min().item(), values.max().item()  # Python compares these exactly
    if not whole or smallest < limits.min or largest > limits.max:
        raise _bad(f'"data" holds values that are no {dtype.name}')
    return values.astype(dtype)


def _from_bytes(raw: memoryview, size: object, dtype: np.dtype[Any]) -> NDArray[Any]:
    if type(size) is not int or size != len(raw):
        raise _bad(f"binary_data_size is {size}, {len(raw)} bytes follow the JSON")
    if size % dtype.itemsize:
        raise _bad(f"{size} bytes are no whole number of {dtype.itemsize}-byte values")
    if dtype.kind == "b":
        flags: NDArray[np.bool_] = np.frombuffer(raw, np.uint8) != 0
        return flags
    return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype, copy=False)


def _outputs(document: dict[str, Any], bundle: Bundle) -> tuple[Wanted, ...]:
    all_binary = _parameters(document).get("binary_data_output", False) is True
    asked = document.get("outputs")
    if asked is None or asked == []:
        return (Wanted(bundle.output.name, all_binary),)
    if not isinstance(asked, list) or not all(isinstance(output, dict) for output in asked):
        raise _bad('"outputs" is not a list of objects')
    names = [output.get("name") for output in asked]
    if len(names) > _MOST_OUTPUTS or any(names.count(name) > 1 for name in names):
        raise _bad("an output is asked for twice")
    return tuple(_output(output, bundle, binary=all_binary) for output in asked)


def _output(output: dict[str, Any], bundle: Bundle, *, binary: bool) -> Wanted:
    name, parameters = output.get("name"), _parameters(output)
    if not isinstance(name, str) or name not in (bundle.output.name, STAGE, DEGRADED):
        raise _bad(f"output {name!r} is not one of {bundle.output.name}, {STAGE}, {DEGRADED}")
    if "classification" in parameters:
        raise _bad("the classification extension is not served")
    return Wanted(name, parameters.get("binary_data", binary) is True)


def _parameters(holder: dict[str, Any]) -> dict[str, Any]:
    parameters = holder.get("parameters", {})
    if not isinstance(parameters, dict):
        raise _bad('"parameters" is not an object')
    return parameters


def _bad(why: str) -> HttpError:
    return HttpError(400, f"cannot infer: {why}")
