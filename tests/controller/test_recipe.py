from pathlib import Path

import pytest

from controller.errors import BuildError
from controller.recipe import (
    Recipe,
    StageRecipe,
    Temperature,
    read_eps,
    read_labels,
    read_stages,
)

TWO = ("small=a.tflite,b", "large=c")


def stages(*words: str, **options: object) -> tuple[StageRecipe, ...]:
    given = {"reads": {}, "gates": (), "scores": {}, **options}
    return read_stages(words, **given)  # type: ignore[arg-type]


def test_stages() -> None:
    assert stages(*TWO, scores={"large": "1"}) == (
        StageRecipe("small", ("a.tflite", "b"), "request", "max_prob"),
        StageRecipe("large", ("c",), "request", None, "1"),
    )
    assert stages(*TWO, gates=["none"], reads={"large": "stage:small"})[1].source == "small"


def test_gates() -> None:
    def gates(*words: str) -> list[str | None]:
        return [stage.metric for stage in stages("a=m", "b=m", "c=m", gates=words)]

    assert gates() == ["max_prob", "max_prob", None]
    assert gates("margin") == ["margin", "margin", None]
    assert gates("b=entropy") == ["max_prob", "entropy", None]
    assert gates("b=entropy", "margin") == ["margin", "entropy", None]
    assert gates("c=none") == ["max_prob", "max_prob", None]


def test_temperatures() -> None:
    def degrees(*words: str, gates: tuple[str, ...] = ()) -> list[Temperature]:
        made = stages("a=m", "b=m", "c=m", gates=gates, reads={"b": "stage:a"}, temperatures=words)
        return [stage.temperature for stage in made]

    assert degrees() == [1, 1, 1]
    assert degrees("auto") == ["auto", "auto", "auto"]
    assert degrees("c=2", "0.5") == [0.5, 0.5, 2]
    assert degrees("auto", "b=1") == ["auto", 1, "auto"]
    assert degrees("auto", gates=("a=none",)) == [1, "auto", "auto"]
    recipe = Recipe("digits", stages("a=m", "b=m", temperatures=["b=auto"]))
    assert recipe.fits
    assert not Recipe("digits", stages("a=m", "b=m", temperatures=["3"])).fits


@pytest.mark.parametrize("word", ["0", "-1", "nan", "inf", "1e-9", "warm", "small=", "small=0"])
def test_a_temperature_that_is_none(word: str) -> None:
    with pytest.raises(BuildError, match=r"want a number from 0\.001 to 1000 or auto"):
        stages(*TWO, temperatures=[word])


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        ((), {}, "no stages"),
        (TWO, {"temperatures": ["tiny=2"]}, "cannot use --temperature tiny=2"),
        (("a=m",), {"temperatures": ["2"]}, "no stage has a gate"),
        (
            ("a=m", "b=m", "c=m"),
            {"gates": ["a=none"], "reads": {"b": "stage:a"}, "temperatures": ["a=2"]},
            "'a=2': a has no gate",
        ),
        (("small",), {}, r"cannot read stage 'small': want NAME=MODEL"),
        (("small=",), {}, "cannot read stage"),
        (("a=m", "a=n"), {}, "stage 'a' stands twice"),
        (TWO, {"gates": ["sure"]}, "cannot use gate 'sure': want max_prob, margin, entropy"),
        (TWO, {"gates": ["tiny=margin"]}, "the stages are small, large"),
        (TWO, {"gates": ["large=margin"]}, "the last stage always answers"),
        (TWO, {"gates": ["none"]}, "stage 'small' has no gate and no stage reads it"),
        (TWO, {"reads": {"small": "stage:large"}}, "it may read request"),
        (TWO, {"reads": {"large": "stage:large"}}, "it may read request, stage:small"),
        (TWO, {"reads": {"large": "small"}}, "reads 'small'; it may read request, stage:small"),
        (TWO, {"reads": {"tiny": "stage:small"}}, "cannot use --reads tiny=stage:small"),
        (TWO, {"scores": {"tiny": "0"}}, "cannot use --scores tiny=0"),
    ],
)
def test_stages_that_make_no_cascade(
    words: tuple[str, ...], options: dict[str, object], message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        stages(*words, **options)


def test_a_path_with_a_comma(tmp_path: Path) -> None:
    path = tmp_path / "a,b.tflite"
    path.touch()
    assert stages(f"only={path}")[0].models == (str(path),)


@pytest.mark.parametrize(("words", "eps"), [("1%", 0.01), ("0.01", 0.01), ("0.5%", 0.005)])
def test_eps(words: str, eps: float) -> None:
    assert read_eps(words) == pytest.approx(eps)


@pytest.mark.parametrize("words", ["", "1", "0", "-1%", "x%", "nan", "100%"])
def test_eps_that_is_none(words: str) -> None:
    with pytest.raises(BuildError, match=r"want a share such as 1% or 0\.01"):
        read_eps(words)


def test_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\n\n big bird \n")
    assert read_labels(str(path)) == ("cat", "dog", "big bird")
    assert read_labels("cat, dog") == ("cat", "dog")
    with pytest.raises(BuildError, match="no such file, and no list"):
        read_labels("labels.txt")
