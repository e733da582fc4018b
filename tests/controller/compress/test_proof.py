import numpy as np
import pytest

from controller.compress.proof import change, prove
from controller.trial import TrialError
from tests import models

LAYERS = models.random_layers(4, 4, 3)


def test_a_model_that_runs_is_compared_with_the_original() -> None:
    content = models.classifier(LAYERS)
    assert prove(content, content, "model") == 0
    moved = prove(content, models.classifier(models.random_layers(4, 4, 3, seed=1)), "model")
    assert moved is not None
    assert moved > 0


def test_rows_of_several_inputs_are_not_compared() -> None:
    assert prove(models.two_inputs(), models.two_inputs(), "sum") is None


def test_a_model_that_dies_is_told() -> None:
    with pytest.raises(TrialError, match="SIGSEGV"):
        prove(models.classifier(LAYERS), models.crashing(), "model")


def test_change_is_relative() -> None:
    before = np.array([[3.0, 4.0]], np.float32)
    assert change(before, before * 1.5) == pytest.approx(0.5)
    assert change(np.zeros((1, 2), np.float32), before) == pytest.approx(5 / np.sqrt(2))
