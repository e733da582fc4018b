"""`ctl model quantize` and `ctl model sensitivity`."""

import json
import stat
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from controller.cli.context import Globals
from controller.cli.model_quantize import quantize
from controller.cli.model_sensitivity import measure
from controller.compress.errors import CompressError
from controller.compress.widths import Width
from tests.controller import classifiers
from tests.models import classifier

app = typer.Typer()
app.command("quantize")(quantize)
app.command("sensitivity")(measure)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    x, y = classifiers.dataset(60)
    np.savez(tmp_path / "samples.npz", x=x, y=y)
    (tmp_path / "dense.tflite").write_bytes(classifier(classifiers.layers()))
    return tmp_path


def ctl(folder: Path, *words: str) -> Result:
    place = Globals(home=folder / "home")
    return CliRunner().invoke(app, [w.replace("@", f"{folder}/") for w in words], obj=place)


def test_a_model_becomes_int8_beside_the_original(folder: Path) -> None:
    words = ("quantize", "@dense.tflite", "--to", "int8", "--samples", "@samples.npz")

    done = ctl(folder, *words, "-o", "json")

    assert done.exit_code == 0, done.exception
    report = json.loads(done.stdout)
    made = folder / "dense-int8.tflite"
    assert report["file"] == str(made)
    assert report["after"]["file_bytes"] == made.stat().st_size
    assert report["layers"][0]["stored"] == "int8"
    assert report["score_change"] < 0.05
    assert report["accuracy"]["held_out"]["samples"] == 30
    assert stat.S_IMODE(made.stat().st_mode) == 0o644
    again = ctl(folder, *words)
    assert isinstance(again.exception, CompressError)
    assert "--force" in str(again.exception)


def test_options_that_do_not_go_together_are_refused(folder: Path) -> None:
    for words in (
        ("--to", "mixed"),
        ("--to", "mixed", "--samples", "@samples.npz"),
        ("--to", "int8", "--max-loss", "0.5pp"),
        ("--to", "int3"),
    ):
        assert ctl(folder, "quantize", "@dense.tflite", *words).exit_code == 2
    assert sorted(path.name for path in folder.glob("*.tflite")) == ["dense.tflite"]


def test_every_layer_is_measured_at_every_width(folder: Path) -> None:
    done = ctl(folder, "sensitivity", "@dense.tflite", "--samples", "@samples.npz", "-o", "json")

    assert done.exit_code == 0, done.exception
    losses = json.loads(done.stdout)
    assert [loss["treatment"] for loss in losses] == list(Width)
    divergences = [loss["shift"]["divergence"] for loss in losses[:4]]
    assert divergences == sorted(divergences)
    assert losses[4]["shift"] is None
    assert "rows of 16" in losses[4]["why"]
