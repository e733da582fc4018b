"""The Open Inference Protocol v2, as a function of a request. Pure: no sockets, no clock.

What is served, beyond what the protocol makes mandatory:

* `binary_tensor_data`: tensors as raw little-endian bytes behind the JSON, both ways. It is the
  only extension that is announced. `POST /v2/repository/index` lists the cascades; load and unload
  are refused, because the desired document rules what is loaded.
* A cascade has one input. Its name in a request is not checked. `shape` is `[n, *sample]`, or
  `[*sample]` (then the outputs have no batch axis either); n is at most 128. `datatype`
  is the declared one, or FP32 for a quantized one (the values are then real units). NaN and
  infinity are refused. Samples are answered one by one, and the gate decides for each.
* Outputs: the cascade's scores, and, when they are asked for by name, `stage` (INT32 [n], which
  stage answered, counted from 0) and `degraded` (BOOL [n], a later stage should have looked and
  could not).
* `parameters` of every answer: `stage` (the name of the latest stage that answered any sample),
  `degraded` (of any sample) and, of a cascade with gates, `certified` (every sample stands
  under the cascade's certificate).
* Metadata names the classes in `parameters.labels`, where the bundle has labels.
* JSON is at most 4 MiB, a whole request 16 MiB: more samples at once want binary data.
* `model_version` is the bundle's version. A value that is not finite is null in a JSON answer.
* Errors are `{"error": "cannot ...: why"}`; 503 comes with Retry-After.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal, Protocol
from urllib.parse import unquote

from numpy.typing import NDArray

from agent.runner.admission import RefusedError
from agent.runner.http1 import Headers, HttpError, Request, Response
from agent.runner.oip_request import DEGRADED, STAGE, read, read_object
from agent.runner.oip_response import write
from agent.runner.walk import Answer, InferenceError
from protocols.bundle import OIP_DATATYPE, Bundle, SampleSpec
from protocols.inference.tensors import TensorError

EXTENSIONS = ("binary_tensor_data",)
_LONGEST_ERROR = 500


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
        return error_response(error.status, str(error), error.headers)
    except RefusedError as error:
        return error_response(503, str(error), (("Retry-After", str(error.retry_after_s)),))
    except InferenceError as error:
        return error_response(500, str(error))
    except TensorError as error:
        return error_response(400, f"cannot infer: {error}")


def error_response(status: int, message: str, headers: Headers = ()) -> Response:
    """Return the protocol's error object; what a client wrote is not told back at any length."""
    if len(message) > _LONGEST_ERROR:
        message = f"{message[:_LONGEST_ERROR]}..."
    response = _json({"error": message}, status)
    return Response(status, response.body, (*response.headers, *headers))


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
            return _json(_index(read_object(request.body or b"{}"), cascades))
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
    asked = read(request, cascade.bundle)
    answers = cascade.answer(asked.batch)
    return write(asked, answers, cascade.bundle, cascade.stage_names, certified=cascade.certified)


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
        **({"parameters": {"labels": list(bundle.labels)}} if bundle.labels else {}),
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


def _only(request: Request, method: Literal["GET", "POST"]) -> None:
    """Refuse other methods. HEAD is GET whose answer's body the server keeps back."""
    allowed = ("GET", "HEAD") if method == "GET" else ("POST",)
    if request.method not in allowed:
        raise HttpError(
            405,
            f"cannot {request.method} {request.path}: want {method}",
            (("Allow", ", ".join(allowed)),),
        )


def _json(document: object, status: int = 200) -> Response:
    return Response(status, json.dumps(document).encode())
