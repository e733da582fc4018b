import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.runner.admission import RefusedError
from agent.runner.http1 import Request, Response
from agent.runner.oip import handle
from agent.runner.oip_request import MAX_JSON_BYTES, MAX_SAMPLES
from agent.runner.walk import Answer, InferenceError
from protocols.bundle import (
    ArtifactRef,
    Bundle,
    DType,
    Golden,
    Needs,
    Quantization,
    SampleSpec,
    Stage,
    TensorSpec,
    Variant,
)
from protocols.inference.tensors import TensorError
from protocols.schedule import default_cascade_schedule

REF = ArtifactRef(sha256="0" * 64, size_bytes=1)


def bundle(dtype: DType = "float32", *, quantized: bool = False) -> Bundle:
    quantization = Quantization(scale=0.5, zero_point=3) if quantized else None
    tensor = TensorSpec(name="t", shape=(1, 4), dtype="float32")
    variant = Variant(
        name="fp32",
        artifact=REF,
        inputs=(tensor,),
        outputs=(tensor,),
        score_kind="probabilities",
        needs=Needs(load_mib=1, load_ms=1, answer_ms=1),
    )
    return Bundle(
        name="digits",
        version=3,
        created_ts=0,
        input=SampleSpec(name="x", shape=(2, 2), dtype=dtype, quantization=quantization),
        output=SampleSpec(name="scores", shape=(4,), dtype="float32"),
        stages=(
            Stage(name="small", variants=(variant,), metric="max_prob"),
            Stage(name="large", variants=(variant,)),
        ),
        golden=Golden(artifact=REF, count=1),
        schedule=default_cascade_schedule(("small", "large"), 1),
    )


@dataclass
class Echo:
    """A cascade that gives back what it gets: even sums leave at the first stage."""

    bundle: Bundle = field(default_factory=bundle)
    certified: bool = True
    why: str | None = None
    fault: Exception | None = None
    batches: list[NDArray[Any]] = field(default_factory=list)

    @property
    def stage_names(self) -> tuple[str, ...]:
        return ("small", "large")

    def unready(self) -> str | None:
        return self.why

    def answer(self, batch: NDArray[Any]) -> list[Answer]:
        if self.fault is not None:
            raise self.fault
        self.batches.append(batch)
        return [
            Answer(x.ravel().astype(np.float32), int(x.sum()) % 2, degraded=bool(x.sum() == 4))
            for x in batch
        ]


def ask(
    served: Echo, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[Response, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = handle(Request(method, path, named, body), {"digits": served}, "1.2.3")
    length = dict(response.headers).get("Inference-Header-Content-Length")
    return response, json.loads(response.body[: int(length)] if length else response.body)


def infer(served: Echo, document: object, tail: bytes = b"", **kinds: str) -> tuple[Response, Any]:
    header = json.dumps(document).encode()
    if tail:
        kinds["inference_header_content_length"] = str(len(header))
    return ask(served, "POST", "/v2/models/digits/infer", header + tail, **kinds)


def one(**changes: object) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2, 2], "data": [1, 2, 3, 4.5]}
    return {"inputs": [{**tensor, **changes}]}


def test_server_and_model_metadata() -> None:
    served = Echo()
    assert ask(served, "GET", "/v2")[1] == {
        "name": "sluice",
        "version": "1.2.3",
        "extensions": ["binary_tensor_data"],
    }
    _, document = ask(served, "GET", "/v2/models/digits?x=1")
    assert document["versions"] == ["3"]
    assert document["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2, 2]}]
    assert [tensor["name"] for tensor in document["outputs"]] == ["scores", "stage", "degraded"]
    assert ask(served, "GET", "/v2/models/digits/versions/3")[1] == document


def test_metadata_names_the_classes() -> None:
    served = Echo(bundle().with_(labels=("zero", "one", "two", "three")))
    _, document = ask(served, "GET", "/v2/models/digits")
    assert document["parameters"] == {"labels": ["zero", "one", "two", "three"]}


def test_without_a_gate_nothing_is_certified() -> None:
    gated = bundle()
    ungated = gated.with_(stages=tuple(s.with_(metric=None) for s in gated.stages))
    assert infer(Echo(ungated), one())[1]["parameters"] == {"stage": "small", "degraded": False}


@pytest.mark.parametrize(("why", "status"), [(None, 200), ("paused: battery 6%", 503)])
def test_readiness_says_why(why: str | None, status: int) -> None:
    served = Echo(why=why)
    assert ask(served, "GET", "/v2/health/live")[0].status == 200
    assert ask(served, "GET", "/v2/health/ready")[0].status == status
    response, document = ask(served, "GET", "/v2/models/digits/ready")
    assert response.status == status
    assert document.get("reason") == why
    (row,) = ask(served, "POST", "/v2/repository/index", b"{}")[1]
    assert row["state"] == ("READY" if why is None else "UNAVAILABLE")
    rows = ask(served, "POST", "/v2/repository/index", b'{"ready": true}')[1]
    assert len(rows) == (1 if why is None else 0)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/models/none", 404),
        ("GET", "/v2/models/digits/versions/2", 404),
        ("GET", "/v2/models/digits/what", 404),
        ("POST", "/v2", 405),
        ("OPTIONS", "/v2", 405),
        ("PUT", "/v2/models/digits/infer", 405),
        ("HEAD", "/v2/models/digits/infer", 405),
        ("GET", "/v2/models/digits/infer", 405),
        ("POST", "/v2/repository/models/digits/load", 400),
    ],
)
def test_what_is_not_there(method: str, path: str, status: int) -> None:
    response, document = ask(Echo(), method, path)
    assert response.status == status
    assert document["error"].startswith("cannot ")


def test_head_is_get_and_a_405_says_what_would_do() -> None:
    assert ask(Echo(), "HEAD", "/v2/health/live")[0].status == 200
    for method, path, allowed in (
        ("PUT", "/v2", "GET, HEAD"),
        ("GET", "/v2/models/digits/infer", "POST"),
    ):
        assert dict(ask(Echo(), method, path)[0].headers)["Allow"] == allowed


def test_names_may_be_percent_encoded() -> None:
    assert ask(Echo(), "GET", "/v2/models/%64igits/ready")[0].status == 200
    assert ask(Echo(), "GET", "/v2/models/a%2Fb")[1]["error"].startswith("cannot find model 'a/b'")


def test_a_sample_with_a_batch_axis() -> None:
    served = Echo()
    response, document = infer(served, {**one(), "id": "seven"})
    assert response.status == 200
    assert document == {
        "model_name": "digits",
        "model_version": "3",
        "id": "seven",
        "parameters": {"stage": "small", "degraded": False, "certified": True},
        "outputs": [
            {"name": "scores", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4.5]}
        ],
    }
    assert served.batches[0].shape == (1, 2, 2)
    assert served.batches[0].dtype == np.float32


def test_a_sample_without_one_is_answered_without_one() -> None:
    _, document = infer(Echo(), one(shape=[2, 2], data=[[1, 2], [3, 4]]))
    assert document["outputs"][0]["shape"] == [4]
    assert "id" not in document


def test_many_samples_and_who_answered_each() -> None:
    data = [1, 1, 1, 1, 1, 0, 0, 0, 2, 0, 0, 0]
    request = {
        **one(shape=[3, 2, 2], data=data),
        "outputs": [{"name": "stage"}, {"name": "degraded"}, {"name": "scores"}],
    }
    _, document = infer(Echo(), request)
    stage, degraded, scores = document["outputs"]
    assert stage == {"name": "stage", "datatype": "INT32", "shape": [3], "data": [0, 1, 0]}
    assert degraded["data"] == [True, False, False]
    assert degraded["datatype"] == "BOOL"
    assert scores["shape"] == [3, 4]
    assert scores["data"] == data
    assert document["parameters"] == {"stage": "large", "degraded": True, "certified": False}


def test_binary_in_and_out() -> None:
    sample = np.arange(4, dtype="<f4")
    request = one(parameters={"binary_data_size": 16})
    del request["inputs"][0]["data"]
    request["outputs"] = [
        {"name": "scores", "parameters": {"binary_data": True}},
        {"name": "stage", "parameters": {"binary_data": False}},
        {"name": "degraded", "parameters": {"binary_data": True}},
    ]
    response, document = infer(Echo(), request, sample.tobytes())
    assert dict(response.headers)["Content-Type"] == "application/octet-stream"
    length = int(dict(response.headers)["Inference-Header-Content-Length"])
    assert response.body[length:] == sample.tobytes() + b"\0"
    assert [o.get("parameters") for o in document["outputs"]] == [
        {"binary_data_size": 16},
        None,
        {"binary_data_size": 1},
    ]
    assert document["outputs"][1]["data"] == [0]


def test_all_outputs_in_binary_by_default() -> None:
    request = {**one(), "parameters": {"binary_data_output": True}}
    response, document = infer(Echo(), request)
    assert document["outputs"][0]["parameters"] == {"binary_data_size": 16}
    assert response.body.endswith(np.array([1, 2, 3, 4.5], "<f4").tobytes())


def test_a_quantized_input_takes_its_own_values_or_real_ones() -> None:
    served = Echo(bundle("int8", quantized=True))
    assert infer(served, one(datatype="INT8", data=[1, 2, 3, -4]))[0].status == 200
    assert infer(served, one())[0].status == 200
    assert [batch.dtype.name for batch in served.batches] == ["int8", "float32"]
    assert infer(served, one(datatype="INT8"))[0].status == 400
    assert infer(served, one(datatype="INT8", data=[1, 2, 3, 200]))[0].status == 400
    assert infer(Echo(bundle("int8")), one())[0].status == 400


def test_integers_hold_what_their_type_holds_exactly() -> None:
    served = Echo(bundle("int64"))
    most = 2**63 - 1
    assert infer(served, one(datatype="INT64", data=[most, -most - 1, 0, 1]))[0].status == 200
    assert served.batches[0].ravel().tolist() == [most, -most - 1, 0, 1]
    for bad in (2.0**63, most + 1, -(2.0**64), 0.5):
        assert infer(served, one(datatype="INT64", data=[bad, 0, 0, 0]))[0].status == 400


def test_too_much_json_is_refused_before_it_is_read() -> None:
    body = b'{"inputs": [{"data": [' + b"[]," * (MAX_JSON_BYTES // 3) + b"[]]}]}"
    response, document = ask(Echo(), "POST", "/v2/models/digits/infer", body)
    assert response.status == 413
    assert "binary data" in document["error"]
    assert ask(Echo(), "POST", "/v2/repository/index", body)[0].status == 413


def test_an_error_does_not_echo_a_long_name() -> None:
    response, _ = infer(Echo(), one(datatype="x" * 10**6))
    assert response.status == 400
    assert len(response.body) < 1000


def test_booleans() -> None:
    served = Echo(bundle("bool"))
    for data in ([True, False, True, True], [1, 0, 1, 1]):
        assert infer(served, one(datatype="BOOL", data=data))[0].status == 200
    assert all(batch.ravel().tolist() == [True, False, True, True] for batch in served.batches)
    assert infer(served, one(datatype="BOOL", data=[2, 0, 0, 0]))[0].status == 400


def test_values_that_are_not_finite_are_null_in_json() -> None:
    @dataclass
    class Overflowing(Echo):
        def answer(self, batch: NDArray[Any]) -> list[Answer]:
            return [Answer(np.array([1, np.inf, np.nan, 0], np.float32), 0) for _ in batch]

    _, document = infer(Overflowing(), one())
    assert document["outputs"][0]["data"] == [1, None, None, 0]


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"inputs": []},
        {"inputs": [1]},
        {"inputs": [one()["inputs"][0]] * 2},
        {**one(), "id": 7},
        {**one(), "parameters": []},
        {**one(), "outputs": {}},
        {**one(), "outputs": [{"name": "other"}]},
        {**one(), "outputs": [{"name": "scores"}] * 2},
        {**one(), "outputs": [{"name": "scores", "parameters": {"classification": 2}}]},
        one(datatype="INT8"),
        one(datatype=None),
        one(shape=None),
        one(shape=[1, 4]),
        one(shape=[True, 2, 2]),
        one(shape=[0, 2, 2], data=[]),
        one(shape=[2, 2, 2]),
        one(shape=[MAX_SAMPLES + 1, 2, 2]),
        one(data=None),
        one(data="1234"),
        one(data=[1, 2, 3]),
        one(data=[1, 2, [3], 4]),
        one(data=["1", "2", "3", "4"]),
        one(data=[None, 2, 3, 4]),
        one(data=[True, False, True, True]),
        one(data=[10**400, 2, 3, 4]),
        one(data=[1e300, 2, 3, 4]),
        one(data=[float("nan"), 2, 3, 4]),
        one(data=[float("inf"), 2, 3, 4]),
        one(parameters={"binary_data_size": 16}),
        one(parameters={"binary_data_size": "16"}),
    ],
)
def test_a_malformed_request_is_the_clients_fault(document: object) -> None:
    served = Echo()
    response, answer = infer(served, document)
    assert response.status == 400
    assert answer["error"].startswith("cannot infer: ")
    assert not served.batches


@pytest.mark.parametrize(
    ("size", "tail", "length"),
    [
        (16, b"x" * 12, None),
        (12, b"x" * 12, None),
        (15, b"x" * 15, None),
        (16, b"x" * 16, "9999"),
        (16, b"x" * 16, "-1"),
        (16, b"x" * 16, "many"),
        (16, np.array([np.nan] * 4, "<f4").tobytes(), None),
        (None, b"x", None),
    ],
)
def test_malformed_binary_is_the_clients_fault(
    size: int | None, tail: bytes, length: str | None
) -> None:
    request = one() if size is None else one(parameters={"binary_data_size": size})
    if size is not None:
        del request["inputs"][0]["data"]
    header = json.dumps(request).encode()
    response, _ = ask(
        Echo(),
        "POST",
        "/v2/models/digits/infer",
        header + tail,
        inference_header_content_length=length or str(len(header)),
    )
    assert response.status == 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["name", "datatype", "shape", "data", "parameters"]), json_values
    ),
    st.dictionaries(st.sampled_from(["id", "outputs", "parameters"]), json_values),
)
def test_no_document_gets_more_than_a_400(tensor: dict[str, Any], rest: dict[str, Any]) -> None:
    response, _ = infer(Echo(), {**one(**tensor), **rest})
    assert response.status in {200, 400}


@given(st.binary(max_size=200))
def test_no_bytes_get_more_than_a_400(body: bytes) -> None:
    assert ask(Echo(), "POST", "/v2/models/digits/infer", body)[0].status == 400


def test_deeply_nested_json_is_refused() -> None:
    assert ask(Echo(), "POST", "/v2/models/digits/infer", b"[" * 100_000)[0].status == 400


def test_errors_of_the_cascade_have_their_status() -> None:
    refused = infer(Echo(fault=RefusedError("digits", "paused", 7)), one())
    assert refused[0].status == 503
    assert dict(refused[0].headers)["Retry-After"] == "7"
    assert refused[1] == {"error": "cannot infer: digits: paused"}
    assert infer(Echo(fault=TensorError("cannot use values")), one())[0].status == 400
    assert infer(Echo(fault=InferenceError("cannot infer: why")), one())[0].status == 500
