import contextlib
from pathlib import Path

import numpy as np
import pytest

from controller.inspect import describe, describe_outputs, inspect_model, scores_index
from controller.trial import TrialError
from protocols.bundle import Quantization, TensorSpec
from tests import models
from tests.controller.classifiers import (
    CLASSES,
    FEATURES,
    fixed_batch,
    layers,
    open_features,
    without_batch_axis,
)
from tests.models import Form


def write(folder: Path, content: bytes) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("form", ["float32", "int8", "uint8"])
def test_what_a_model_is_and_needs(tmp_path: Path, form: Form) -> None:
    content = models.classifier(layers(), sample_shape=(4, 4, 1), form=form)
    facts = inspect_model(write(tmp_path, content))
    assert [(t.shape, t.dtype) for t in facts.inputs] == [((1, 4, 4, 1), form)]
    assert [(t.shape, t.dtype) for t in facts.outputs] == [((1, CLASSES), form)]
    assert (facts.inputs[0].quantization is None) == (form == "float32")
    assert 0 < facts.needs.answer_ms < 1000
    assert 0 < facts.needs.load_ms < 10_000
    assert 0 <= facts.needs.load_mib < 50
    assert facts.runtime


def test_memory_grows_with_the_weights(tmp_path: Path) -> None:
    layers_8_mib = models.random_layers(1024, 2048, 10)
    facts = inspect_model(write(tmp_path, models.classifier(layers_8_mib)))
    assert 6 < facts.needs.load_mib < 30


def test_shapes_that_are_not_all_there(tmp_path: Path) -> None:
    path = write(tmp_path, models.classifier(layers(), open_batch=True))
    assert inspect_model(path).inputs[0].shape == (1, FEATURES)
    path = write(tmp_path, without_batch_axis())
    assert inspect_model(path).inputs[0].shape == (4, 4)
    path = write(tmp_path, open_features())
    with pytest.raises(TrialError, match="open; give samples"):
        inspect_model(path)
    facts = inspect_model(path, (7,))
    assert facts.inputs[0].shape == (1, 7)
    assert facts.outputs[0].shape == (1, 7)


@pytest.mark.parametrize("sample_shape", [None, (FEATURES,)])
def test_a_fixed_batch_becomes_one(tmp_path: Path, sample_shape: tuple[int, ...] | None) -> None:
    facts = inspect_model(write(tmp_path, fixed_batch(4)), sample_shape)
    assert facts.inputs[0].shape == (1, FEATURES)
    assert facts.outputs[0].shape == (1, CLASSES)
    with pytest.raises(TrialError, match=r"takes 4 samples at a time .* export it with a batch"):
        inspect_model(write(tmp_path, fixed_batch(4, reshapes=True)), sample_shape)


def test_several_tensors(tmp_path: Path) -> None:
    assert len(inspect_model(write(tmp_path, models.two_inputs())).inputs) == 2
    outputs = inspect_model(
        write(tmp_path, models.two_outputs(models.random_layers(8, 4, 3)))
    ).outputs
    assert [t.elements for t in outputs] == [4, 3]
    assert scores_index(outputs, None) is None
    assert scores_index(outputs, "1") == 1
    assert scores_index(outputs, "scores") == 1
    assert scores_index(outputs[:1], None) == 0
    with pytest.raises(ValueError, match=r"no output '2'; it has 0: 'hidden0' float32\[1, 4\]"):
        scores_index(outputs, "2")
    with pytest.raises(ValueError, match="2 outputs are named 'scores'"):
        scores_index((outputs[1], outputs[1]), "scores")


def test_a_model_that_kills_its_process(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match="killed by SIGSEGV; the file is damaged or not for this"):
        inspect_model(write(tmp_path, models.crashing()))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is no .tflite file"),
        (b"junk" * 10, "it is no .tflite file"),
        (b"\x1c\0\0\0TFL3" + b"junk" * 10, "cannot run model.tflite"),
        (models.classifier(layers())[:-400], "cannot run model.tflite"),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(TrialError, match=words):
        inspect_model(write(tmp_path, content))
    with pytest.raises(TrialError, match="No such file"):
        inspect_model(tmp_path / "none.tflite")
    with pytest.raises(TrialError, match="directory"):
        inspect_model(tmp_path)


def test_a_model_that_takes_too_long(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match=r"no answer within 0\.001 s"):
        inspect_model(write(tmp_path, models.classifier(layers())), limit_s=0.001)


def test_flipped_bytes_never_harm_us(tmp_path: Path) -> None:
    content = models.classifier(models.random_layers(8, 4))
    draw = np.random.default_rng(0)
    for _ in range(2):
        flipped = bytearray(content)
        flipped[int(draw.integers(8, len(content)))] ^= 0xFF
        with contextlib.suppress(TrialError):  # or it runs: bytes of weights may be any
            inspect_model(write(tmp_path, bytes(flipped)))


def test_descriptions() -> None:
    spec = TensorSpec(
        name="x", shape=(1, 4), dtype="int8", quantization=Quantization(scale=0.5, zero_point=-3)
    )
    assert describe(spec) == "int8[1, 4] = 0.5 * (q + 3)"
    plain = TensorSpec(name="y", shape=(), dtype="float32")
    assert describe_outputs([spec, plain]) == (
        "0: 'x' int8[1, 4] = 0.5 * (q + 3), 1: 'y' float32[]"
    )
