from pathlib import Path

import pytest

from tests import models
from tests.controller.classifiers import layers, pair
from tests.controller.cli.conftest import Bench

TWO = ("--stage", "small=small.tflite", "--stage", "large=large.tflite")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, where the models lie."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return name


def test_build_list_and_show(bench: Bench, here: Path) -> None:
    files = pair(here, 500)
    built = bench.ctl_json("cascade", "build", "digits", *TWO, "--samples", str(files.samples))
    assert (built["name"], built["version"], built["classes"]) == ("digits", 1, 10)
    (ladder,) = built["ladders"]
    assert [step["eps"] for step in ladder["steps"]] == [0.01, 0.02, 0.05]
    assert ladder["base"] == 0
    (listed,) = bench.ctl_json("cascade", "ls")
    shown = bench.ctl_json("cascade", "show", "digits")
    assert listed == shown
    assert shown["sha256"] == built["sha256"]
    assert shown["bundle"]["certificates"][0]["gates"].keys() == {"small"}
    table = bench.ctl("cascade", "show", "digits@1")
    assert "small.tflite" not in table.stdout
    assert "THRESHOLD" in table.stdout
    assert "digits@1" in bench.ctl("cascade", "ls").stdout
    assert "cannot find cascade digits@2" in bench.ctl("cascade", "show", "digits@2", code=2).stderr


def test_what_build_prints(bench: Bench, here: Path) -> None:
    files = pair(here, 500)
    labels = write(here, "labels.txt", "\n".join("abcdefghij").encode())
    ran = bench.ctl(
        "cascade",
        "build",
        "digits",
        *TWO,
        "--samples",
        str(files.samples),
        "--eps",
        "5%",
        "--gate",
        "margin",
        "--labels",
        labels,
        "--version",
        "7",
    )
    assert "digits@7" in ran.stdout
    assert "5.0%*" in ran.stdout
    for title in ("EPS", "THRESHOLD", "HARMS", "ESCALATED", "ACCURACY", "ANSWER"):
        assert title in ran.stdout
    assert "certified on 500 samples" in ran.stderr
    assert "large takes" in ran.stderr


def test_parts_without_gates(bench: Bench, here: Path) -> None:
    whole = models.random_layers(16, 12, 10)
    write(here, "small.tflite", models.classifier(whole[:1], head="features"))
    write(here, "large.tflite", models.classifier(whole[1:]))
    chained = (*TWO, "--reads", "large=stage:small", "--no-gate")
    built = bench.ctl_json("cascade", "build", "split", *chained)
    assert built["ladders"] == []
    assert "random input" in bench.ctl("cascade", "build", "split", *chained).stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--stage", "small"), "cannot read stage 'small'"),
        (("--stage", "only=none.tflite"), "cannot use none.tflite as stage only: No such file"),
        (("--stage", "only=nobody"), "cannot find model 'nobody'"),
        ((*TWO, "--eps", "150%"), "cannot use eps '150%'"),
        ((*TWO, "--labels", "none.txt"), "cannot read labels 'none.txt'"),
        (TWO, "give --samples FILE.npz with x and y"),
        ((*TWO, "--samples", "none.npz"), "cannot read samples none.npz: "),
        ((*TWO, "--reads", "large"), "--reads STAGE=stage:NAME"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_cannot_be_built(
    bench: Bench,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    assert words in bench.ctl("cascade", "build", "digits", *arguments, code=2).stderr
    assert bench.ctl_json("cascade", "ls") == []
    assert not (bench.home.folder / "catalog" / "artifacts").exists()


def test_a_name_that_is_none(bench: Bench, here: Path) -> None:
    write(here, "m.tflite", models.classifier(layers()))
    failed = bench.ctl("cascade", "build", "a/b", "--stage", "only=m.tflite", code=2)
    assert "cannot use cascade 'a/b'" in failed.stderr


def test_an_empty_catalog(bench: Bench) -> None:
    assert "No cascades" in bench.ctl("cascade", "ls").stderr
    assert "cannot find cascade 'digits'" in bench.ctl("cascade", "show", "digits", code=2).stderr
