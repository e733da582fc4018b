"""Trying for real: within a time, stopped by a person, and on what cannot be advised on."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from controller.compress.advise.guide import Question, advise
from controller.compress.advise.page import render
from controller.compress.advise.recipes import read_recipes
from controller.compress.advise.target import parse_target
from controller.compress.advise.work import Data
from controller.compress.errors import CompressError
from tests.controller import classifiers
from tests.models import classifier

TARGET = "accuracy_loss<=20pp, memory<=1GiB"


@pytest.fixture(name="question")
def _question(tmp_path: Path) -> Question:
    x, y = classifiers.dataset(60)
    np.savez(tmp_path / "samples.npz", x=x, y=y)
    model = tmp_path / "dense.tflite"
    model.write_bytes(classifier(classifiers.layers()))
    data = Data(path=str(tmp_path / "samples.npz"))
    only = read_recipes("fp16, dedupe, prune auto + palette auto")
    return Question(model, "dense", data, parse_target(TARGET), 120, only=only)


def asked(question: Question, **changes: object) -> Question:
    return dataclasses.replace(question, **changes)  # type: ignore[arg-type]


def test_a_person_who_stops_it_gets_what_there_is(question: Question, tmp_path: Path) -> None:
    heard: list[str] = []
    others = set(psutil.Process().children(recursive=True))

    def on_step(title: str, _spent_s: float, _budget_s: float) -> None:
        heard.append(title)
        if title.startswith("prune auto") and "(" in title:  # in the middle of a search
            raise KeyboardInterrupt

    advice = advise(asked(question, module=str(tmp_path / "none.py")), tmp_path, on_step)

    assert advice.is_stopped
    assert [form.name for form in advice.forms] == ["original", "fp16"]
    assert all(form.latency_us for form in advice.forms)
    assert all(form.memory_bytes is not None for form in advice.forms)
    module, same = advice.untried
    assert (module.name, module.why[:7]) == ("channels", "cannot ")
    assert (same.name, same.why) == ("dedupe", "it gives the same file as original")
    assert heard[0] == "measuring original"
    assert heard[-1].startswith("timing 2 forms")
    left = set(psutil.Process().children(recursive=True)) - others
    assert not [one for one in left if one.is_running()]
    page = render("Advice", advice, TARGET, ["ctl model share 'a&b.tflite'"])
    assert "ctl model share &#x27;a&amp;b.tflite&#x27;" in page
    assert page.count("<svg") == 4


def test_it_ends_within_its_budget_and_says_what_was_not_tried(
    question: Question, tmp_path: Path
) -> None:
    began_s = time.monotonic()

    advice = advise(asked(question, budget_s=6.0, only=None), tmp_path)

    assert time.monotonic() - began_s <= 6.0
    assert advice.spent_s <= 6.0
    assert any("are left" in one.why or "time" in one.why for one in advice.untried)


def test_a_budget_that_is_too_short_for_anything_is_refused(
    question: Question, tmp_path: Path
) -> None:
    with pytest.raises(CompressError, match=r"cannot advise on dense within 0\.1 s"):
        advise(asked(question, budget_s=0.1), tmp_path)


def test_an_original_that_cannot_be_judged_ends_it(question: Question, tmp_path: Path) -> None:
    few = tmp_path / "few.npz"
    x, y = classifiers.dataset(10)
    np.savez(few, x=x, y=y)

    with pytest.raises(CompressError, match="has 10 samples"):
        advise(asked(question, data=Data(path=str(few))), tmp_path)
