"""The commands that train: bad input everywhere, the work itself where torch is installed."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from controller.cli.model_distill import distill
from controller.cli.model_prune_channels import prune_channels
from controller.cli.model_recipe import recipe
from controller.compress.errors import CompressError
from controller.compress.training.protocol import PACKAGES

BLOBS = str(Path(__file__).parents[1] / "compress" / "training" / "blobs.py")
HAS_ALL = all(find_spec(name) is not None for name in PACKAGES)
needs_torch = pytest.mark.skipif(not HAS_ALL, reason="the extra `train` is not installed")

app = typer.Typer()
app.command("prune")(prune_channels)
app.command("distill")(distill)
app.command("recipe")(recipe)


def ctl(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize("verb", ["prune", "distill", "recipe"])
def test_a_target_that_is_none_is_refused_first(verb: str) -> None:
    done = ctl(verb, "no-such-module.py", "--target", "size=3")

    assert isinstance(done.exception, CompressError)
    assert str(done.exception).startswith("cannot use target 'size=3'")


@pytest.mark.skipif(HAS_ALL, reason="the extra `train` is installed")
@pytest.mark.parametrize("verb", ["prune", "distill", "recipe"])
def test_the_extra_is_named_where_it_is_missing(verb: str) -> None:
    done = ctl(verb, BLOBS, "--target", "macs=0.5")

    assert isinstance(done.exception, CompressError)
    assert "pip install '.[train]'" in str(done.exception)


@needs_torch
def test_channels_are_cut_and_the_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "thin.tflite"
    words = ["prune", BLOBS, "--target", "macs=0.4", "--int8", "--steps", "2", "-o", "json"]
    words += ["--epochs", "1", "--last-epochs", "2", "--rate", "0.01", "--out", str(path)]

    done = ctl(*words)

    assert done.exit_code == 0, done.exception
    report = json.loads(done.stdout)
    assert report["result"]["file_bytes"] == path.stat().st_size
    assert report["result"]["nonzero"] < report["original"]["nonzero"]
    assert [step["number"] for step in report["steps"]] == [0, 1, 2]
    assert report["validation_accuracy"] > 0.9

    again = ctl(*words)
    assert isinstance(again.exception, CompressError)
    assert "it is there already; --force" in str(again.exception)


@needs_torch
def test_a_small_network_is_written(tmp_path: Path) -> None:
    path = tmp_path / "small.tflite"
    words = ["distill", BLOBS, "--target", "parameters=0.1", "--epochs", "2", "-o", "json"]

    done = ctl(*words, "--out", str(path))

    assert done.exit_code == 0, done.exception
    report = json.loads(done.stdout)
    assert report["distilled"]["size"]["parameters"] < 1_000
    assert path.stat().st_size == report["result"]["file_bytes"]
