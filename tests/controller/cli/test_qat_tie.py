"""`ctl model qat` and `ctl model tie`: bad input everywhere, the work where torch is installed."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from controller.cli.model_qat import qat
from controller.cli.model_tie import tie
from controller.compress.errors import CompressError
from controller.compress.training.protocol import PACKAGES

MODULES = Path(__file__).parents[1] / "compress" / "training"
HAS_ALL = all(find_spec(name) is not None for name in PACKAGES)
needs_torch = pytest.mark.skipif(not HAS_ALL, reason="the extra `train` is not installed")
VERBS = (("qat", "--to", "int4"), ("tie",))

app = typer.Typer()
app.command("qat")(qat)
app.command("tie")(tie)


def ctl(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(words))


@pytest.mark.parametrize("verb", VERBS)
def test_a_loss_that_is_none_is_refused_first(verb: tuple[str, ...]) -> None:
    done = ctl(*verb, "no-such-module.py", "--max-loss", "little")

    assert done.exit_code == 2
    assert "'little' is no loss of accuracy" in done.output


@pytest.mark.parametrize("words", [("qat", "m.py"), ("qat", "m.py", "--to", "fp16")])
def test_a_form_that_nothing_is_taught_for_is_refused(words: tuple[str, ...]) -> None:
    done = ctl(*words)

    assert done.exit_code == 2
    assert "--to" in done.output


@pytest.mark.skipif(HAS_ALL, reason="the extra `train` is installed")
@pytest.mark.parametrize("verb", VERBS)
def test_the_extra_is_named_where_it_is_missing(verb: tuple[str, ...]) -> None:
    done = ctl(*verb, str(MODULES / "blobs.py"))

    assert isinstance(done.exception, CompressError)
    assert "pip install '.[train]'" in str(done.exception)


@needs_torch
def test_the_better_file_is_written_and_never_over_another(tmp_path: Path) -> None:
    path = tmp_path / "narrow.tflite"
    words = ["qat", str(MODULES / "blobs.py"), "--to", "dynamic-int8", "--max-loss", "20"]
    words += ["--out", str(path), "-o", "json"]

    done = ctl(*words)

    assert done.exit_code == 0, done.exception
    report = json.loads(done.stdout)
    rows = {row["form"]: row for row in report["rows"]}
    assert set(rows) == {"original", "min/max", "scale search"}
    assert report["kept"] == report["post_training"]
    assert report["told_by"] is None
    assert rows[report["kept"]]["file_bytes"] == path.stat().st_size
    assert rows[report["kept"]]["test"]["accuracy"] > 0.9

    again = ctl(*words)
    assert isinstance(again.exception, CompressError)
    assert "it is there already; --force" in str(again.exception)


@needs_torch
def test_the_pairs_and_what_they_cost_are_printed(tmp_path: Path) -> None:
    path = tmp_path / "tied.tflite"

    done = ctl(
        "tie", str(MODULES / "twins.py"), "--epochs", "1", "--max-loss", "50", "--out", str(path)
    )

    assert done.exit_code == 0, done.exception
    assert "network.3.first = network.3.second" in done.stdout
    assert "Stored once: network.3.first, network.3.second." in done.stderr
    assert path.is_file()
