"""Mixed precision on a real model: chosen on one half of the samples, told on the other."""

from collections.abc import Iterator

import numpy as np
import pytest

from controller.compress.errors import CompressError
from controller.compress.mixed import Aim, quantize_mixed
from controller.compress.search import Judge
from controller.compress.widths import Grade, Width
from controller.samples import Samples
from tests.controller import classifiers
from tests.models import classifier

X, Y = classifiers.dataset(60)
MODEL = classifier(classifiers.layers())
WIDE_X = np.tile(X, 8)
WIDE = classifier([(np.tile(weights, 8), bias) for weights, bias in classifiers.layers()])
"""The same with each feature eight times: rows long enough for 4 bits to pay."""


@pytest.fixture(name="judge")
def _judge() -> Iterator[Judge]:
    with Judge(MODEL, "dense", Samples(X, Y, "", "samples")) as judge:
        yield judge


def test_layers_become_as_narrow_as_the_budget_allows(judge: Judge) -> None:
    found, report = quantize_mixed(judge, Aim(max_loss=1.0))

    # 160 weights: ten scales for 4 bits take more than 4 bits save over 8 with one.
    assert [layer.stored for layer in report.layers] == ["int8"]
    assert set(found.chosen.values()) == {Grade(Width.INT8_TENSOR)}
    assert len(found.content) < len(MODEL)
    assert found.verdict.chosen_on.samples == found.verdict.held_out.samples == 30
    assert [point.wire_bytes for point in found.curve] == sorted(
        (point.wire_bytes for point in found.curve), reverse=True
    )


def test_a_file_of_so_many_bytes_takes_the_least_damage(judge: Judge) -> None:
    found, report = quantize_mixed(judge, Aim(max_loss=1.0, max_bytes=len(MODEL)))

    assert len(found.content) <= len(MODEL)
    assert [layer.stored for layer in report.layers] == ["float32"]
    with pytest.raises(CompressError, match=r"its narrowest it has \d+ bytes, 100 are"):
        quantize_mixed(judge, Aim(max_loss=1.0, max_bytes=100))


def test_scales_are_searched_where_that_moves_the_answers_less() -> None:
    with Judge(WIDE, "dense", Samples(WIDE_X, Y, "", "samples")) as judge:
        found, report = quantize_mixed(judge, Aim(max_loss=1.0))
        plain, _ = quantize_mixed(judge, Aim(max_loss=1.0, search=False))

        assert [layer.stored for layer in report.layers] == ["int4"]
        assert len(found.content) == len(plain.content)
        assert judge.shift(found.content).divergence <= judge.shift(plain.content).divergence


def test_a_quantized_model_is_refused() -> None:
    narrow = classifier(classifiers.layers(), form="int8")
    with (
        Judge(narrow, "dense", Samples(X, Y, "", "samples")) as judge,
        pytest.raises(CompressError, match="cannot quantize dense to mixed: 1 of its 1 layers"),
    ):
        quantize_mixed(judge, Aim(max_loss=1.0))
