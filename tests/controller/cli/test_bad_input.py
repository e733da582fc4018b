"""Bad input, to every verb that takes it: code 2, "cannot ...: why", and nothing has changed."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from controller.cli.app import app
from controller.cli.exits import explain
from controller.errors import BuildError
from tests import models
from tests.controller.classifiers import CLASSES, FEATURES, dataset, layers
from tests.controller.conftest import FLEET, new_home

SAMPLES = ("--samples", "{data}")

ON_MODELS = {
    "inspect": ("model", "inspect", "{model}", "--svg", "drawn.svg"),
    "bench": ("model", "bench", "{model}"),
    "wire": ("model", "wire", "{model}"),
    "share": ("model", "share", "{model}", "--palette", "4"),
    "prune": ("model", "prune", "{model}", "--weights", "0.5"),
    "split": ("model", "split", "{model}", "--parts", "2"),
    "quantize": ("model", "quantize", "{model}", "--to", "fp16"),
    "add": ("model", "add", "{model}"),
}
"""Verbs that take a model alone."""

ON_DATA = {
    "eval": ("model", "eval", "{model}", *SAMPLES),
    "report": ("model", "report", "{model}", *SAMPLES, "--out", "page.html"),
    "sensitivity": ("model", "sensitivity", "{model}", *SAMPLES),
    "quantize to int8": ("model", "quantize", "{model}", "--to", "int8", *SAMPLES),
    "share within": ("model", "share", "{model}", "--palette", "auto", "--max-loss", "1", *SAMPLES),
    "prune within": ("model", "prune", "{model}", "--weights", "0.5", *SAMPLES),
    "advise": ("model", "advise", "{model}", "--data", "{data}", "--time-budget", "5s"),
}
"""Verbs that take a model and samples."""

ON_STAGES = {
    "build": ("cascade", "build", "c", "--stage", "a={small}", "--stage", "b={model}", *SAMPLES),
    "calibrate": ("cascade", "calibrate", "--stage", "a={small}", "--stage", "b={model}", *SAMPLES),
    "search": ("cascade", "search", "--models", "{small},{model}", *SAMPLES),
}
"""Verbs that take several models and samples."""

Spoil = Callable[[Path], object]


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _save(path: Path, x: object, y: object | None) -> None:
    np.savez(path, **{"x": x} if y is None else {"x": x, "y": y})  # type: ignore[arg-type]


def _with_nan(path: Path) -> None:
    x, y = dataset(400)
    x[7, 3] = np.nan
    _save(path, x, y)


BAD_MODELS: dict[str, Spoil] = {
    "is not there": lambda path: path.unlink(),
    "is no model": lambda path: path.write_bytes(b"hello, " * 100),
    "is empty": lambda path: path.write_bytes(b""),
    "is truncated": _truncated,
}

BAD_DATA: dict[str, Spoil] = {
    "are not there": lambda path: path.unlink(),
    "are no archive": lambda path: path.write_bytes(b"hello"),
    "have another shape": lambda path: _save(path, np.zeros((400, FEATURES + 1)), dataset(400)[1]),
    "hold NaN": _with_nan,
    "are none": lambda path: _save(path, dataset(400)[0][:0], dataset(400)[1][:0]),
    "are words": lambda path: _save(path, np.array([["a"] * FEATURES] * 400), dataset(400)[1]),
}

BAD_LABELS: dict[str, Spoil] = {
    "are out of range": lambda path: _save(path, dataset(400)[0], np.full(400, CLASSES)),
    "are negative": lambda path: _save(path, dataset(400)[0], np.full(400, -1)),
    "are too few": lambda path: _save(path, dataset(400)[0], dataset(400)[1][:399]),
    "are fractions": lambda path: _save(path, dataset(400)[0], np.full(400, 0.5)),
}

ALL_ON_DATA = ON_DATA | ON_STAGES
LOCKS = frozenset({".lock", "lock", "catalog.lock"})
READS_NO_LABELS = frozenset({"quantize to int8"})
"""Static quantization calibrates on samples alone."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two models and samples, to work in; the home is elsewhere."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SLUICE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SLUICE_FLEET", FLEET)
    new_home(tmp_path / "home")
    (folder / "model.tflite").write_bytes(models.classifier(layers()))
    (folder / "small.tflite").write_bytes(models.classifier(layers(0.5), form="int8"))
    _save(folder / "data.npz", *dataset(400))
    return folder


def refused(here: Path, words: Sequence[str]) -> str:
    """Run a command that must fail; check the folder and the catalog, return what it said."""
    home = here.parent / "home"
    before, kept = _digests(here), _digests(home)
    names = {"model": "model.tflite", "small": "small.tflite", "data": "data.npz"}
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [w.format(**names) for w in words])

    assert done.exit_code == 2, f"{done.exit_code}: {done.output} {done.exception!r}"
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("cannot "), done.stderr
    assert "unexpected" not in said
    assert done.stdout == ""
    assert _digests(here) == before
    assert {name: digest for name, digest in _digests(home).items() if name not in LOCKS} == kept
    return said


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("fault", BAD_MODELS)
@pytest.mark.parametrize("verb", ON_MODELS | ON_DATA | ON_STAGES)
def test_a_model_that_is_none(here: Path, verb: str, fault: str) -> None:
    BAD_MODELS[fault](here / "model.tflite")

    assert "model" in refused(here, (ON_MODELS | ALL_ON_DATA)[verb])


@pytest.mark.parametrize("fault", BAD_DATA)
@pytest.mark.parametrize("verb", ALL_ON_DATA)
def test_samples_that_are_none(here: Path, verb: str, fault: str) -> None:
    BAD_DATA[fault](here / "data.npz")

    assert refused(here, ALL_ON_DATA[verb])


@pytest.mark.parametrize("fault", BAD_LABELS)
@pytest.mark.parametrize("verb", sorted(ALL_ON_DATA.keys() - READS_NO_LABELS))
def test_labels_that_are_none(here: Path, verb: str, fault: str) -> None:
    BAD_LABELS[fault](here / "data.npz")

    assert refused(here, ALL_ON_DATA[verb])


@pytest.mark.parametrize("verb", ON_STAGES)
def test_too_few_samples_to_prove_anything(here: Path, verb: str) -> None:
    x, y = dataset(20)
    _save(here / "data.npz", x, y)

    assert "20" in refused(here, ON_STAGES[verb])


@pytest.mark.parametrize(
    "words",
    [
        ("model", "split", "{model}", "--max-mib", "0.0000001"),
        (
            "model",
            "quantize",
            "{model}",
            "--to",
            "mixed",
            "--max-loss",
            "1",
            "--max-bytes",
            "10",
            *SAMPLES,
        ),
        ("model", "prune", "{small}", "--channels", "macs=10"),
    ],
    ids=["split", "mixed", "channels"],
)
def test_a_budget_that_cannot_be_met(here: Path, words: Sequence[str]) -> None:
    assert refused(here, words)


@pytest.mark.parametrize("name", ["m.pt2", "m.onnx", "m.keras", "m.h5", "m.bin", "folder"])
def test_a_source_that_is_none_is_not_converted(here: Path, name: str) -> None:
    (here / name).write_bytes(b"hello")

    assert name in refused(here, ("model", "convert", name))


def test_an_error_of_the_toolkit_reads_as_one_line() -> None:
    assert explain(BuildError("cannot x:\n  why")) == "cannot x: why"
