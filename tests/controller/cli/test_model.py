import json
from pathlib import Path

import pytest

from tests import models
from tests.controller.classifiers import layers, open_features
from tests.controller.cli.conftest import Bench

TINY = models.classifier(layers())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, where the models lie."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return name


def test_add_list_and_show(bench: Bench, here: Path) -> None:
    small = write(here, "small model.tflite", TINY)
    large = write(here, "large.tflite", models.classifier(layers(), form="int8"))
    added = bench.ctl_json("model", "add", small, large)
    assert [record["name"] for record in added] == ["small-model", "large"]
    assert bench.ctl_json("model", "ls") == sorted(added, key=lambda record: record["name"])
    shown = bench.ctl_json("model", "show", "large")
    assert shown["inputs"][0]["dtype"] == "int8"
    assert shown["needs"]["answer_ms"] > 0
    assert (
        "int8[1, 10] = 0.00390625 * (q + 128) scores" in bench.ctl("model", "show", "large").stdout
    )
    assert bench.ctl("model", "ls").stdout.count("\n") == 3


def test_an_empty_catalog(bench: Bench) -> None:
    assert bench.ctl_json("model", "ls") == []
    assert "No models" in bench.ctl("model", "ls").stderr


def test_all_files_or_none(bench: Bench, here: Path) -> None:
    good = write(here, "good.tflite", TINY)
    bad = write(here, "bad.tflite", models.crashing())
    failed = bench.ctl("model", "add", good, bad, code=2)
    assert failed.stderr.startswith("cannot add model bad: the interpreter was killed by SIGSEGV")
    assert failed.stdout == ""
    assert bench.ctl_json("model", "ls") == []
    assert not list(bench.home.folder.glob("catalog/**/*.*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.tflite",), "cannot add model none: No such file"),
        (("junk.tflite",), "cannot add model junk: it is no .tflite file"),
        (("m.tflite", "--name", "a b"), "cannot use model 'a b'"),
        (("m.tflite", "--scores", "7"), "cannot add model m: no output '7'; it has 0: 'scores'"),
        (("m.tflite", "m.tflite"), "m.tflite and m.tflite would have the same name"),
        (("open.tflite",), "open; give samples"),
    ],
)
def test_what_cannot_be_added(
    bench: Bench,
    here: Path,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    write(here, "m.tflite", TINY)
    write(here, "junk.tflite", b"junk junk junk")
    write(here, "open.tflite", open_features())
    assert words in bench.ctl("model", "add", *arguments, code=2).stderr
    assert bench.ctl_json("model", "ls") == []


def test_options_of_add(bench: Bench, here: Path) -> None:
    (record,) = bench.ctl_json(
        "model", "add", write(here, "open.tflite", open_features()), "--shape", "7"
    )
    assert record["inputs"][0]["shape"] == [1, 7]
    path = write(here, "two.tflite", models.two_outputs(models.random_layers(8, 4, 3)))
    assert "--scores NUMBER" in bench.ctl("model", "add", path).stderr
    (record,) = bench.ctl_json("model", "add", path, "--name", "other", "--scores", "scores")
    assert (record["name"], record["scores"]) == ("other", 1)
    bench.ctl("model", "add", path, path, "--name", "x", code=2)
    bench.ctl("model", "add", path, "--shape", "7,x", code=2)


def test_the_same_name_for_another_file(bench: Bench, here: Path) -> None:
    path = write(here, "m.tflite", TINY)
    (first,) = bench.ctl_json("model", "add", path)
    bench.ctl("model", "add", path)
    write(here, "m.tflite", models.classifier(layers(0.5)))
    assert (
        "the catalog has another file of that name"
        in bench.ctl("model", "add", path, code=2).stderr
    )
    assert bench.ctl_json("model", "show", "m")["artifact"] == first["artifact"]
    (second,) = bench.ctl_json("model", "add", path, "--replace")
    assert second["artifact"] != first["artifact"]


def test_a_model_whose_file_has_changed(bench: Bench, here: Path) -> None:
    (record,) = bench.ctl_json("model", "add", write(here, "m.tflite", TINY))
    artifact: Path = bench.home.folder / "catalog" / "artifacts" / record["artifact"]["sha256"]
    artifact.write_bytes(b"x" * artifact.stat().st_size)
    assert "its bytes have changed" in bench.ctl("model", "show", "m", code=2).stderr
    assert "cannot find model 'n'" in bench.ctl("model", "show", "n", code=2).stderr


def test_json_is_json_alone(bench: Bench, here: Path) -> None:
    path = write(here, "m.tflite", TINY)
    assert json.loads(bench.ctl("model", "add", path, "-o", "json").stdout)[0]["name"] == "m"
