"""Inference answers of the Open Inference Protocol v2: from answers to bytes. Pure."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.runner.cascade import is_gated
from agent.runner.http1 import Response
from agent.runner.oip_request import NAME_OF, STAGE, Asked, Wanted
from agent.runner.walk import Answer
from protocols.bundle import Bundle

_BINARY = "application/octet-stream"


def write(
    asked: Asked,
    answers: Sequence[Answer],
    bundle: Bundle,
    stages: Sequence[str],
    *,
    certified: bool,
) -> Response:
    """Return the answer to an inference request.

    Args:
        asked: the request.
        answers: of its samples, in order.
        bundle: the manifest of the cascade that answered.
        stages: the names that `Answer.stage` is an index into.
        certified: whether an answer that is not degraded stands under a certificate. Without a
            gate there is nothing to certify, and the answer does not speak of it.
    """
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
            "stage": stages[max(answer.stage for answer in answers)],
            "degraded": degraded,
            **({"certified": certified and not degraded} if is_gated(bundle) else {}),
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


def _tensor(wanted: Wanted, values: NDArray[Any]) -> tuple[dict[str, Any], bytes]:
    output: dict[str, Any] = {
        "name": wanted.name,
        "datatype": NAME_OF[values.dtype.name],
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
