import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.compress.anatomy import dissect
from controller.compress.evaluate import evaluate
from controller.compress.measure import Weighed
from controller.compress.page import Subject, best, render
from controller.compress.plots import (
    Spot,
    confusion_chart,
    cost_chart,
    layer_chart,
    pareto,
    reliability_chart,
)
from controller.compress.svg import shortened, si, spanning
from controller.compress.timings import timings
from controller.compress.wire import wire
from tests import models


class Reader(HTMLParser):
    """Collects what stands between tags, and insists that these are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag, attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def words_of(markup: str) -> list[str]:
    reader = Reader()
    reader.feed(markup)
    reader.close()
    assert not reader.open
    return reader.words


@pytest.mark.parametrize("log", [False, True])
@given(values=st.lists(st.floats(1e-9, 1e12), min_size=1, max_size=9))
def test_scales_hold_their_values(values: list[float], *, log: bool) -> None:
    scale = spanning(values, 10, 200, log=log)
    assert all(10 <= scale.at(value) <= 200 for value in values)
    ticks = scale.ticks()
    assert ticks
    assert all(9.99 <= scale.at(tick) <= 200.01 for tick in ticks)
    assert ticks == sorted(ticks)


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0 B"), (999.6, "1 kB"), (12_345, "12.3 kB"), (2.5e9, "2.5 GB"), (7.0, "7 B")],
)
def test_numbers_with_letters(value: float, words: str) -> None:
    assert si(value, "B") == words


def test_small_numbers() -> None:
    assert [si(v, "s") for v in (0.0015, 2.25e-6, 9.9999e-4)] == ["1.5 ms", "2.25 µs", "1 ms"]
    assert si(1234) == "1.23k"


def test_long_words_lose_their_middle() -> None:
    assert shortened("abcdefghij", 5) == "ab\N{HORIZONTAL ELLIPSIS}ij"
    assert shortened("abc", 5) == "abc"


def test_the_pareto_front() -> None:
    def spot(name: str, cost: float, accuracy: float) -> Spot:
        return Spot(name, cost, accuracy, accuracy, accuracy)

    spots = [spot("dear", 9, 0.9), spot("bad", 5, 0.7), spot("cheap", 1, 0.8), spot("also", 9, 0.8)]
    assert [s.name for s in pareto(spots)] == ["cheap", "dear"]


def test_every_plot_is_a_whole_svg() -> None:
    anatomy = dissect(models.classifier(models.random_layers(16, 8, 3)), 'a<b>&"c"')
    layers = layer_chart(anatomy, [1.5, None, 2.0])
    assert 'a<b>&"c"' in words_of(layers)
    assert "1.5 µs" in words_of(layers)
    one = [Spot("only<", 5.0, 1.0, 1.0, 1.0)]
    assert "only<" in words_of(cost_chart(one, "t", "bytes"))
    rows = np.eye(3, dtype=np.float32)[[0, 1, 1]]
    found = evaluate("m", rows, "probabilities", np.array([0, 1, 2]))
    assert words_of(reliability_chart(found.bins, "m", 0.1, "#000"))
    cells = words_of(confusion_chart(found.quality.confusion, "m", ["a", "b", "a long name"]))
    assert "a long name taken for b: 1 (100.0%)" in cells
    many = np.zeros((300, 300), np.int64)
    assert words_of(confusion_chart(many, "m", [str(n) for n in range(300)]))


def subject(name: str, width: int, right: float, energy_j: float | None) -> Subject:
    content = models.classifier(models.random_layers(16, width, 3))
    y = np.arange(100) % 3
    rows = np.eye(3, dtype=np.float32)[np.where(np.arange(100) < 100 * right, y, (y + 1) % 3)]
    return Subject(
        anatomy=dissect(content, name),
        wire=wire(content),
        weighed=Weighed(runtime="r", load_ms=1.0, first_us=9.0, load_mib=1.0, peak_mib=None),
        timings=timings(9.0, [1.0 * width, 2.0 * width]),
        cpu_s=1e-6 * width,
        energy_j=energy_j,
        evaluation=evaluate(name, rows, "probabilities", y.astype(np.int64)),
    )


@pytest.mark.parametrize("energy_j", [None, 0.5])
def test_a_page_stands_alone(energy_j: float | None) -> None:
    subjects = [subject("la<rge", 64, 0.9, energy_j), subject("small", 4, 0.8, energy_j)]
    page = render("Title & more", subjects, "data.npz", "x86_64", ["nought"])
    assert best(subjects) == ["small", "la<rge"]
    assert "Title &amp; more" in page
    assert "la<rge" not in page
    assert "nought" in page
    assert ("Energy" in page) == (energy_j is not None)
    links = set(re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\')>]+)', page))
    assert not links
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert "Accuracy against cost" in words_of(page)
