from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from protocols.inference.gate import top1
from protocols.inference.runtime import ModelError, open_model, runtime_name
from protocols.inference.tensors import conform, real
from tests import models
from tests.models import Form, Head

LAYERS = models.random_layers(64, 32, 10, seed=1)


def write(folder: Path, content: bytes) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return path


def expected(sample: NDArray[np.float32]) -> NDArray[np.float32]:
    (first, first_bias), (last, last_bias) = LAYERS
    logits: NDArray[np.float32] = (
        np.maximum(sample.ravel() @ first.T + first_bias, 0) @ last.T + last_bias
    )
    return logits


@pytest.mark.parametrize("form", ["float32", "int8", "uint8"])
@pytest.mark.parametrize("head", ["softmax", "logits", "sigmoid"])
def test_a_classifier_answers_as_its_weights_say(tmp_path: Path, form: Form, head: Head) -> None:
    content = models.classifier(LAYERS, sample_shape=(8, 8, 1), form=form, head=head)
    model = open_model(write(tmp_path, content), threads=2)
    (given,), (scores,) = model.inputs, model.outputs
    assert (given.shape, given.dtype, scores.shape, scores.dtype) == (
        (1, 8, 8, 1),
        form,
        (1, 10),
        form,
    )
    assert (given.quantization is None) == (form == "float32")
    samples = np.random.default_rng(2).uniform(-1, 1, (40, 8, 8)).astype(np.float32)
    answers = [model.run([conform(sample, given)])[0] for sample in samples]
    same = sum(
        top1(real(answer, scores), "probabilities") == int(expected(sample).argmax())
        for answer, sample in zip(answers, samples, strict=True)
    )
    assert same >= (40 if form == "float32" else 36)
    assert answers[0].dtype == form


def test_answers_are_copies(tmp_path: Path) -> None:
    model = open_model(write(tmp_path, models.classifier(LAYERS)))
    first = model.run([np.zeros((1, 64), np.float32)])[0]
    kept = first.copy()
    model.run([np.ones((1, 64), np.float32)])
    assert np.array_equal(first, kept)


def test_an_open_batch_axis_becomes_1(tmp_path: Path) -> None:
    model = open_model(write(tmp_path, models.classifier(LAYERS, open_batch=True)))
    assert model.inputs[0].shape == (1, 64)


@pytest.mark.parametrize("sample_shape", [(64,), (8, 8), (8, 8, 1)])
def test_a_batch_of_several_becomes_1_however_the_samples_are_shaped(
    tmp_path: Path, sample_shape: tuple[int, ...]
) -> None:
    path = write(tmp_path, models.classifier(LAYERS, batch=4))
    assert open_model(path).inputs[0].shape == (4, 64)
    model = open_model(path, 1, sample_shape)
    assert (model.inputs[0].shape, model.outputs[0].shape) == ((1, 64), (1, 10))
    sample = np.random.default_rng(2).uniform(-1, 1, sample_shape).astype(np.float32)
    (scores,) = model.run([conform(sample, model.inputs[0])])
    assert scores.argmax() == expected(sample).argmax()


@pytest.mark.parametrize("sample_shape", [(8, 8, 1), (8, 8), (1, 8, 8, 1)])
def test_open_axes_take_their_size_from_the_samples(
    tmp_path: Path, sample_shape: tuple[int, ...]
) -> None:
    path = write(tmp_path, models.open_image_classifier(LAYERS))
    with pytest.raises(ModelError, match="give samples"):
        open_model(path)
    model = open_model(path, 1, sample_shape)
    assert model.inputs[0].shape == (1, 8, 8, 1)
    with pytest.raises(ModelError, match="do not fit"):
        open_model(path, 1, (8, 8, 3))


def test_a_scale_on_a_float_tensor_means_nothing(tmp_path: Path) -> None:
    graph = models.Graph()
    x = graph.tensor("x", (1, 4), quantized=models.Quantized(0.5, 3))
    out = graph.tensor("out", (1, 4), quantized=models.Quantized(0.5, 3))
    graph.operate("LOGISTIC", [x], out)
    model = open_model(write(tmp_path, graph.encode([x], [out])))
    assert [spec.quantization for spec in (*model.inputs, *model.outputs)] == [None, None]


def test_every_input_and_output_is_seen(tmp_path: Path) -> None:
    model = open_model(write(tmp_path, models.two_inputs(3)))
    assert [spec.name for spec in model.inputs] == ["a", "b"]
    one, two = np.full((1, 3), 1, np.float32), np.full((1, 3), 2, np.float32)
    assert model.run([one, two])[0].tolist() == [[3, 3, 3]]
    model = open_model(write(tmp_path, models.two_outputs(LAYERS)))
    assert [spec.shape for spec in model.outputs] == [(1, 32), (1, 10)]


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x1c\x00\x00\x00TFL3" * 50])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelError, match=r"^cannot load model\.tflite: "):
        open_model(write(tmp_path, content))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no file") as caught:
        open_model(tmp_path / "none.tflite")
    assert caught.value.why.startswith("there is no file")


def test_wrong_arrays_and_closed_models_are_errors(tmp_path: Path) -> None:
    model = open_model(write(tmp_path, models.classifier(LAYERS)))
    with pytest.raises(ModelError, match=r"^cannot run"):
        model.run([np.zeros((1, 63), np.float32)])
    with pytest.raises(ModelError, match=r"^cannot run"):
        model.run([])
    model.close()
    with pytest.raises(ModelError, match="closed"):
        model.run([np.zeros((1, 64), np.float32)])


def test_the_runtime_has_a_name() -> None:
    name = runtime_name()
    assert name is not None
    assert name.startswith(("ai-edge-litert", "tflite-runtime"))
