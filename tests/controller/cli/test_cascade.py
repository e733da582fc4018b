import pytest

from tests import models
from tests.controller.classifiers import layers, pair
from tests.controller.cli.command import Command, command  # noqa: F401 - a fixture

TWO = ("--stage", "small=small.tflite", "--stage", "large=large.tflite")


def test_build_list_and_show(command: Command) -> None:  # noqa: F811 - the fixture
    files = pair(command.home.parent, 500)
    built = command.json("cascade", "build", "digits", *TWO, "--samples", files.samples)
    assert (built["name"], built["version"], built["classes"]) == ("digits", 1, 10)
    (ladder,) = built["ladders"]
    assert [step["eps"] for step in ladder["steps"]] == [0.01, 0.02, 0.05]
    assert ladder["base"] == 0
    (listed,) = command.json("cascade", "ls")
    shown = command.json("cascade", "show", "digits")
    assert listed == shown
    assert shown["sha256"] == built["sha256"]
    assert shown["bundle"]["certificates"][0]["gates"].keys() == {"small"}
    table = command.run("cascade", "show", "digits@1")
    assert "small.tflite" not in table.out
    assert "THRESHOLD" in table.out
    assert "digits@1" in command.run("cascade", "ls").out
    assert "cannot find cascade digits@2" in command.run("cascade", "show", "digits@2", code=2).err


def test_what_build_prints(command: Command) -> None:  # noqa: F811 - the fixture
    files = pair(command.home.parent, 500)
    labels = command.write("labels.txt", "\n".join("abcdefghij").encode())
    ran = command.run(
        "cascade",
        "build",
        "digits",
        *TWO,
        "--samples",
        files.samples,
        "--eps",
        "5%",
        "--gate",
        "margin",
        "--labels",
        labels,
        "--version",
        "7",
    )
    assert "digits@7" in ran.out
    assert "5.0%*" in ran.out
    for title in ("EPS", "THRESHOLD", "HARMS", "ESCALATED", "ACCURACY", "ANSWER"):
        assert title in ran.out
    assert "certified on 500 samples" in ran.err
    assert "large takes" in ran.err


def test_parts_without_gates(command: Command) -> None:  # noqa: F811 - the fixture
    whole = models.random_layers(16, 12, 10)
    command.write("small.tflite", models.classifier(whole[:1], head="features"))
    command.write("large.tflite", models.classifier(whole[1:]))
    chained = (*TWO, "--reads", "large=stage:small", "--no-gate")
    built = command.json("cascade", "build", "split", *chained)
    assert built["ladders"] == []
    assert "random input" in command.run("cascade", "build", "split", *chained).err


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
def test_what_cannot_be_built(
    command: Command,  # noqa: F811 - the fixture
    arguments: tuple[str, ...],
    words: str,
) -> None:
    assert words in command.run("cascade", "build", "digits", *arguments, code=2).err
    assert command.json("cascade", "ls") == []
    assert not (command.home / "catalog" / "artifacts").exists()


def test_a_name_that_is_none(command: Command) -> None:  # noqa: F811 - the fixture
    command.write("m.tflite", models.classifier(layers()))
    failed = command.run("cascade", "build", "a/b", "--stage", "only=m.tflite", code=2)
    assert "cannot use cascade 'a/b'" in failed.err


def test_an_empty_catalog(command: Command) -> None:  # noqa: F811 - the fixture
    assert "No cascades" in command.run("cascade", "ls").err
    assert "cannot find cascade 'digits'" in command.run("cascade", "show", "digits", code=2).err
