"""`ctl model inspect`, `bench`, `eval`, `wire` and `report`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from controller.cli.model_bench import bench
from controller.cli.model_eval import evaluate
from controller.cli.model_inspect import inspect
from controller.cli.model_report import report
from controller.cli.model_wire import wire
from controller.compress.errors import CompressError
from controller.errors import CatalogError
from tests import models
from tests.controller.classifiers import dataset, layers

app = typer.Typer()
app.command("inspect")(inspect)
app.command("bench")(bench)
app.command("eval")(evaluate)
app.command("wire")(wire)
app.command("report")(report)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two models and samples, to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLUICE_HOME", str(tmp_path / "home"))
    (tmp_path / "large.tflite").write_bytes(models.classifier(layers()))
    (tmp_path / "small.tflite").write_bytes(models.classifier(layers(0.5), form="int8"))
    x, y = dataset(120)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    return tmp_path


def run(*arguments: str, code: int = 0) -> Result:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)
    if isinstance(done.exception, Exception) and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done


def run_json(*arguments: str) -> Any:  # noqa: ANN401 - any document
    return json.loads(run(*arguments, "-o", "json").stdout)


def test_inspect(here: Path) -> None:
    found = run_json("inspect", "small.tflite", "--profile", "--svg", "layers.svg")
    assert found["parameters"] == 16 * 10 + 10
    assert found["macs"] == 160
    assert found["bytes"]["total"] == (here / "small.tflite").stat().st_size
    assert len(found["profile"]["operator_us"]) == len(found["operators"]) == 2
    assert 0 in found["delegated_operators"]
    assert (here / "layers.svg").read_text().startswith("<svg")
    with pytest.raises(CompressError, match=r"cannot write layers.svg: .*--force"):
        run("inspect", "small.tflite", "--svg", "layers.svg")
    shown = run("inspect", "large.tflite", "--tensors").stdout
    assert "float32[10,16]" in shown
    assert "2 of 2 operators by XNNPACK" in shown


@pytest.mark.usefixtures("here")
def test_inspect_what_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "bad.tflite").write_bytes(models.crashing())
    done = run("inspect", "bad.tflite")
    assert "killed by" in done.stderr
    assert "Parameters" in done.stdout
    with pytest.raises(CompressError, match="there is no such file"):
        run("inspect", "none.tflite")
    with pytest.raises(CatalogError):
        run("inspect", "none")


@pytest.mark.usefixtures("here")
def test_bench() -> None:
    quick = ("--runs", "3", "--seconds", "0", "--watts", "2")
    found = run_json("bench", "small.tflite", "--against", "large.tflite", *quick)
    small, large = found["models"]
    assert list(small["timings_us"]) == [
        *("count", "first", "min", "max", "avg", "std", "p5", "median", "p95"),
    ]
    assert small["timings_us"]["count"] == 3
    assert small["energy_j_per_run"] == pytest.approx(2 * small["cpu_s_per_run"])
    assert small["energy_method"] == "model"
    ratio = small["timings_us"]["median"] / large["timings_us"]["median"]
    assert found["ratios"]["median"] == pytest.approx(ratio)
    assert run("bench", "small.tflite", "--cpus", "a", code=2)


@pytest.mark.usefixtures("here")
def test_eval() -> None:
    arguments = ("eval", "small.tflite", "--samples", "data.npz", "--against", "large.tflite")
    found = run_json(*arguments, "--top-k", "3")
    against = found["against"]
    assert against["both_right"] + against["only_this"] == round(120 * found["accuracy"])
    assert against["difference"] < 0
    assert found["accuracy"] <= found["top_k"]["accuracy"]
    low, high = found["accuracy_interval"].values()
    assert low < found["accuracy"] < high
    assert np.sum(found["confusion"]) == 120
    shown = run(*arguments, "--labels", "a,b,c,d,e,f,g,h,i,j")
    assert "of the samples are answered alike" in shown.stdout
    assert "taken for" in shown.stderr


def test_wire(here: Path) -> None:
    found = run_json("wire", "large.tflite", "small.tflite")
    assert [row["model"] for row in found] == ["large.tflite", "small.tflite"]
    assert all(0 < row["sent_bytes"] < row["raw_bytes"] for row in found)
    assert run("wire", "large.tflite").stdout.count("\n") == 2
    (here / "junk.tflite").write_bytes(b"junk")
    with pytest.raises(CompressError, match=r"cannot read junk.tflite: it is no \.tflite file"):
        run("wire", "large.tflite", "junk.tflite")


def test_report(here: Path) -> None:
    arguments = ("report", "large.tflite", "small.tflite", "--samples", "data.npz")
    found = run_json(*arguments, "--seconds", "0", "--out", "page.html", "--watts", "3")
    page = (here / "page.html").read_text()
    assert len(page.encode()) == found["size_bytes"]
    assert set(found["pareto"]) <= {"large.tflite", "small.tflite"}
    assert page.count("<svg") == 5 + 2 * 3
    assert run("report", "small.tflite", "small.tflite", "--samples", "data.npz", code=2)
