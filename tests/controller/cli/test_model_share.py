import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from controller.cli.lightening import parse_loss
from controller.cli.model_prune import prune
from controller.cli.model_share import share
from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.weights import weights
from tests import models

app = typer.Typer()
app.command()(share)
app.command()(prune)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "large.tflite"
    path.write_bytes(models.classifier(models.random_layers(16, 16, 16, 4), form="int8"))
    return path


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    draw = np.random.default_rng(0)
    np.savez(path, x=draw.random((40, 16)).astype(np.float32), y=draw.integers(0, 4, 40))
    return path


def run(tmp_path: Path, *words: object, code: int = 0) -> Result:
    env = {"SLUICE_HOME": str(tmp_path / "home"), "COLUMNS": "120"}
    done = CliRunner(env=env).invoke(app, [str(word) for word in words])
    if isinstance(done.exception, Exception) and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done


def document(tmp_path: Path, *words: object) -> Any:  # noqa: ANN401 - any document
    return json.loads(run(tmp_path, *words, "-o", "json").stdout)


def test_a_palette_is_written_beside_the_model(tmp_path: Path, model: Path) -> None:
    before = model.read_bytes()
    done = run(tmp_path, "share", model, "--palette", 2)
    made = tmp_path / "large-shared.tflite"
    assert "over the air" in done.stdout
    assert str(made) in done.stderr
    graph = Graph.read(made.read_bytes(), "made")
    assert all(len(np.unique(graph.values(one.tensor))) <= 4 for one in weights(graph))
    assert model.read_bytes() == before
    with pytest.raises(CompressError, match="--force"):
        run(tmp_path, "share", model, "--palette", 2)


def test_samples_say_what_it_costs(tmp_path: Path, model: Path, samples: Path) -> None:
    out = tmp_path / "out.tflite"
    told = document(tmp_path, "share", model, "--palette", 6, "--samples", samples, "--out", out)
    assert told["accuracy"]["held_out"]["samples"] == 20
    assert told["after"]["parameters"] == told["before"]["parameters"]
    assert [layer["bits"] for layer in told["layers"]] == [6, 6, 6]
    assert out.is_file()


def test_identical_buffers_are_stored_once(tmp_path: Path) -> None:
    twice = tmp_path / "twice.tflite"
    layer = models.random_layers(16, 16)[0]
    twice.write_bytes(models.classifier([layer, layer]))
    told = document(tmp_path, "share", twice, "--dedupe")
    assert told["deduped"] == [{"tensors": 2, "bytes_saved": 16 * 16 * 4 + 16 * 4}]
    assert told["score_change"] == 0


def test_layers_are_tied(tmp_path: Path, model: Path, samples: Path) -> None:
    words = ("share", model, "--tie", "--samples", samples, "--max-loss", "100pp")
    told = document(tmp_path, *words)
    assert [pair["kept"] for pair in told["pairs"]] == [True]
    assert told["after"]["parameters"] == told["before"]["parameters"] - 16 * 16


def test_weights_are_pruned(tmp_path: Path, model: Path) -> None:
    done = run(tmp_path, "prune", model, "--weights", 0.5)
    assert "not time" in done.stderr
    graph = Graph.read((tmp_path / "large-pruned.tflite").read_bytes(), "made")
    assert all((graph.values(one.tensor) == 0).mean() == 0.5 for one in weights(graph))


@pytest.mark.parametrize(
    "words",
    [
        ("share",),
        ("share", "--tie", "--dedupe"),
        ("share", "--tie"),
        ("share", "--palette", "auto"),
        ("share", "--palette", "9"),
        ("share", "--palette", "4", "--max-loss", "1pp"),
        ("prune",),
        ("prune", "--weights", "0.5", "--max-loss", "1pp"),
        ("prune", "--max-loss", "1pp"),
        ("prune", "--max-loss", "a bit"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, model: Path, words: tuple[str, ...]
) -> None:
    run(tmp_path, words[0], model, *words[1:], code=2)
    assert list(tmp_path.glob("large-*")) == []


@pytest.mark.parametrize(("words", "share_lost"), [("0.5pp", 0.005), ("2", 0.02), ("1 %", 0.01)])
def test_points_are_read(words: str, share_lost: float) -> None:
    assert parse_loss(words) == pytest.approx(share_lost)
