import pytest
import typer

from controller.cli.options import parse_duration_s, parse_pairs, parse_selector


@pytest.mark.parametrize(
    ("words", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("2d", 172800), ("250ms", 0.25)],
)
def test_a_duration(words: str, seconds: float) -> None:
    assert parse_duration_s(words) == seconds


@pytest.mark.parametrize("words", ["", "-1s", "10 minutes", "1w", "s", "nan", "1e3"])
def test_no_duration(words: str) -> None:
    with pytest.raises(typer.BadParameter, match="no duration"):
        parse_duration_s(words)


def test_a_selector_asks_for_all_its_labels() -> None:
    assert parse_selector(["room=hall", "kind=pi 4"]) == {"room": "hall", "kind": "pi 4"}
    assert parse_selector(["a=b=c"]) == {"a": "b=c"}
    assert parse_selector(None) == {}


@pytest.mark.parametrize("pairs", [["room"], ["=x"], ["a=1", "a=2"]])
def test_no_selector(pairs: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        parse_selector(pairs)


def test_pairs() -> None:
    assert parse_pairs(["large=int8"], "stage=variant") == {"large": "int8"}
    for wrong in (["large"], ["a=1", "a=2"]):
        with pytest.raises(typer.BadParameter, match="stage=variant"):
            parse_pairs(wrong, "stage=variant")
