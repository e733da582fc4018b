"""What is measured is checked for sense, not for speed."""

import os
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from controller.compress.delegation import delegated
from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.measure import (
    ModelFile,
    Pace,
    Partitioned,
    Place,
    Region,
    clock,
    partition,
    weigh,
)
from controller.compress.profile import profile
from tests import models
from tests.controller.classifiers import open_features

QUICK = Pace(warm_s=0.0, runs=5, seconds=0.0)
CONTENT = models.classifier(models.random_layers(64, 256, 256, 10))


def put(folder: Path, content: bytes, name: str = "m") -> ModelFile:
    path = folder / f"{name}.tflite"
    path.write_bytes(content)
    return ModelFile(name, path)


def test_weighing(tmp_path: Path) -> None:
    found = weigh(put(tmp_path, CONTENT))
    assert found.load_ms > 0
    assert found.first_us > 0
    assert found.load_mib >= 0
    assert found.peak_mib is None or found.peak_mib >= found.load_mib
    assert found.runtime.startswith("ai-edge-litert")


def test_two_models_take_turns(tmp_path: Path) -> None:
    large = put(tmp_path, models.classifier(models.random_layers(64, 1500, 1500, 10)), "large")
    shares: list[float] = []
    cpu = min(os.sched_getaffinity(0))
    found = clock([put(tmp_path, CONTENT), large], Place(cpus=(cpu,)), QUICK, None, shares.append)
    small, other = found.timings
    assert small.count == other.count == 5
    assert small.min <= small.p5 <= small.median <= small.p95 <= small.max
    assert 0 < small.min < other.min
    assert all(seconds > 0 for seconds in found.cpu_s)
    assert all(0 <= share <= 1 for share in shares)


def test_what_cannot_be_measured(tmp_path: Path) -> None:
    good = put(tmp_path, CONTENT)
    with pytest.raises(CompressError, match=r"cannot measure m: .*cannot keep to CPUs 4095"):
        clock([good], Place(cpus=(4095,)), QUICK)
    with pytest.raises(CompressError, match="cannot measure bad: the interpreter was killed by"):
        weigh(put(tmp_path, models.crashing(), "bad"))
    with pytest.raises(CompressError, match=r"cannot measure junk: it is no \.tflite file"):
        weigh(put(tmp_path, b"x" * 50, "junk"))
    with pytest.raises(CompressError, match="cannot measure none: No such file"):
        partition(ModelFile("none", tmp_path / "none"))


def test_the_delegate_takes_float_layers(tmp_path: Path) -> None:
    found = partition(put(tmp_path, CONTENT))
    graph = Graph.read(CONTENT, "m")
    assert found.operators == len(graph.operators)
    assert delegated(graph, found) == frozenset(graph.operators)


def test_regions_are_found_from_their_ends() -> None:
    graph = Graph.read(CONTENT, "m")
    dense0, dense1 = (graph.operator_outputs(o)[0] for o in (0, 1))
    inner = Region(inputs=(dense0, *graph.operator_inputs(1)[1:]), outputs=(dense1,))
    found = Partitioned(runtime="", operators=len(graph.operators), regions=(inner,))
    assert delegated(graph, found) == frozenset({1})
    assert delegated(graph, found.with_(regions=())) == frozenset()
    assert delegated(graph, found.with_(operators=2)) is None


def test_a_profile_has_every_operator() -> None:
    found = profile(CONTENT, "m", pace=QUICK)
    graph = Graph.read(CONTENT, "m")
    assert len(found.operator_us) == len(graph.operators)
    assert all(one is not None and one > 0 for one in found.operator_us)
    assert found.sum_us == pytest.approx(sum(one or 0 for one in found.operator_us))
    assert found.whole_us > 0


def test_open_shapes(tmp_path: Path) -> None:
    content = open_features()
    with pytest.raises(CompressError, match="cannot profile m: its input leaves more than its"):
        profile(content, "m")
    model = put(tmp_path, content)
    with pytest.raises(CompressError, match="open; give the shape of one sample"):
        clock([model], None, QUICK)
    assert clock([model], None, QUICK, (7,)).timings[0].count == 5


def test_weights_are_unpacked_with_their_layer() -> None:
    draft = models.Graph()
    x = draft.tensor("x", (1, 4))
    half = draft.tensor("half", (3, 4), "float16", data=np.ones((3, 4), "float16"))
    weights = draft.operate("DEQUANTIZE", [half], draft.tensor("weights", (3, 4)))
    bias = draft.tensor("bias", (3,), data=np.zeros(3, "float32"))
    y = draft.tensor("y", (1, 3))
    options = schema.FullyConnectedOptionsT()
    draft.operate("FULLY_CONNECTED", [x, weights, bias], y, options)
    found = profile(draft.encode([x], [y]), "m", pace=QUICK)
    assert found.operator_us[0] is None
    assert found.operator_us[1] is not None
