"""`ctl model distill --trunk`: bad input everywhere, the work itself where torch is installed."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from controller.cli.model_distill import build_command, distill
from controller.compress.errors import CompressError
from controller.compress.training.protocol import PACKAGES

BLOBS = str(Path(__file__).parents[1] / "compress" / "training" / "blobs.py")
HAS_ALL = all(find_spec(name) is not None for name in PACKAGES)
needs_torch = pytest.mark.skipif(not HAS_ALL, reason="the extra `train` is not installed")

app = typer.Typer()
app.command()(distill)


def ctl(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_an_exit_needs_its_size() -> None:
    done = ctl(BLOBS, "--trunk", "auto")

    assert done.exit_code == 2
    assert "--trunk needs the size of the head: --target parameters=20000" in done.output


def test_the_parts_of_a_network_make_a_cascade() -> None:
    paths = {part: Path(f"a b-{part}.tflite") for part in ("trunk", "exit", "rest")}

    assert build_command("a b", paths) == (
        "ctl cascade build a-b --stage trunk='a b-trunk.tflite' --stage exit='a b-exit.tflite' "
        "--stage rest='a b-rest.tflite' --reads exit=stage:trunk --reads rest=stage:trunk "
        "--gate trunk=none --samples FILE.npz"
    )


@needs_torch
def test_trunk_exit_and_rest_are_written(tmp_path: Path) -> None:
    words = [BLOBS, "--trunk", "auto", "--target", "bytes=8000", "--epochs", "1"]
    words += ["--within", "100", "--out", str(tmp_path)]

    done = ctl(*words, "-o", "json")

    assert done.exit_code == 0, done.exception
    report = json.loads(done.stdout)
    assert {Path(file).name for file in report["files"].values()} == {
        f"blobs-{part}-fp32.tflite" for part in ("trunk", "exit", "rest")
    }
    for part, file in report["files"].items():
        assert Path(file).stat().st_size == report["results"][part]["file_bytes"]
    assert report["results"]["exit"]["file_bytes"] <= 8_000
    assert report["shared"]["layer"] == "3"
    assert report["shared"]["one_scale"] is True
    assert "--gate trunk=none" in report["build"]

    again = ctl(*words)
    assert isinstance(again.exception, CompressError)
    assert "it is there already; --force" in str(again.exception)
