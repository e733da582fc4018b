"""The commands that train: bad input everywhere, the work itself where torch is installed."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from controller.cli.model_distill import distill
from controller.cli.model_prune import prune
from controller.cli.model_recipe import recipe
from controller.compress.errors import CompressError
from controller.compress.training.protocol import PACKAGES

BLOBS = str(Path(__file__).parents[1] / "compress" / "training" / "blobs.py")
TARGET = {"prune": "--channels", "distill": "--target", "recipe": "--target"}
HAS_ALL = all(find_spec(name) is not None for name in PACKAGES)
needs_torch = pytest.mark.skipif(not HAS_ALL, reason="the extra `train` is not installed")

app = typer.Typer()
app.command("prune")(prune)
app.command("distill")(distill)
app.command("recipe")(recipe)


def ctl(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize("verb", ["prune", "distill", "recipe"])
def test_a_target_that_is_none_is_refused_first(verb: str) -> None:
    done = ctl(verb, "no-such-module.py", TARGET[verb], "size=3")

    assert isinstance(done.exception, CompressError)
    assert str(done.exception).startswith("cannot use target 'size=3'")


@pytest.mark.skipif(HAS_ALL, reason="the extra `train` is installed")
@pytest.mark.parametrize("verb", ["prune", "distill", "recipe"])
def test_the_extra_is_named_where_it_is_missing(verb: str) -> None:
    done = ctl(verb, BLOBS, TARGET[verb], "macs=0.5")

    assert isinstance(done.exception, CompressError)
    assert "pip install '.[train]'" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["prune", BLOBS, "--channels", "macs=0.5", "--weights", "0.5"], "give one of"),
        (
            ["prune", BLOBS, "--channels", "macs=0.5", "--samples", "a.npz"],
            "--samples is for zeros",
        ),
        (["prune", "a.tflite", "--weights", "0.5", "--last-epochs", "3"], "--last-epochs is for"),
        (["prune", BLOBS, "--weights", "0.5"], "is a Python module"),
        (["recipe", BLOBS, "--time-budget", "soon"], "is no time"),
        (["recipe", BLOBS, "--target", "macs=0.5", "--time-budget", "1h"], "is for --target auto"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words: list[str], why: str) -> None:
    done = CliRunner().invoke(app, words, env={"COLUMNS": "200"})

    assert done.exit_code == 2
    assert why in done.output


def test_goals_that_are_none_are_refused_first() -> None:
    done = ctl("recipe", "no-such-module.py", "--goals", "speed=2")

    assert isinstance(done.exception, CompressError)
    assert str(done.exception).startswith("cannot use goal 'speed=2'")


@needs_torch
def test_channels_are_cut_and_the_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "thin.tflite"
    words = ["prune", BLOBS, "--channels", "macs=0.4", "--int8", "--steps", "2", "-o", "json"]
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


@needs_torch
def test_a_recipe_searches_writes_and_goes_on_after_an_interruption(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    words = ["recipe", BLOBS, "--epochs", "1", "--last-epochs", "1", "--rate", "0.01", "--steps"]
    words += ["1", "--rounds", "1", "--palette-bits", "0", "--out", str(folder), "-o", "json"]

    done = ctl(*words, "--threads", "1")

    assert done.exit_code == 0, done.exception
    report = json.loads(done.stdout)
    assert {row["form"] for row in report["rows"]} >= {"original", "int8", report["chosen"]}
    assert {file for row in report["rows"] for file in row["files"]} == {
        path.stem for path in folder.glob("*.tflite")
    }
    made = {path: path.stat().st_mtime_ns for path in folder.rglob("*.pt")}
    assert made

    refused = ctl(*words, "--threads", "1")
    assert isinstance(refused.exception, CompressError)
    assert "is there already; --force" in str(refused.exception)

    again = ctl(*words, "--threads", "1", "--force")
    assert json.loads(again.stdout)["steps"] == report["steps"]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.pt")} == made
