"""`ctl model advise`: what it prints, and that the printed commands make the same files."""

import hashlib
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from controller.cli.app import app
from tests.controller import classifiers
from tests.models import classifier

ASK = ("model", "advise", "dense.tflite", "--data", "samples.npz", "--y-key", "labels")


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    x, y = classifiers.dataset(60)
    np.savez(tmp_path / "samples.npz", x=x, labels=y)
    (tmp_path / "dense.tflite").write_bytes(classifier(classifiers.layers()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ctl(*words: str, code: int = 0) -> Result:
    done = CliRunner(env={"SLUICE_HOME": "home", "COLUMNS": "200"}).invoke(app, words)
    assert done.exit_code == code, (done.output, done.exception)
    return done


def test_the_printed_commands_make_every_form_again_byte_for_byte(folder: Path) -> None:
    forms = "prune auto + int8"
    target = ("--target", "accuracy_loss<=20pp, latency<=1s", "--only", forms)

    done = ctl(
        *ASK, *target, "--out", "best", "--keep", "front", "--report", "page.html", "-o", "json"
    )

    advice = json.loads(done.stdout)
    assert advice["meets_target"]
    assert [form["name"] for form in advice["forms"]] == [
        "original",
        "prune auto",
        "prune auto + int8",
    ]
    recommended = next(form for form in advice["forms"] if form["is_recommended"])
    assert advice["commands"] == recommended["commands"]
    for form in advice["forms"][1:]:
        words = shlex.split(form["commands"][-1])
        rebuilt = json.loads(ctl(*words[1:], "-o", "json").stdout)
        assert hashlib.sha256(Path(words[-1]).read_bytes()).hexdigest() == form["sha256"]
        assert rebuilt["after"]["wire_bytes"] == form["wire_bytes"]
        assert rebuilt["after"]["nonzero"] == form["nonzero"]
        assert rebuilt["accuracy"]["held_out"]["after"] == form["accuracy_held_out"]
    front = {form["sha256"] for form in advice["forms"] if form["is_on_front"]}
    kept = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "best").iterdir()}
    assert kept == front | {recommended["sha256"]}
    assert (folder / "page.html").read_text().startswith("<!doctype html>")


def test_a_target_that_cannot_be_met_shows_the_front_and_ends_with_2(folder: Path) -> None:
    done = ctl(*ASK, "--target", "bytes<=10", "--only", "fp16", code=2)

    assert "cannot meet bytes<=10: the closest is" in done.stderr
    assert "misses bytes by" in done.stderr
    assert "fp16" in done.stdout
    assert "original" in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["dense.tflite", "samples.npz"]


def test_what_cannot_be_asked_says_why_before_anything_runs(folder: Path) -> None:
    (folder / "full").mkdir()
    (folder / "full" / "file").touch()
    (folder / "broken.npz").write_text("none")
    for words, why in (
        (("--target", "speed<=1"), "cannot read the target: 'speed' is not known"),
        (("--only", "int9"), "cannot read the form 'int9'"),
        (("--only", "palette 9"), "write palette 4 (1 to 8 bits) or palette auto"),
        (("--only", "int8 4"), "write int8 alone"),
        (("--only", "prune 2"), "write prune 0.5"),
        (("--channels", "macs=0.1"), "--channels goes with --module"),
        (("--out", "full"), "cannot write to full: it is not empty"),
        (("--report", "samples.npz"), "cannot write samples.npz"),
        (("--data", "broken.npz"), "cannot read samples broken.npz"),
        (("--x-key", "images"), "no array 'images'"),
        (("--time-budget", "soon"), "'soon' is no duration"),
    ):
        done = ctl(*ASK, *words, code=2)
        assert why in " ".join(done.stderr.replace("│", " ").split()), done.stderr
