"""A stage that had no room when its bundle was accepted answers its golden samples later."""

import threading
from pathlib import Path

import numpy as np
import pytest

from agent.runner.admission import RefusedError
from agent.runner.control import CascadePlan, Residence, StageChanged
from agent.runner.crew import Crew
from tests import models
from tests.agent.runner.cascades import Built, Piece, build
from tests.agent.runner.test_room import DEMAND, WITHIN_S, Asking, Pressed, planned
from tests.agent.runner.test_serving import LARGE, OUT, SMALL, X, split

OTHER = models.classifier(models.random_layers(64, 32, 10, seed=9))


def gated(folder: Path, large: bytes = LARGE) -> Built:
    return build(folder, [Piece("small", SMALL, "max_prob", 2.0), Piece("large", large)], X)


def crossed(wrong: Built, right: Built) -> Built:
    """Return a bundle of one that promises what another one answers."""
    bundle = wrong.bundle.with_(golden=right.bundle.golden)
    return Built(bundle, wrong.folder, X, wrong.outputs)


def pressed(built: Built, plan: CascadePlan | None = None) -> Pressed:
    """Start a cascade of whose stages none has room, and let the time until the next try pass."""
    running = Pressed(built, (plan or planned(built)).with_(memory_floor_percent=99.0))
    assert running.loaded() == []
    assert all("it is tried again" in cause for cause in running.failures())
    running.events.clear()
    for slot in (running.slot(0), running.slot(1)):
        slot.berth.due_s = None
    return running


@pytest.mark.parametrize("residence", ["resident", DEMAND])
def test_a_wrong_model_that_had_no_room_at_first_never_answers(
    tmp_path: Path, residence: Residence
) -> None:
    running = pressed(crossed(gated(tmp_path, OTHER), gated(tmp_path)))
    before = threading.active_count()
    plan = planned(running.built, "resident", residence)
    running.apply(plan, "there is room")
    for _ in range(2):
        assert running.kinds() == {(0, True)}
    (cause,) = running.failures()
    assert cause.startswith("cannot serve digits/large: it answers ")
    assert "golden samples of bundle version 1 otherwise than where it was built" in cause
    assert cause.endswith("there is room)")
    running.slot(1)._retry_s = 0.0
    running.apply(plan.with_(threshold_index=1), "another plan")
    running.cascade.tidy(1e9)
    assert running.kinds() == {(0, True)}
    assert running.loaded() == ["small"]
    assert len(running.events) == 2  # the small one came, the large one did not
    assert threading.active_count() == before + 1
    running.close()


def test_a_right_model_that_had_no_room_at_first_is_checked_once(tmp_path: Path) -> None:
    built = gated(tmp_path)
    running = pressed(built)
    running.apply(planned(built, "resident", DEMAND), "there is room")
    assert running.kinds() == {(1, False)}
    assert running.slot(1).stats().runs == len(built.x) + len(X)
    (built.folder / built.bundle.golden.artifact.sha256).unlink()  # nobody needs them any more
    running.apply(planned(built, "resident", OUT))
    running.apply(planned(built, "resident", DEMAND))
    assert running.kinds() == {(1, False)}
    assert running.failures() == []
    running.close()


def test_golden_samples_that_cannot_be_read_are_no_proof(tmp_path: Path) -> None:
    built = gated(tmp_path)
    running = pressed(built)
    golden = built.folder / built.bundle.golden.artifact.sha256
    golden.rename(golden.with_suffix(".away"))
    running.apply(planned(built), "there is room")
    assert running.loaded() == []
    assert running.failures()[0].startswith("cannot read the golden samples of digits")
    golden.with_suffix(".away").rename(golden)
    running.apply(planned(built), "once more")
    assert running.loaded() == ["small", "large"]
    running.close()


@pytest.mark.parametrize("alone", [False, True])
def test_what_a_late_stage_reads_is_loaded_for_its_check(tmp_path: Path, *, alone: bool) -> None:
    """Also where only one stage may be in memory: never are there two."""
    built = split(tmp_path, "float32")
    running = pressed(built, planned(built, DEMAND, DEMAND, alone=alone))
    running.apply(planned(built, DEMAND, DEMAND, alone=alone), "there is room")
    most: list[list[str]] = []

    def emit(change: StageChanged) -> None:
        running.events.append(change)
        most.append(running.loaded())

    for slot in (running.slot(0), running.slot(1)):
        slot.emit = emit
    answers = running.cascade.answer(X)
    expected = [outputs[0][0] for outputs in built.outputs["tail"]]
    assert all(np.array_equal(a.values, e) for a, e in zip(answers, expected, strict=True))
    assert running.slot(1).proof is None
    assert running.failures() == []
    assert max(map(len, most)) == (1 if alone else 2)
    running.close()


def test_a_wrong_stage_that_reads_another_one_never_answers(tmp_path: Path) -> None:
    built = split(tmp_path, "float32")
    other = models.classifier(models.random_layers(48, 10, seed=77), input_range=(0, 6))
    layers = models.random_layers(64, 48, 10, seed=5)
    head = models.classifier(layers[:1], head="features")
    wrong = build(tmp_path, [Piece("head", head), Piece("tail", other, reads="stage:head")], X)
    running = pressed(crossed(wrong, built), planned(built, DEMAND, DEMAND, alone=True))
    running.apply(planned(built, DEMAND, DEMAND, alone=True), "there is room")
    for _ in range(2):
        with pytest.raises(RefusedError):
            running.cascade.answer(X[:1])
    (cause,) = running.failures()
    assert cause.startswith("cannot serve digits/tail: it answers ")
    running.close()


def test_a_check_ends_when_its_stage_has_to_go(tmp_path: Path) -> None:
    built = gated(tmp_path)
    running = pressed(built)
    running.apply(planned(built, "resident", DEMAND), "there is room")
    begun, proof = threading.Event(), running.slot(1).proof

    def judge(crew: Crew) -> None:
        while True:  # samples without end
            crew.answer([[X[0].reshape(1, 64)]])
            begun.set()

    running.slot(1).proof = lambda _setting, _floor_percent: judge
    found: list[set[tuple[int, bool]]] = []
    asking = threading.Thread(target=lambda: found.append(running.kinds()), daemon=True)
    asking.start()
    assert begun.wait(WITHIN_S)
    running.cascade.set_plan(planned(built, "resident", OUT), "R3")
    asking.join(WITHIN_S)
    assert found == [{(0, True)}]
    assert running.loaded() == ["small"]
    running.slot(1).proof = proof
    running.apply(planned(built, "resident", DEMAND), "recovered")
    assert running.kinds() == {(1, False)}  # it was not found wrong
    running.close()


def test_whoever_asks_while_a_wrong_model_is_checked_hears_nothing_of_it(tmp_path: Path) -> None:
    running = pressed(crossed(gated(tmp_path, OTHER), gated(tmp_path)))
    running.apply(planned(running.built, "resident", OUT))
    asking = Asking(running, clients=8)
    asking.wait_for_more()
    running.apply(planned(running.built, "resident", DEMAND), "there is room")
    asking.wait_for_more()
    asking.stop()
    assert not any(thread.is_alive() for thread in asking.threads)
    assert asking.wrong == []
    assert set(asking.ends) == {"degraded"}
    assert len(running.failures()) == 1
    running.close()
