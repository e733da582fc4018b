"""A cascade whose exit and last stage both read a trunk: three stages, one gate, raw features."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.cascades.plan import runner_plans
from agent.runner import blackbox
from agent.runner.admission import RefusedError
from agent.runner.blackbox import BlackBox
from agent.runner.control import CascadePlan, Ready, StageChanged
from agent.runner.prepare import prepare
from agent.runner.room import Room
from protocols.bundle import BundleRef
from protocols.chunks import artifact_ref
from protocols.desired import Desired, DesiredCascade, StagePin
from protocols.device import Rungs
from protocols.schedule import Schedule
from tests import models
from tests.agent.runner.cascades import Built, Piece, build
from tests.agent.runner.harness import running
from tests.agent.runner.samples import samples

if TYPE_CHECKING:
    from agent.runner.walk import Answer

X = samples(16, 8, 8)
WHOLE = models.random_layers(64, 24, 32, 10, seed=3)
EXIT = models.random_layers(24, 10, seed=4)
THRESHOLD = 0.5
TRUNK, EXIT_STAGE, REST = 0, 1, 2


def shared(folder: Path, form: models.Form = "float32") -> Built:
    """Return a cascade of trunk, exit and rest; what an int8 exit reads has its own scale."""
    trunk = models.classifier(WHOLE[:1], sample_shape=(8, 8, 1), form=form, head="features")
    early = models.classifier(EXIT, form=form, input_range=(0.0, 6.0))
    rest = models.classifier(WHOLE[1:], form=form, input_range=(0.0, 5.0))
    return build(
        folder,
        [
            Piece("trunk", trunk, kind="raw"),
            Piece("exit", early, "max_prob", THRESHOLD, reads="stage:trunk"),
            Piece("rest", rest, reads="stage:trunk"),
        ],
        X,
        name="shared",
    )


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return shared(tmp_path)


class Prepared:
    """The cascade in this process."""

    def __init__(self, built: Built, plan: CascadePlan | None = None) -> None:
        self.events: list[StageChanged] = []
        fd = blackbox.create()
        self.cascade = prepare(
            built.assignment(),
            plan or built.plan(),
            BlackBox(fd),
            Room(),
            self.events.append,
            lambda: None,
        )
        os.close(fd)

    def apply(self, plan: CascadePlan) -> None:
        self.cascade.set_plan(plan, "test")
        self.cascade.shrink()
        self.cascade.grow()

    def loaded(self) -> list[str]:
        return [stage.name for stage in self.cascade.stats().stages if stage.loaded]


@pytest.fixture
def prepared(built: Built) -> Iterator[Prepared]:
    found = Prepared(built)
    yield found
    found.apply(built.plan("out", "out", "out"))


def unsure(built: Built) -> list[int]:
    return [n for n in range(len(X)) if built.chances("exit", n).max() < THRESHOLD]


def at(built: Built, *pins: StagePin, **rungs: int) -> CascadePlan:
    """Return what the supervisor would have the runner do at some rungs, by the bundle's rows."""
    content = built.bundle.encode()
    ref = BundleRef(name="shared", version=1, artifact=artifact_ref(content))
    names = {stage.name: "only" for stage in built.bundle.stages}
    wanted = DesiredCascade(bundle=ref, variants=names)
    desired = Desired(
        fleet="f", device="d", generation=1, cascades=(wanted,), schedule=Schedule(), pins=pins
    )
    return runner_plans(desired, [(wanted, built.bundle)], Rungs(**rungs), (0,))[0]


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_a_runner_serves_it(tmp_path: Path, form: models.Form) -> None:
    built = shared(tmp_path, form)
    later = unsure(built)
    assert 0 < len(later) < len(X)
    with running() as runner:
        runner.assign((built.assignment(), built.plan()))
        runner.expect(Ready)
        runner.take()
        client = runner.client()
        for number, sample in enumerate(X):
            status, document = client.infer("shared", sample)
            stage = document["parameters"]["stage"]
            assert (status, stage) == (200, "rest" if number in later else "exit")
            data = document["outputs"][0]["data"]
            assert np.allclose(data, built.chances(stage, number), atol=1e-6)
        stats = runner.stats()
    assert (stats.answers, stats.escalated, stats.degraded) == (len(X), len(later), 0)
    golden = len(X)
    assert [stage.runs for stage in stats.stages] == [
        golden + len(X),  # once for each sample, also where both read it
        golden + len(X),
        golden + len(later),
    ]
    assert [stage.answers for stage in stats.stages] == [0, len(X) - len(later), len(later)]


def test_the_rungs_keep_trunk_and_exit_together(built: Built) -> None:
    rows = [[t.residence for t in at(built, residency=rung).stages] for rung in range(5)]
    assert rows == [
        ["resident", "resident", "resident"],
        ["resident", "resident", "on_demand"],
        ["on_demand", "on_demand", "on_demand"],
        ["resident", "resident", "out"],
        ["out", "out", "out"],
    ]


def test_without_the_rest_trunk_and_exit_answer_degraded(built: Built, prepared: Prepared) -> None:
    prepared.apply(at(built, residency=3))
    assert prepared.loaded() == ["trunk", "exit"]
    answers = prepared.cascade.answer(X)
    assert [n for n, answer in enumerate(answers) if answer.degraded] == unsure(built)
    for number, answer in enumerate(answers):
        assert answer.stage == EXIT_STAGE
        assert np.array_equal(answer.values, built.chances("exit", number))


def test_the_rest_comes_with_a_request_that_needs_it(built: Built, prepared: Prepared) -> None:
    prepared.apply(at(built, residency=3))
    prepared.apply(at(built, residency=1))
    assert prepared.loaded() == ["trunk", "exit"]
    answer = prepared.cascade.answer(X[unsure(built)[:1]])[0]
    assert (answer.stage, answer.degraded) == (REST, False)
    assert prepared.loaded() == ["trunk", "exit", "rest"]


def test_one_at_a_time_gives_the_same_answers(built: Built, prepared: Prepared) -> None:
    whole = prepared.cascade.answer(X)
    prepared.apply(at(built, residency=2))
    prepared.events.clear()
    found: list[list[Answer]] = []
    threads = [
        threading.Thread(target=lambda: found.append(prepared.cascade.answer(X))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    for answers in found:
        assert [a.stage for a in answers] == [a.stage for a in whole]
        assert all(np.array_equal(a.values, b.values) for a, b in zip(answers, whole, strict=True))
    held = len(prepared.loaded())
    for event in reversed(prepared.events):
        assert held <= 1
        held -= {"loaded": 1, "unloaded": -1}[event.change]


def test_without_the_exit_the_rest_answers_all(built: Built, prepared: Prepared) -> None:
    prepared.apply(at(built, StagePin(cascade="shared", stage="exit", loaded=False)))
    answers = prepared.cascade.answer(X)
    assert {(answer.stage, answer.degraded) for answer in answers} == {(REST, False)}


def test_without_the_trunk_nothing_answers(built: Built, prepared: Prepared) -> None:
    prepared.apply(at(built, StagePin(cascade="shared", stage="trunk", loaded=False)))
    with pytest.raises(RefusedError, match="stage trunk is unloaded by a pin"):
        prepared.cascade.answer(X[:1])
