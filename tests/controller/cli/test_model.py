import json
from pathlib import Path

import pytest

from tests import models
from tests.controller.classifiers import layers, open_features
from tests.controller.cli.command import Command, command  # noqa: F401 - a fixture

TINY = models.classifier(layers())


def test_add_list_and_show(command: Command) -> None:  # noqa: F811 - the fixture
    small = command.write("small model.tflite", TINY)
    large = command.write("large.tflite", models.classifier(layers(), form="int8"))
    added = command.json("model", "add", small, large)
    assert [record["name"] for record in added] == ["small-model", "large"]
    assert command.json("model", "ls") == sorted(added, key=lambda record: record["name"])
    shown = command.json("model", "show", "large")
    assert shown["inputs"][0]["dtype"] == "int8"
    assert shown["needs"]["answer_ms"] > 0
    assert (
        "int8[1, 10] = 0.00390625 * (q + 128) scores" in command.run("model", "show", "large").out
    )
    assert command.run("model", "ls").out.count("\n") == 3


def test_an_empty_catalog(command: Command) -> None:  # noqa: F811 - the fixture
    assert command.json("model", "ls") == []
    assert "No models" in command.run("model", "ls").err


def test_all_files_or_none(command: Command) -> None:  # noqa: F811 - the fixture
    good = command.write("good.tflite", TINY)
    bad = command.write("bad.tflite", models.crashing())
    failed = command.run("model", "add", good, bad, code=2)
    assert failed.err.startswith("cannot add model bad: the interpreter was killed by SIGSEGV")
    assert failed.out == ""
    assert command.json("model", "ls") == []
    assert not list(command.home.glob("catalog/**/*.*"))


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
    command: Command,  # noqa: F811 - the fixture
    arguments: tuple[str, ...],
    words: str,
) -> None:
    command.write("m.tflite", TINY)
    command.write("junk.tflite", b"junk junk junk")
    command.write("open.tflite", open_features())
    assert words in command.run("model", "add", *arguments, code=2).err
    assert command.json("model", "ls") == []


def test_options_of_add(command: Command) -> None:  # noqa: F811 - the fixture
    (record,) = command.json(
        "model", "add", command.write("open.tflite", open_features()), "--shape", "7"
    )
    assert record["inputs"][0]["shape"] == [1, 7]
    path = command.write("two.tflite", models.two_outputs(models.random_layers(8, 4, 3)))
    assert "--scores NUMBER" in command.run("model", "add", path).err
    (record,) = command.json("model", "add", path, "--name", "other", "--scores", "scores")
    assert (record["name"], record["scores"]) == ("other", 1)
    command.run("model", "add", path, path, "--name", "x", code=2)
    command.run("model", "add", path, "--shape", "7,x", code=2)


def test_the_same_name_for_another_file(command: Command) -> None:  # noqa: F811 - the fixture
    path = command.write("m.tflite", TINY)
    (first,) = command.json("model", "add", path)
    command.run("model", "add", path)
    command.write("m.tflite", models.classifier(layers(0.5)))
    assert (
        "the catalog has another file of that name" in command.run("model", "add", path, code=2).err
    )
    assert command.json("model", "show", "m")["artifact"] == first["artifact"]
    (second,) = command.json("model", "add", path, "--replace")
    assert second["artifact"] != first["artifact"]


def test_a_model_whose_file_has_changed(command: Command) -> None:  # noqa: F811 - the fixture
    (record,) = command.json("model", "add", command.write("m.tflite", TINY))
    artifact: Path = command.home / "catalog" / "artifacts" / record["artifact"]["sha256"]
    artifact.write_bytes(b"x" * artifact.stat().st_size)
    assert "its bytes have changed" in command.run("model", "show", "m", code=2).err
    assert "cannot find model 'n'" in command.run("model", "show", "n", code=2).err


def test_json_is_json_alone(command: Command) -> None:  # noqa: F811 - the fixture
    path = command.write("m.tflite", TINY)
    assert json.loads(command.run("model", "add", path, "-o", "json").out)[0]["name"] == "m"
