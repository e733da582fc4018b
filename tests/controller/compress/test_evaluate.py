from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.compress.errors import CompressError
from controller.compress.evaluate import compare, evaluate, top_accuracy, wilson
from controller.compress.judging import beside, judge
from controller.compress.metrics import calibration_error
from controller.compress.user_metric import load_metric
from controller.errors import BuildError
from controller.samples import Samples
from tests import models
from tests.controller.classifiers import dataset, layers


def test_wilson_as_published() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3
    for right, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)):
        found = wilson(right, n)
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    assert (wilson(0, 20).low, round(wilson(0, 20).high, 4)) == (0.0, 0.1611)


@given(st.integers(1, 5000), st.data())
def test_wilson_holds_the_share(n: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, n))
    found = wilson(right, n)
    assert 0 <= found.low <= right / n + 1e-12
    assert right / n - 1e-12 <= found.high <= 1
    assert found.high - found.low > 0


def test_classes_and_bins() -> None:
    rows = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.2, 0.8, 0.0]], np.float32)
    y = np.array([0, 1, 1])
    found = evaluate("m", rows, "probabilities", y, top_k=2)
    assert found.quality.accuracy == pytest.approx(2 / 3)
    assert [(c.recall, c.precision) for c in found.classes] == [(1, 0.5), (0.5, 1), (None, None)]
    assert found.top_k == (2, 1.0)
    assert [b.samples for b in found.bins] == [1, 1, 1]
    weighted = sum(b.samples * abs(b.accuracy - b.confidence) for b in found.bins) / 3
    assert weighted == pytest.approx(calibration_error(rows, y))


def test_top_accuracy_grows_to_one() -> None:
    chances = np.random.default_rng(0).random((50, 6)).astype(np.float32)
    y = np.random.default_rng(1).integers(0, 6, 50)
    found = [top_accuracy(chances, y, k) for k in range(1, 8)]
    assert found == sorted(found)
    assert found[-2:] == [1.0, 1.0]


def test_a_comparison_counts_pairs() -> None:
    sure = {True: [0.9, 0.1], False: [0.1, 0.9]}
    mine = np.array([sure[right] for right in (True, True, True, False, False)], np.float32)
    other = np.array([sure[right] for right in (True, True, False, True, False)], np.float32)
    found = compare(mine, other, ("probabilities", "probabilities"), np.zeros(5, np.int64), "o")
    counts = (found.both_right, found.only_this, found.only_reference, found.neither)
    assert counts == (2, 1, 1, 1)
    assert found.agreement == pytest.approx(3 / 5)
    assert found.difference == 0
    assert found.interval.low == pytest.approx(-found.interval.high)


def samples(n: int = 200, shift: int = 0) -> Samples:
    x, y = dataset(n)
    return Samples(x, y + shift, "0" * 64, "samples.npz")


def test_a_model_is_judged() -> None:
    given = samples()
    good = judge(models.classifier(layers()), "good", given, metric=lambda s, y: len(s) / len(y))
    poor = judge(models.classifier(layers(0.5)), "poor", given)
    assert good[0].quality.accuracy > 0.95 > poor[0].quality.accuracy
    assert good[0].metric == 1.0
    assert given.y is not None
    found = beside(poor, good, given.y).comparison
    assert found is not None
    gap = poor[0].quality.accuracy - good[0].quality.accuracy
    assert found.difference == pytest.approx(gap)
    assert found.interval.low < gap < found.interval.high < 0
    assert found.agreement < 1


def test_what_cannot_be_judged() -> None:
    content = models.classifier(layers())
    unlabelled = Samples(dataset(3)[0], None, "0" * 64, "samples.npz")
    with pytest.raises(CompressError, match=r"cannot judge m: samples.npz has no labels"):
        judge(content, "m", unlabelled)
    with pytest.raises(BuildError, match="10 classes, label 10"):
        judge(content, "m", samples(50, shift=1))
    weights, bias = layers()[0]
    broken = models.classifier([(weights * np.float32(np.nan), bias)])
    with pytest.raises(CompressError, match="NaN or infinite scores for 5 of 5 samples"):
        judge(broken, "m", samples(5))


def test_a_metric_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sluice_test_metric.py").write_text(
        "def first(scores, labels): return scores[0, 0] + labels[0]\n"
        "def wrong(scores, labels): raise KeyError('x')\n"
        "nothing = 3\n"
    )
    rows, y = np.full((2, 2), 0.5, np.float32), np.array([1, 1])
    assert load_metric(f"{tmp_path}/sluice_test_metric.py:first")(rows, y) == 1.5
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    assert load_metric("sluice_test_metric:first")(rows, y) == 1.5
    with pytest.raises(CompressError, match="KeyError: 'x'"):
        load_metric("sluice_test_metric:wrong")(rows, y)
    for words, why in (
        ("sluice_test_metric", "write module:function"),
        ("sluice_test_metric:nothing", "has no function 'nothing'"),
        ("no_such_module:f", "ModuleNotFoundError"),
        ("none.py:f", "FileNotFoundError"),
    ):
        with pytest.raises(CompressError, match=f"cannot use metric '?{words}.*{why}"):
            load_metric(words)
