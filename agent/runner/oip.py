"""The Open Inference Protocol v2, as a function of a request. Pure: no sockets, no clock.

What is served, beyond what the protocol makes mandatory:

* `binary_tensor_data`: tensors as raw little-endian bytes behind the JSON, both ways. It is the
  only extension that is announced. `POST /v2/repository/index` lists the cascades; load and unload
  are refused, because the desired document rules what is loaded.
* A cascade has one input. Its name in a request is not checked. `shape` is `[n, *sample]`, or
  `[*sample]` (then the outputs have no batch axis either); n is at most `MAX_SAMPLES`. `datatype`
  is the declared one, or FP32 for a quantized one (the values are then real units). NaN and
  infinity are refused. Samples are answered one by one, and the gate decides for each.
* Outputs: the cascade's scores, and, when they are asked for by name, `stage` (INT32 [n], which
  stage answered, counted from 0) and `degraded` (BOOL [n], a later stage should have looked and
  could not).
* `parameters` of every answer: `stage` (the name of the latest stage that answered any sample),
  `degraded` (of any sample) and `certified` (every sample stands under the cascade's certificate).
* `model_version` is the bundle's version. A value that is not finite is null in a JSON answer.
* Errors are `{"error": "cannot ...: why"}`; 503 comes with Retry-After.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from agent.runner.serving import Answer, InferenceError, RefusedError
from protocols.bundle import OIP_DATATYPE, Bundle, SampleSpec
from protocols.inference.tensors import TensorError

MAX_SAMPLES = 128
EXTENSIONS = ("binary_tensor_data",)
JSON_LENGTH = "inference-header-content-length"
STAGE, DEGRADED = "stage", "degraded"

_NAME_OF: dict[str, str] = {str(dtype): name for dtype, name in OIP_DATATYPE.items()}
_DTYPE_OF = {name: dtype for dtype, name in OIP_DATATYPE.items()}
_LENGTH = re.compile("[0-9]{1,10}")
_JSON = "application/json"
_BINARY = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, with its whole body; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer; the server adds Content-Length and what keeps the connection."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("Content-Type", _JSON),)


class Served(Protocol):
    """A cascade, as the protocol sees it."""

    @property
    def bundle(self) -> Bundle:
        """Its manifest."""
        ...

    @property
    def stage_names(self) -> tuple[str, ...]:
        """What `Answer.stage` is an index into."""
        ...

    @property
    def certified(self) -> bool:
        """Whether an answer that is not degraded stands under a certificate."""
        ...

    def unready(self) -> str | None:
        """Say why requests would be refused now; None: they are answered."""
        ...

    def answer(self, batch: NDArray[Any]) -> list[Answer]:
        """Answer [n, *sample]; see `serving.Cascade.answer`."""
        ...


class HttpError(Exception):
    """A request that gets an error; the text is for a person."""

    def __init__(self, status: int, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An output that a request asks for."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class _Asked:
    """An inference request, read."""

    id: str | None
    batch: NDArray[Any]
    batched: bool
    outputs: tuple[_Wanted, ...]


def handle(request: Request, cascades: Mapping[str, Served], version: str) -> Response:
    """Answer one request.

    Args:
        request: as it came.
        cascades: what is served, by name.
        version: of this software, for the server's metadata.
    """
    try:
        return _route(request, cascades, version)
    except HttpError as error:
        return error_response(error.status, str(error), error.retry_after_s)
    except RefusedError as error:
        return error_response(503, str(error), error.retry_after_s)
    except InferenceError as error:
        return error_response(500, str(error))
    except TensorError as error:
        return error_response(400, f"cannot infer: {error}")


def error_response(status: int, message: str, retry_after_s: int | None = None) -> Response:
    """Return the protocol's error object."""
    headers = [("Content-Type", _JSON)]
    if retry_after_s is not None:
        headers.append(("Retry-After", str(max(1, retry_after_s))))
    return Response(status, json.dumps({"error": message}).encode(), tuple(headers))


def _route(request: Request, cascades: Mapping[str, Served], version: str) -> Response:
    path = request.path.partition("?")[0].rstrip("/")
    match [unquote(part) for part in path.split("/")[1:]]:
        case ["v2"]:
            _only(request, "GET")
            return _json({"name": "sluice", "version": version, "extensions": EXTENSIONS})
        case ["v2", "health", "live"]:
            _only(request, "GET")
            return _json({"live": True})
        case ["v2", "health", "ready"]:
            _only(request, "GET")
            ready = all(cascade.unready() is None for cascade in cascades.values())
            return _json({"ready": ready}, 200 if ready else 503)
        case ["v2", "repository", "index"]:
            _only(request, "POST")
            return _json(_index(_object(request.body or b"{}"), cascades))
        case ["v2", "repository", "models", name, "load" | "unload" as verb]:
            _only(request, "POST")
            raise HttpError(
                400, f"cannot {verb} {name}: the desired document rules that; use ctl {verb}"
            )
        case ["v2", "models", name, *rest]:
            return _model(request, _find(name, cascades), rest)
        case _:
            raise HttpError(404, f"cannot answer {request.method} {path or '/'}: no such resource")


def _model(request: Request, cascade: Served, rest: list[str]) -> Response:
    bundle = cascade.bundle
    match rest:
        case ["versions", version, *rest] if version != str(bundle.version):
            raise HttpError(
                404, f"cannot find {bundle.name} version {version}: {bundle.version} is served"
            )
        case ["versions", _, *rest]:
            pass
    match rest:
        case []:
            _only(request, "GET")
            return _json(_metadata(bundle))
        case ["ready"]:
            _only(request, "GET")
            why = cascade.unready()
            body = {"name": bundle.name, "ready": why is None}
            return _json(body if why is None else {**body, "reason": why}, 200 if not why else 503)
        case ["infer"]:
            _only(request, "POST")
            return _infer(request, cascade)
        case _:
            raise HttpError(404, f"cannot answer {request.path}: no such resource")


def _infer(request: Request, cascade: Served) -> Response:
    asked = _read(request, cascade.bundle)
    answers = cascade.answer(asked.batch)
    return _write(asked, answers, cascade)


# --- reading


def _read(request: Request, bundle: Bundle) -> _Asked:
    header, raw = _split(request)
    document = _object(header)
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise _bad('want "inputs": one tensor with name, shape, datatype and data')
    wanted, binary_input = _outputs(document, bundle), inputs[0]
    batch, batched = _batch(binary_input, raw, bundle.input)
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise _bad('"id" is not a string')
    return _Asked(identity, batch, batched, wanted)


def _split(request: Request) -> tuple[bytes, bytes]:
    """Return the JSON and the binary data behind it."""
    text = request.headers.get(JSON_LENGTH)
    if text is None:
        return request.body, b""
    length = int(text) if _LENGTH.fullmatch(text) else -1
    if not 0 <= length <= len(request.body):
        raise _bad(f"Inference-Header-Content-Length is {text}, the body {len(request.body)} bytes")
    return request.body[:length], request.body[length:]


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _bad(f"the body is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise _bad("the body is not a JSON object")
    return document


def _batch(tensor: dict[str, Any], raw: bytes, spec: SampleSpec) -> tuple[NDArray[Any], bool]:
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
    if values.dtype.kind not in ("b" if dtype.kind == "b" else "iuf"):
        if dtype.kind == "b" and values.dtype.kind in "iu" and np.isin(values, (0, 1)).all():
            return values.astype(dtype).ravel()
        raise _bad(f'"data" holds something other than {_NAME_OF[dtype.name]} values')
    return _exactly(values.ravel(), dtype)


def _exactly(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Cast numbers from JSON; integers must be whole and in range."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):  # what overflows is infinite then, and refused
            numbers: NDArray[Any] = values.astype(dtype, copy=False)
        return numbers
    if dtype.kind == "b":
        return values
    limits = np.iinfo(dtype)
    whole = values.dtype.kind != "f" or bool((np.rint(values) == values).all())
    if not whole or (values.size and (values.min() < limits.min or values.max() > limits.max)):
        raise _bad(f'"data" holds values that are no {dtype.name}')
    return values.astype(dtype)


def _from_bytes(raw: bytes, size: object, dtype: np.dtype[Any]) -> NDArray[Any]:
    if type(size) is not int or size != len(raw):
        raise _bad(f"binary_data_size is {size}, {len(raw)} bytes follow the JSON")
    if size % dtype.itemsize:
        raise _bad(f"{size} bytes are no whole number of {dtype.itemsize}-byte values")
    if dtype.kind == "b":
        flags: NDArray[np.bool_] = np.frombuffer(raw, np.uint8) != 0
        return flags
    return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype, copy=False)


def _outputs(document: dict[str, Any], bundle: Bundle) -> tuple[_Wanted, ...]:
    all_binary = _parameters(document).get("binary_data_output", False) is True
    asked = document.get("outputs")
    if asked is None or asked == []:
        return (_Wanted(bundle.output.name, all_binary),)
    if not isinstance(asked, list) or not all(isinstance(output, dict) for output in asked):
        raise _bad('"outputs" is not a list of objects')
    return tuple(_output(output, bundle, binary=all_binary) for output in asked)


def _output(output: dict[str, Any], bundle: Bundle, *, binary: bool) -> _Wanted:
    name, parameters = output.get("name"), _parameters(output)
    if not isinstance(name, str) or name not in (bundle.output.name, STAGE, DEGRADED):
        raise _bad(f"output {name!r} is not one of {bundle.output.name}, {STAGE}, {DEGRADED}")
    if "classification" in parameters:
        raise _bad("the classification extension is not served")
    return _Wanted(name, parameters.get("binary_data", binary) is True)


def _parameters(holder: dict[str, Any]) -> dict[str, Any]:
    parameters = holder.get("parameters", {})
    if not isinstance(parameters, dict):
        raise _bad('"parameters" is not an object')
    return parameters


# --- writing


def _write(asked: _Asked, answers: Sequence[Answer], cascade: Served) -> Response:
    bundle = cascade.bundle
    outputs, tails = [], []
    for wanted in asked.outputs:
        values = _values(wanted.name, answers, bundle)
        if not asked.batched:
            values = values[0]
        output, tail = _tensor(wanted, values)
        outputs.append(output)
        tails.append(tail)
    degraded = any(answer.degraded for answer in answers)
    document = {
        "model_name": bundle.name,
        "model_version": str(bundle.version),
        **({} if asked.id is None else {"id": asked.id}),
        "parameters": {
            "stage": cascade.stage_names[max(answer.stage for answer in answers)],
            "degraded": degraded,
            "certified": cascade.certified and not degraded,
        },
        "outputs": outputs,
    }
    header = _encode(document)
    if not any(wanted.binary for wanted in asked.outputs):
        return Response(200, header)
    return Response(
        200,
        b"".join([header, *tails]),
        (("Content-Type", _BINARY), ("Inference-Header-Content-Length", str(len(header)))),
    )


def _values(name: str, answers: Sequence[Answer], bundle: Bundle) -> NDArray[Any]:
    if name == bundle.output.name:
        if len(answers) == 1:
            return answers[0].values[np.newaxis]
        return np.stack([answer.values for answer in answers])
    if name == STAGE:
        return np.array([answer.stage for answer in answers], np.int32)
    return np.array([answer.degraded for answer in answers], np.bool_)


def _tensor(wanted: _Wanted, values: NDArray[Any]) -> tuple[dict[str, Any], bytes]:
    output: dict[str, Any] = {
        "name": wanted.name,
        "datatype": _NAME_OF[values.dtype.name],
        "shape": list(values.shape),
    }
    if not wanted.binary:
        return {**output, "data": values.ravel().tolist()}, b""
    tail = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    return {**output, "parameters": {"binary_data_size": len(tail)}}, tail


def _encode(document: dict[str, Any]) -> bytes:
    try:
        return json.dumps(document, allow_nan=False).encode()
    except ValueError:
        for output in document["outputs"]:
            if "data" in output:
                output["data"] = [_finite(value) for value in output["data"]]
        return json.dumps(document, allow_nan=False).encode()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# --- metadata


def _metadata(bundle: Bundle) -> dict[str, Any]:
    return {
        "name": bundle.name,
        "versions": [str(bundle.version)],
        "platform": "sluice_tflite",
        "inputs": [_described(bundle.input)],
        "outputs": [
            _described(bundle.output),
            {"name": STAGE, "datatype": "INT32", "shape": [-1]},
            {"name": DEGRADED, "datatype": "BOOL", "shape": [-1]},
        ],
    }


def _described(spec: SampleSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "datatype": OIP_DATATYPE[spec.dtype],
        "shape": [-1, *spec.shape],
    }


def _index(filters: dict[str, Any], cascades: Mapping[str, Served]) -> list[dict[str, str]]:
    rows = []
    for name, cascade in cascades.items():
        why = cascade.unready()
        if why is not None and filters.get("ready") is True:
            continue
        rows.append(
            {
                "name": name,
                "version": str(cascade.bundle.version),
                "state": "READY" if why is None else "UNAVAILABLE",
                "reason": why or "",
            }
        )
    return rows


def _find(name: str, cascades: Mapping[str, Served]) -> Served:
    cascade = cascades.get(name)
    if cascade is None:
        served = ", ".join(cascades) or "nothing"
        raise HttpError(404, f"cannot find model {name!r}: this device serves {served}")
    return cascade


def _only(request: Request, method: str) -> None:
    if request.method != method:
        raise HttpError(405, f"cannot {request.method} {request.path}: want {method}")


def _json(document: object, status: int = 200) -> Response:
    return Response(status, json.dumps(document).encode())


def _bad(why: str) -> HttpError:
    return HttpError(400, f"cannot infer: {why}")
