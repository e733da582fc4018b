"""Threads and CPUs of a stage that serves: changed beside it, kept to, and told."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agent.affinity import get_cpus
from agent.runner import blackbox
from agent.runner.blackbox import BlackBox
from agent.runner.control import Apply, CascadePlan, Ready
from agent.runner.room import Room
from agent.runner.stages import StageSlot
from agent.runner.worker import Setting
from protocols.inference.runtime import Model
from tests import models
from tests.agent.runner.cascades import Built, Piece, build
from tests.agent.runner.harness import RunnerUnderTest, running
from tests.agent.runner.samples import samples

ALLOWED = get_cpus() or (0,)
two_cpus = pytest.mark.skipif(len(ALLOWED) < 2, reason="this machine has one CPU for us")
X = samples(4, 64)
MODEL = models.classifier(models.random_layers(64, 256, 10, seed=4))
WITHIN_S = 10.0


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return build(tmp_path, [Piece("only", MODEL)], X)


def setting(threads: int) -> Setting:
    return Setting(threads, None, 0, threads)


class Held(StageSlot):
    """A stage whose next load stops half-way, until it is let go on."""

    def hold(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.holds = True

    def _open(self, threads: int) -> Model:
        if getattr(self, "holds", False):
            self.begun.set()
            assert self.go_on.wait(WITHIN_S)
        return super()._open(threads)


@two_cpus
def test_no_request_waits_for_the_build_of_another_number_of_threads(built: Built) -> None:
    variant = built.bundle.stages[0].variants[0]
    path = built.folder / variant.artifact.sha256
    slot = Held("digits", "only", variant, path, BlackBox(blackbox.create()), Room(Path("/")))
    slot.load(setting(1), "test", 0.0)

    def ask() -> tuple[int, np.ndarray]:
        crew = slot.enter()
        assert crew is not None
        try:
            return crew.setting.threads, crew.answer([[X[0][None]]])[0][0]
        finally:
            slot.leave(crew)

    wanted = built.outputs["only"][0][0]
    for before, after in ((1, 2), (2, 1)):
        slot.hold()
        change = threading.Thread(target=slot.retune, args=(setting(after), "test", 0.0))
        change.start()
        assert slot.begun.wait(WITHIN_S)
        for _ in range(20):  # answered, each, while the build has not even begun to end
            threads, scores = ask()
            assert threads == before
            assert np.allclose(scores, wanted, atol=1e-5)
        slot.go_on.set()
        change.join(WITHIN_S)
        assert ask()[0] == after
    slot.holds = False
    slot.unload("over")


def told(runner: RunnerUnderTest) -> tuple[int | None, tuple[int, ...] | None]:
    (stage,) = runner.stats().stages
    return stage.threads, stage.cpus


def masks(pid: int) -> set[tuple[int, ...] | None]:
    """Where each thread of a process may run."""
    return {get_cpus(int(task.name)) for task in Path(f"/proc/{pid}/task").iterdir()} - {None}


def asking(runner: RunnerUnderTest, over: threading.Event, statuses: list[int]) -> threading.Thread:
    client = runner.client()

    def ask() -> None:
        while not over.is_set():
            statuses.append(client.infer("digits", X[len(statuses) % len(X)])[0])

    return threading.Thread(target=ask)


def serve(runner: RunnerUnderTest, built: Built, plan: CascadePlan) -> None:
    runner.assign((built.assignment(), plan))
    runner.expect(Ready)
    runner.take()


def while_asked(
    runner: RunnerUnderTest, change: Callable[[], None], statuses: list[int]
) -> list[int]:
    over = threading.Event()
    client = asking(runner, over, statuses)
    client.start()
    try:
        change()
    finally:
        over.set()
        client.join(WITHIN_S)
    return statuses


@two_cpus
def test_no_request_fails_while_a_runner_changes_its_threads(built: Built) -> None:
    with running() as runner:
        serve(runner, built, built.plan(threads=1))

        def change() -> None:
            for threads in (2, 1, 2, 1):
                runner.apply(built.plan(threads=threads))
                event = runner.change("threads", "only")
                assert event.threads == threads
                assert event.cpus == ALLOWED

        statuses = while_asked(runner, change, [])
        assert statuses
        assert set(statuses) == {200}


@two_cpus
def test_a_runner_keeps_to_another_mask_with_every_thread_and_returns(built: Built) -> None:
    one, other = ALLOWED[:2]
    pinned = built.plan(threads=1)
    (target,) = pinned.stages
    pinned = pinned.with_(stages=(target.with_(cpus=(other,)),))
    with running() as runner:
        serve(runner, built, built.plan(threads=2))
        assert told(runner) == (2, ALLOWED)

        def change() -> None:
            plan = built.plan(threads=2)  # the same one all the time: the runner itself cuts it
            runner.say(Apply(plans=(plan,), cause="taskset", mask=(one,)))
            assert runner.change("threads", "only").threads == 1
            assert told(runner) == (1, (one,))
            assert masks(runner.process.pid) == {(one,)}

            runner.say(Apply(plans=(pinned,), cause="taskset", mask=ALLOWED))
            assert runner.change("threads", "only").cpus == (other,)
            assert masks(runner.process.pid) == {ALLOWED, (other,)}

            runner.say(Apply(plans=(pinned,), cause="it is gone", mask=(one,)))
            assert runner.change("threads", "only").cpus == (one,)
            assert masks(runner.process.pid) == {(one,)}

            runner.say(Apply(plans=(plan,), cause="taskset", mask=ALLOWED))
            assert runner.change("threads", "only").threads == 2
            assert masks(runner.process.pid) == {ALLOWED}

        statuses = while_asked(runner, change, [])
        assert statuses
        assert set(statuses) == {200}


def test_a_mask_of_which_nothing_is_there_changes_nothing(built: Built) -> None:
    with running() as runner:
        serve(runner, built, built.plan())
        runner.say(Apply(plans=(built.plan(),), cause="test", mask=(4000,)))
        assert runner.client().infer("digits", X[0])[0] == 200
        assert masks(runner.process.pid) == {ALLOWED}


def test_the_mask_is_set_before_the_interpreter_is_built(built: Built) -> None:
    cpu = ALLOWED[-1]
    seen: list[tuple[int, ...] | None] = []

    class Watched(StageSlot):
        def _open(self, threads: int) -> Model:
            seen.append(get_cpus())
            return super()._open(threads)

    variant = built.bundle.stages[0].variants[0]
    path = built.folder / variant.artifact.sha256
    slot = Watched("digits", "only", variant, path, BlackBox(blackbox.create()), Room(Path("/")))
    before = os.sched_getaffinity(0)
    slot.load(Setting(1, (cpu,), 0, 1), "test", 0.0)
    assert seen == [(cpu,)]
    assert slot.stats().cpus == (cpu,)
    assert os.sched_getaffinity(0) == before
    slot.unload("over")
