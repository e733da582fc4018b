import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.compress.dedupe import dedupe
from controller.compress.graph import Graph
from controller.compress.scorer import Scorer
from controller.samples import Samples
from tests import models
from tests.models import Form

TWICE = [
    *models.random_layers(16, 16),
    *models.random_layers(16, 16),
    *models.random_layers(16, 3, seed=1),
]


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_the_same_is_stored_once_and_the_outputs_stay_to_the_bit(form: Form) -> None:
    content = models.classifier(TWICE, form=form)
    single, report = dedupe(content, "model")
    assert report.tensors >= 1
    assert report.bytes_saved >= 16 * 16
    assert len(single) <= len(content) - report.bytes_saved + 64
    x = np.random.default_rng(0).random((20, 16)).astype(np.float32)
    with Scorer(Samples(x, None, "", "x")) as scorer:
        assert np.array_equal(scorer.rows(content, "before"), scorer.rows(single, "after"))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=5))
def test_every_constant_keeps_its_bytes_and_none_is_stored_twice(seeds: list[int]) -> None:
    content = models.classifier([models.random_layers(6, 6, seed=seed)[0] for seed in seeds])
    single, report = dedupe(content, "model")
    old, new = Graph.read(content, "a"), Graph.read(single, "b")
    assert all(np.array_equal(old.raw(t), new.raw(t)) for t in old.constants())
    buffers = {new.buffer(t): new.raw(t).tobytes() for t in new.constants()}
    assert len(set(buffers.values())) == len(buffers)
    assert report.tensors == 2 * (len(seeds) - len(set(seeds)))
    assert dedupe(single, "model")[0] == single


def test_nothing_twice_is_nothing_to_do() -> None:
    content = models.classifier(models.random_layers(4, 5, 3))
    assert dedupe(content, "model")[0] is content
