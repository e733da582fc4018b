import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from controller.compress.errors import CompressError
from controller.compress.quantize import Form
from controller.compress.sensitivity import Shift
from controller.compress.training.qat import (
    FAITHFUL,
    MIN_MAX,
    ORIGINAL,
    SEARCHED,
    TAUGHT,
    Answers,
    Evidence,
    Measured,
    Qat,
    better,
    finetune_quantized,
    verdict,
)
from controller.compress.training.teach import Lesson

if TYPE_CHECKING:
    from controller.compress.training.protocol import Task

BLOBS = Path(__file__).parent / "blobs.py"
QUICK = Lesson(2, 5e-3)


def some_answers(wrong: range, divergence: float, spread: float = 0.0) -> Answers:
    """Return answers to 100 samples."""
    right = np.ones(100, bool)
    right[list(wrong)] = False
    return Answers(right, divergence + spread * np.tile([-1.0, 1.0], 50))


ONE = some_answers(range(10), 0.2)


@pytest.mark.parametrize(
    ("other", "is_better", "told_by"),
    [
        (some_answers(range(2), 0.9), True, "accuracy"),
        (some_answers(range(20), 0.1), False, "accuracy"),
        (some_answers(range(5, 17), 0.1), True, "divergence"),
        (some_answers(range(5, 17), 0.1, spread=0.4), True, "divergence"),
        (some_answers(range(5, 17), 0.3), False, "divergence"),
        (some_answers(range(5, 17), 0.1, spread=0.6), False, "nothing"),
        (ONE, False, "nothing"),
    ],
)
def test_what_chance_hardly_makes_decides(other: Answers, is_better: bool, told_by: str) -> None:  # noqa: FBT001
    assert better(ONE, other) == (is_better, told_by)


def a_row(form: str, lost: float, divergence: float) -> Measured:
    return Measured(form, 100, 80, Shift(1 - lost, lost, 0.1, divergence, agreement=0.9))


@pytest.mark.parametrize(
    ("told_by", "kept", "said"),
    [
        ("accuracy", TAUGHT, r"was worth it: loss \+1.00pp against \+10.00pp after .*\)\.$"),
        ("accuracy", MIN_MAX, r"made it worse, its file is not kept: loss \+1.00pp"),
        ("divergence", TAUGHT, r"nearer the original's, divergence 0.30000 against 0.20000\."),
        ("divergence", MIN_MAX, r"further from the original's, .*; its file is not kept\."),
        ("nothing", MIN_MAX, r"was not worth it, its file is not kept: .* may be chance"),
        (None, MIN_MAX, r"Nothing was taught: the loss is \+10.00pp"),
    ],
)
def test_it_is_said_whether_it_was_worth_it(told_by: Evidence | None, kept: str, said: str) -> None:
    rows = [a_row(ORIGINAL, 0, 0), a_row(MIN_MAX, 0.1, 0.2), a_row(TAUGHT, 0.01, 0.3)]
    unfaithful = None if told_by is None else 0.01
    outcome = Qat(tuple(rows), MIN_MAX, kept, told_by, unfaithful, b"")

    assert re.search(said, verdict(outcome))


@pytest.fixture(scope="module")
def task() -> "Task":
    torch = pytest.importorskip("torch")
    pytest.importorskip("litert_torch")
    from controller.compress.training.protocol import load_task  # noqa: PLC0415

    torch.manual_seed(0)
    return load_task(str(BLOBS))


def test_the_file_answers_as_the_network_that_was_taught(task: "Task") -> None:
    made = finetune_quantized(task, Form.INT8, QUICK)

    assert [row.form for row in made.rows] == [ORIGINAL, MIN_MAX, SEARCHED, TAUGHT]
    assert made.unfaithful is not None
    assert made.unfaithful < FAITHFUL / 2
    taught, original = made.row(TAUGHT), made.row(ORIGINAL)
    assert (taught.validation.accuracy or 0) > 0.9
    assert taught.test is not None
    assert original.validation.lost == 0
    assert taught.file_bytes < original.file_bytes
    assert made.row(made.kept).file_bytes == len(made.content)
    tested = {row.form for row in made.rows if row.test}
    assert tested == {ORIGINAL, made.post_training, TAUGHT}


def test_a_form_that_is_none_is_refused(task: "Task") -> None:
    with pytest.raises(CompressError, match="cannot fine-tune blobs for fp16: want one of int8"):
        finetune_quantized(task, Form.FP16, QUICK)
    with pytest.raises(CompressError, match="cannot fine-tune blobs: want at least one epoch"):
        finetune_quantized(task, Form.INT8, Lesson(0, 1e-3))
