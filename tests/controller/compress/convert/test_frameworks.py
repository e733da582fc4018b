"""Real conversions, where the frameworks are installed."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from controller.compress.convert.conversion import Options, convert
from controller.compress.errors import CompressError

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks' own, when they save


def test_an_exported_program_becomes_channels_last(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("litert_torch")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, 5)
    ).to(memory_format=torch.channels_last)
    batch = {0: torch.export.Dim("batch")}
    example = torch.zeros(2, 3, 6, 6)
    program = torch.export.export(network.eval(), (example,), dynamic_shapes=(batch,))
    path = tmp_path / "net.pt2"
    torch.export.save(program, path)
    digest = hashlib.sha256(path.read_bytes()).digest()
    samples = tmp_path / "s.npz"
    np.savez(samples, x=np.random.default_rng(0).random((3, 6, 6, 3), np.float32))

    content, report = convert(path, Options(samples=samples))

    (taken,) = report.inputs
    assert (taken.shape, taken.file_shape, taken.is_open) == ((1, 3, 6, 6), (1, 6, 6, 3), True)
    assert content[4:8] == b"TFL3"
    assert (report.samples, report.comparison.rows) == (3, 19)
    assert report.comparison.worst.relative < 1e-5
    assert hashlib.sha256(path.read_bytes()).digest() == digest


def onnx_file(path: Path, kind: str) -> Path:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("litert_torch")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    draw = np.random.default_rng(0)
    weights = {"w": draw.normal(size=(4, 2, 3, 3)), "v": draw.normal(size=(16, 3))}
    held = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    held.append(numpy_helper.from_array(np.array([0, -1]), "shape"))
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node(kind, ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[1, 1]),
        helper.make_node("Reshape", ["c", "shape"], ["d"]),
        helper.make_node("MatMul", ["d", "v"], ["e"]),
        helper.make_node("Softmax", ["e"], ["y"]),
    ]
    taken = helper.make_tensor_value_info("x", 1, ["n", 2, 6, 6])
    gives = helper.make_tensor_value_info("y", 1, ["n", 3])
    graph = helper.make_graph(nodes, "net", [taken], [gives], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def test_an_onnx_model_answers_as_onnxruntime_does(tmp_path: Path) -> None:
    _, report = convert(onnx_file(tmp_path / "net.onnx", "Relu"), Options(channels_last=False))

    assert report.inputs[0].file_shape == (1, 2, 6, 6)
    assert report.comparison.worst.relative < 1e-5
    assert report.comparison.worst.agreement == 1.0


def test_an_operator_that_is_not_known_is_named(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "net.onnx", "Hardmax")

    with pytest.raises(CompressError, match=r"net\.onnx: it has operators .*: Hardmax; export"):
        convert(path)


def test_a_keras_model_of_two_inputs_keeps_its_weights(tmp_path: Path) -> None:
    keras = pytest.importorskip("tensorflow").keras
    layers = keras.layers
    image, numbers = keras.Input((6, 6, 3), name="image"), keras.Input((4,), name="numbers")
    flat = layers.Flatten()(layers.Conv2D(2, 3)(image))
    scores = layers.Dense(3)(layers.Concatenate()([flat, numbers]))
    model = keras.Model([image, numbers], scores)
    model.save(tmp_path / "net.keras")

    _, report = convert(tmp_path / "net.keras")

    assert [end.shape for end in report.inputs] == [(1, 6, 6, 3), (1, 4)]
    assert report.comparison.worst.relative < 1e-5
