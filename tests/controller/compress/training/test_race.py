import numpy as np
import pytest

from controller.compress.errors import CompressError
from controller.compress.training.export import answers
from controller.compress.training.race import Entrant, race
from tests.models import classifier, random_layers

X = np.random.default_rng(3).normal(size=(60, 12)).astype(np.float32)
SMALL = classifier(random_layers(12, 5, 3), head="logits")
LARGE = classifier(random_layers(12, 40, 30, 3), head="logits")


def test_models_and_cascades_answer_and_are_timed() -> None:
    never, always, small, large = race(
        [
            Entrant("never sure", (SMALL, LARGE), threshold=2.0),
            Entrant("always sure", (SMALL, LARGE), threshold=0.0),
            Entrant("small", (SMALL,)),
            Entrant("large", (LARGE,)),
        ],
        X,
    )

    assert small.answers == tuple(answers(SMALL, X).argmax(axis=1))
    assert large.answers == tuple(answers(LARGE, X).argmax(axis=1))
    assert never.answers == large.answers
    assert always.answers == small.answers
    assert (never.escalated, always.escalated) == (1.0, 0.0)
    for timed in (never, always, small, large):
        assert timed.runs == small.runs >= len(X)
        assert 0 < timed.median_ms <= timed.p95_ms
        assert timed.cpu_ms > 0


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(CompressError, match="cannot time the models: "):
        race([Entrant("broken", (b"no model",))], X)
