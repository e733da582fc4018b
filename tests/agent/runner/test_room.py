"""Memory pressure inside a runner: loads that are refused, unloads that wait for nobody."""

import contextlib
import gc
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.runner import blackbox
from agent.runner.admission import RefusedError
from agent.runner.blackbox import BlackBox
from agent.runner.channel import Channel
from agent.runner.control import (
    FROM_RUNNER,
    Apply,
    Assign,
    CascadePlan,
    Ready,
    Residence,
    StageChanged,
)
from agent.runner.jobs import Job, StageError
from agent.runner.process import Runner
from agent.runner.room import Room
from agent.runner.stages import StageSlot
from agent.runner.walk import Answer
from protocols.inference.tensors import from_sample
from tests.agent.picture import Picture
from tests.agent.runner.cascades import Built, Piece, build
from tests.agent.runner.harness import wait_for
from tests.agent.runner.test_serving import LARGE, OUT, SMALL, Running, X

WITHIN_S = 20.0
DEMAND: Residence = "on_demand"
FLOOR_PERCENT = 8.0


class Pressed(Running):
    """A cascade on a machine of 1 GiB, none of whose samples its first stage is sure of."""

    def memory(self, available_mib: int) -> None:
        self.picture.memory(available_mib)

    def slot(self, at: int) -> StageSlot:
        slot = self.cascade._residency.slots[at]
        assert slot is not None
        return slot

    def failures(self) -> list[str]:
        return [event.cause for event in self.events if event.change == "failed"]

    def kinds(self) -> set[tuple[int, bool]]:
        """Ask once; return the stages that answered and whether degraded."""
        return {(answer.stage, answer.degraded) for answer in self.cascade.answer(X)}


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return build(tmp_path, [Piece("small", SMALL, "max_prob", 2.0), Piece("large", LARGE)], X)


@pytest.fixture
def pressed(built: Built) -> Iterator[Pressed]:
    running = Pressed(built, planned(built, "resident", DEMAND))
    yield running
    running.close()


def planned(
    built: Built, *residences: Residence, threads: int = 1, nice: int = 0, alone: bool = False
) -> CascadePlan:
    """Return a plan; `alone`: one stage at a time."""
    return built.plan(
        *residences,
        threads=threads,
        nice=nice,
        one_at_a_time=alone,
        memory_floor_percent=FLOOR_PERCENT,
    )


@contextlib.contextmanager
def running_here(built: Built) -> Iterator[tuple[Runner, list[tuple[str, str, str]]]]:
    """Start a runner in this process; yield it and what becomes of its stages, with the cause."""
    ours, theirs = (Channel(end) for end in socket.socketpair())
    fd = blackbox.create()
    runner = Runner(theirs, [], BlackBox(fd), Room(Picture(built.folder / "machine").root))
    os.close(fd)
    heard: list[tuple[str, str, str]] = []
    ready = threading.Event()

    def hear() -> None:
        while (received := ours.receive()) is not None:
            message = FROM_RUNNER.validate_json(received[0])
            if isinstance(message, StageChanged):
                heard.append((message.change, message.stage, message.cause))
            elif isinstance(message, Ready):
                ready.set()

    hearing = threading.Thread(target=hear, daemon=True)
    serving = threading.Thread(target=runner.run, daemon=True)
    for thread in (hearing, serving):
        thread.start()
    ours.send(Assign(assignments=(built.assignment(),), plans=(planned(built),)))
    assert ready.wait(WITHIN_S)
    gc.unfreeze()
    try:
        yield runner, heard
        runner._obey(Apply(plans=(planned(built, OUT, OUT),), cause="over"), [])
        wait_for("nothing is loaded", lambda: ("unloaded", "small", "over") in heard)
    finally:
        ours.close()
        for thread in (hearing, serving):
            thread.join(WITHIN_S)
        theirs.close()


# --- loads


def test_a_load_on_demand_that_leaves_too_little_is_refused_and_tried_again(
    pressed: Pressed,
) -> None:
    pressed.events.clear()
    pressed.memory(81)  # 7.9 % of 1 GiB
    assert pressed.kinds() == {(0, True)}
    assert pressed.kinds() == {(0, True)}
    (cause,) = pressed.failures()  # for a while it is not tried at all
    assert cause.startswith("cannot load digits/large: it needs 0 MiB, which would leave less")
    assert "8 % of the memory" in cause
    assert pressed.loaded() == ["small"]
    pressed.memory(800)
    pressed.slot(1).berth.due_s = None
    assert pressed.kinds() == {(1, False)}
    assert pressed.changes()[-1] == ("loaded", "large")


def test_where_no_answer_is_possible_without_it_the_request_is_refused(built: Built) -> None:
    running = Pressed(built, planned(built, DEMAND, DEMAND, alone=True))
    running.memory(40)
    with pytest.raises(RefusedError, match=r"cannot load digits/\w+: it needs"):
        running.cascade.answer(X[:1])
    assert running.loaded() == []
    running.close()


def test_nobody_makes_room_in_vain(built: Built) -> None:
    running = Pressed(built, planned(built, DEMAND, DEMAND, alone=True))
    assert running.kinds() == {(1, False)}
    running.slot(0).berth._worker_mib, running.slot(1).berth.loaded_mib = 200.0, 100.0
    running.memory(150)
    assert running.kinds() == {(1, False)}  # of 250 MiB the small one would leave 50: 4.9 %
    assert running.loaded() == ["large"]
    assert running.failures()[0].startswith("cannot load digits/small: it needs 200 MiB")
    running.slot(0).berth.due_s = None
    running.slot(1).berth.loaded_mib = 140.0
    running.memory(285)  # enough, and the large one leaves for it before it is loaded
    running.cascade.answer(X)
    assert ("loaded", "small") in running.changes()[-3:]
    running.close()


def test_a_resident_stage_comes_when_there_is_room_without_a_request(pressed: Pressed) -> None:
    pressed.memory(40)
    pressed.apply(planned(pressed.built, "resident", "resident"), "recovered")
    assert pressed.loaded() == ["small"]
    assert len(pressed.failures()) == 1
    due_s = pressed.cascade.tidy(time.monotonic())
    assert due_s is not None
    again_s = pressed.cascade.tidy(due_s)
    assert again_s is not None
    assert again_s > due_s
    assert len(pressed.failures()) == 1  # that there is still no room has been said
    pressed.memory(800)
    assert pressed.cascade.tidy(again_s) is None
    assert pressed.loaded() == ["small", "large"]


def test_two_crews_need_room_for_two(pressed: Pressed) -> None:
    pressed.memory(40)
    pressed.apply(planned(pressed.built, "resident", DEMAND, nice=5), "C1")
    assert [event.change for event in pressed.events] == ["loaded", "failed"]
    assert pressed.kinds() == {(0, True)}
    pressed.memory(800)
    due_s = pressed.slot(0).berth.due_s
    assert due_s is not None
    pressed.cascade.tidy(due_s)
    assert pressed.events[-1].cause == "C1; nice 0 -> 5"
    assert pressed.slot(0).berth.due_s is None


def retuning(built: Built, *, declared_mib: float = 100.0) -> Pressed:
    """Return a cascade whose second stage, on demand, is loaded and of some size."""
    running = Pressed(built, planned(built, "resident", DEMAND))
    assert running.kinds() == {(1, False)}
    berth = running.slot(1).berth
    berth.loaded_mib = berth._worker_mib = declared_mib
    running.events.clear()
    return running


def test_without_room_for_two_crews_a_stage_on_demand_leaves_and_comes_back(built: Built) -> None:
    running = retuning(built)
    running.memory(150)  # a second crew would leave 50 MiB: 4.9 %
    running.apply(planned(built, "resident", DEMAND, nice=5), "C1")
    assert running.changes() == [("threads", "small"), ("unloaded", "large")]
    assert running.events[-1].cause == "comes back with 1 threads; C1"
    running.memory(250)  # its own are back
    assert running.kinds() == {(1, False)}  # at once: it counts as no failure
    crew = running.slot(1)._crew
    assert crew is not None
    assert crew.setting.nice == 5
    running.close()


@pytest.mark.parametrize("idle_unload_s", [None, 60.0])
def test_what_could_not_come_back_stays_and_is_retuned_once_there_is_room(
    built: Built, idle_unload_s: float | None
) -> None:
    running = retuning(built)
    running.memory(60)  # its 100 MiB given back and taken again would leave 60: 5.9 %
    running.slot(0).berth.loaded_mib = running.slot(0).berth._worker_mib = 0.0
    wanted = planned(built, "resident", DEMAND).with_(idle_unload_s=idle_unload_s)
    large = wanted.stages[1].with_(nice=5)
    running.apply(wanted.with_(stages=(wanted.stages[0], large)), "C1")
    assert running.changes() == [("failed", "large")]
    assert running.loaded() == ["small", "large"]
    due_s = running.slot(1).berth.due_s
    assert due_s is not None
    assert running.cascade.tidy(due_s - 1.0) == due_s
    again_s = running.cascade.tidy(due_s)
    assert again_s is not None
    assert due_s < again_s < due_s + 60.0
    assert len(running.events) == 1  # that there is still no room has been said
    running.memory(800)
    running.cascade.tidy(again_s)
    assert running.changes()[1:] == [("threads", "large")]
    assert running.events[-1].cause == "C1; nice 0 -> 5"
    assert running.kinds() == {(1, False)}
    running.close()


def test_a_cascade_that_starts_without_room_serves_when_there_is_some(built: Built) -> None:
    running = Pressed(built, planned(built).with_(memory_floor_percent=99.0))
    assert running.loaded() == []
    assert [event.stage for event in running.events] == ["small", "large"]
    assert running.cascade.unready() is not None
    with pytest.raises(RefusedError):
        running.cascade.answer(X[:1])
    running.apply(planned(built), "there is room")
    assert running.kinds() == {(1, False)}
    running.close()


# --- unloads


def test_a_plan_that_takes_a_stage_away_ends_a_change_of_threads(pressed: Pressed) -> None:
    """A request is in the old crew, which lets requests out: a new plan waits for neither."""
    pressed.kinds()  # loads the large one
    moving = threading.Thread(
        target=pressed.apply, args=(planned(pressed.built, "resident", DEMAND, nice=1),)
    )
    with pressed.cascade._residency.using(1) as crew:
        moving.start()
        wait_for("it lets requests out", lambda: pressed.slot(1)._leaving is crew)
        assert crew.answer([[X[0].reshape(1, 64)]])  # until it has to go, it serves
        pressed.cascade.set_plan(planned(pressed.built, "resident", OUT), "R3")
        with pytest.raises(StageError, match=r"it is unloaded \(R3\)"):
            crew.answer([[X[0].reshape(1, 64)]])
    moving.join(WITHIN_S)
    pressed.cascade.shrink()
    assert pressed.loaded() == ["small"]
    assert pressed.kinds() == {(0, True)}


def test_a_crew_that_was_dismissed_before_it_is_replaced_keeps_nobody(pressed: Pressed) -> None:
    pressed.kinds()
    slot, waiting = pressed.slot(1), [Job(()), Job(())]
    with pressed.cascade._residency.using(1) as crew:
        slot.dismiss("R3")
        for job in waiting:
            crew._jobs._queue.put(job)  # as if both had come in just before: one stays there
        giving = threading.Thread(target=slot.give_way, args=("makes room",))
        giving.start()
        assert all(job.done.acquire(timeout=WITHIN_S) for job in waiting)
        assert giving.is_alive()
    giving.join(WITHIN_S)
    assert not giving.is_alive()
    assert pressed.loaded() == ["small"]


def test_what_has_to_go_waits_for_no_request_of_a_stage_that_stays(built: Built) -> None:
    """The mover lets a request out of one stage when a plan takes another one away."""
    with running_here(built) as (runner, heard):
        residency = runner._cascades["digits"]._residency
        small, large = residency.slots
        assert small is not None
        assert large is not None
        with residency.using(0) as crew:
            runner._obey(Apply(plans=(planned(built, nice=1),), cause="C1"), [])
            wait_for("it lets requests out", lambda: small._leaving is crew)
            runner._obey(Apply(plans=(planned(built, "resident", OUT),), cause="R3"), [])
            wait_for("the bytes are back", lambda: ("unloaded", "large", "R3") in heard)
            assert small._leaving is crew  # the mover still waits
            assert not large.loaded
            assert crew.answer([[from_sample(X[0], built.bundle.input, *small.variant.inputs)]])
        wait_for("both are done", lambda: small.loaded and small._leaving is None)


def test_who_was_taken_away_and_given_back_at_once_is_loaded_anew(pressed: Pressed) -> None:
    both = planned(pressed.built, "resident", "resident")
    pressed.apply(both)
    pressed.cascade.set_plan(planned(pressed.built, "resident", OUT), "R3")
    pressed.cascade.set_plan(both, "recovered")  # before anything has been moved
    assert pressed.kinds() == {(0, True)}
    pressed.cascade.shrink()
    pressed.cascade.grow()
    assert pressed.kinds() == {(1, False)}


class Asking:
    """Threads that ask for a few samples at once, again and again, and check what comes."""

    def __init__(self, running: Running, clients: int) -> None:
        self._running, self._stop = running, threading.Event()
        self.ends: list[str] = []
        self.wrong: list[str] = []
        self.threads = [
            threading.Thread(target=self._ask, args=(seed,), daemon=True) for seed in range(clients)
        ]
        for thread in self.threads:
            thread.start()

    def wait_for_more(self) -> None:
        """Wait until every client has probably ended a request."""
        want = len(self.ends) + len(self.threads)
        wait_for("more ends", lambda: len(self.ends) >= want)

    def stop(self) -> None:
        self._stop.set()
        for thread in self.threads:
            thread.join(WITHIN_S)

    def _ask(self, seed: int) -> None:
        choose = np.random.default_rng(seed)
        while not self._stop.is_set():
            numbers = choose.permutation(len(X))[: choose.integers(1, 5)].tolist()
            try:
                answers = self._running.cascade.answer(X[numbers])
            except RefusedError:
                self.ends.append("refused")
                time.sleep(0.002)
                continue
            for number, answer in zip(numbers, answers, strict=True):
                self._judge(number, answer)

    def _judge(self, number: int, answer: Answer) -> None:
        stage = ("small", "large")[answer.stage]
        self.ends.append("degraded" if answer.degraded else "whole")
        expected = self._running.built.chances(stage, number)
        if answer.degraded != (stage == "small") or not np.array_equal(answer.values, expected):
            self.wrong.append(f"{number} by {stage}, degraded: {answer.degraded}")


def test_whatever_is_taken_away_every_request_ends_and_no_answer_is_wrong(built: Built) -> None:
    """Many ask while plans of every kind come: nobody waits for ever, nothing is mixed up."""
    running = Pressed(built, planned(built))
    plans = (
        planned(built),
        planned(built, "resident", OUT),
        planned(built, "resident", DEMAND, nice=1),
        planned(built, OUT, OUT),
        planned(built, DEMAND, DEMAND, alone=True),
        planned(built, nice=2, threads=2),
    )
    asking, shuffled = Asking(running, clients=8), np.random.default_rng(7)
    for number in range(3 * len(plans)):
        if number % len(plans) == 0:
            order = shuffled.permutation(len(plans))
        running.cascade.set_plan(plans[order[number % len(plans)]], "test")
        freeing = threading.Thread(target=running.cascade.free)
        freeing.start()
        if number % 3:  # as the mover does, who may be behind
            running.cascade.shrink()
            running.cascade.grow()
        freeing.join(WITHIN_S)
        assert not freeing.is_alive()
        asking.wait_for_more()
    running.apply(planned(built))
    wait_for("whole answers at the end", lambda: asking.ends[-8:].count("whole") == 8)
    asking.stop()
    assert not any(thread.is_alive() for thread in asking.threads)
    assert asking.wrong == []
    assert {"whole", "degraded", "refused"} <= set(asking.ends)
    assert running.cascade.stats().failed == 0
    running.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("digits/")]
