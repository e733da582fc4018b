import _thread
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.affinity import get_cpus
from agent.runner import blackbox
from agent.runner.blackbox import BlackBox
from agent.runner.control import StageTarget
from agent.runner.crew import Crew
from agent.runner.jobs import StageError
from agent.runner.worker import Setting
from protocols.bundle import TensorSpec
from protocols.inference.runtime import ModelError

SPEC = TensorSpec(name="x", shape=(1,), dtype="float32")
ALLOWED = get_cpus() or (0,)
WITHIN_S = 10.0

DISMISSED = "cannot use c/s: it is unloaded (memory 5 %)"

Run = list[NDArray[Any]]


class Doubling:
    """A model that doubles a number; `meet` lets it wait inside until others are inside too."""

    inputs = outputs = (SPEC,)

    def __init__(self, meet: threading.Barrier | None = None) -> None:
        self.meet = meet
        self.closed = False

    def run(self, inputs: Sequence[NDArray[Any]]) -> Run:
        (x,) = inputs
        if self.meet is not None and x[0]:
            self.meet.wait(WITHIN_S)
        if x[0] < 0:
            raise ModelError("doubling", "a number below zero", "run")
        return [x * 2]

    def close(self) -> None:
        self.closed = True


def setting(threads: int, layout: str = "replicas", cpus: tuple[int, ...] | None = None) -> Setting:
    return Setting(threads, cpus, 0, threads, layout)  # type: ignore[arg-type]


@pytest.fixture
def box() -> BlackBox:
    return BlackBox(blackbox.create())


def samples(*numbers: float) -> list[Run]:
    return [[np.array([number], np.float32)] for number in numbers]


def numbers(answers: Sequence[Run]) -> list[float]:
    return [float(tensors[0][0]) for tensors in answers]


def test_replicas_answer_one_batch_side_by_side_and_in_order(box: BlackBox) -> None:
    meet = threading.Barrier(3)
    crew = Crew("c/s", "c", lambda _threads: Doubling(meet), setting(3), box)
    crew.start()

    # The barrier opens only if three samples are inside at the same time.
    assert numbers(crew.answer(samples(1, 2, 3))) == [2, 4, 6]
    assert crew.runs == 3
    assert len(crew.recent_ms) == 3
    crew.stop()


def test_replicas_answer_several_requests_side_by_side(box: BlackBox) -> None:
    meet = threading.Barrier(2)
    crew = Crew("c/s", "c", lambda _threads: Doubling(meet), setting(2), box)
    crew.start()
    found: dict[float, list[float]] = {}

    def ask(number: float) -> None:
        found[number] = numbers(crew.answer(samples(number)))

    clients = [threading.Thread(target=ask, args=(number,)) for number in (5.0, 6.0)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(WITHIN_S)
    assert found == {5.0: [10.0], 6.0: [12.0]}
    crew.stop()


def test_every_replica_has_one_thread_and_the_rest_of_the_layouts_all_of_them(
    box: BlackBox,
) -> None:
    asked: list[int] = []

    def opener(threads: int) -> Doubling:
        asked.append(threads)
        return Doubling()

    for layout, opened in (("replicas", [1, 1, 1]), ("intra-op", [3]), ("pipeline", [3])):
        asked.clear()
        crew = Crew("c/s", "c", opener, setting(3, layout), box)
        crew.start()
        assert asked == opened
        crew.stop()


@pytest.mark.skipif(len(ALLOWED) < 2, reason="this machine has one CPU for us")
def test_replicas_sit_on_cpus_of_their_own_and_say_where() -> None:
    two = ALLOWED[:2]
    where: list[tuple[int, ...] | None] = []

    def opener(_threads: int) -> Doubling:
        where.append(get_cpus())
        return Doubling()

    box = BlackBox(blackbox.create())
    crew = Crew("c/s", "c", opener, setting(2, cpus=two), box)
    crew.start()
    assert where == [(two[0],), (two[1],)]
    assert crew.cpus == two
    crew.stop()


@pytest.mark.skipif(len(ALLOWED) < 2, reason="this machine has one CPU for us")
def test_a_pool_thread_that_has_escaped_gets_the_mask_too(box: BlackBox) -> None:
    release = threading.Event()
    escaped: list[int] = []

    class Pool(Doubling):
        """An interpreter whose pool thread has left the mask of the one that made it."""

        def __init__(self) -> None:
            super().__init__()
            ready = threading.Event()

            def work() -> None:
                os.sched_setaffinity(0, ALLOWED)
                escaped.append(threading.get_native_id())
                ready.set()
                release.wait(WITHIN_S)

            # As a pool's threads are: not among those that Python lists.
            _thread.start_new_thread(work, ())
            ready.wait(WITHIN_S)

    crew = Crew("c/s", "c", lambda _threads: Pool(), setting(1, "intra-op", ALLOWED[:1]), box)
    crew.start()
    assert get_cpus(escaped[0]) == ALLOWED[:1]
    assert crew.cpus == ALLOWED[:1]
    release.set()
    crew.stop()


def test_a_replica_that_fails_fails_its_request_and_no_other(box: BlackBox) -> None:
    crew = Crew("c/s", "c", lambda _threads: Doubling(), setting(2), box)
    crew.start()
    with pytest.raises(ModelError, match="below zero"):
        crew.answer(samples(1, -1))
    assert numbers(crew.answer(samples(1, 2))) == [2, 4]
    crew.stop()


class Slow(Doubling):
    """A model that waits inside until it is let go; `entered` says that it is there."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go = threading.Event(), threading.Event()

    def run(self, inputs: Sequence[NDArray[Any]]) -> Run:
        if inputs[0][0]:
            self.entered.set()
            self.go.wait(WITHIN_S)
        return super().run(inputs)


def test_a_dismissed_crew_finishes_what_is_inside_and_turns_the_rest_away(box: BlackBox) -> None:
    model = Slow()
    crew = Crew("c/s", "c", lambda _threads: model, setting(1), box)
    crew.start()
    found: dict[float, list[float] | str] = {}

    def ask(number: float, more: int) -> None:
        try:
            found[number] = numbers(crew.answer(samples(number, *[number] * more)))
        except StageError as error:
            found[number] = str(error)

    first = threading.Thread(target=ask, args=(1.0, 0))
    first.start()
    assert model.entered.wait(WITHIN_S)
    others = [threading.Thread(target=ask, args=(float(n), 0)) for n in range(2, 40)]
    for other in others:
        other.start()
    crew.dismiss("memory 5 %")
    with pytest.raises(StageError, match=r"it is unloaded \(memory 5 %\)"):
        crew.answer(samples(99))
    ending = threading.Thread(target=crew.stop)
    ending.start()
    model.go.set()
    ending.join(WITHIN_S)
    assert model.closed
    crew.turn_away()
    for thread in (first, *others):
        thread.join(WITHIN_S)
    assert found.pop(1.0) == [2.0]
    assert set(found.values()) == {DISMISSED}
    assert len(found) == len(others)
    assert crew.runs == 1


def test_a_batch_ends_with_the_sample_that_is_inside(box: BlackBox) -> None:
    model = Slow()
    crew = Crew("c/s", "c", lambda _threads: model, setting(1), box)
    crew.start()
    found: list[str] = []

    def ask() -> None:
        with pytest.raises(StageError) as caught:
            crew.answer(samples(1, 2, 3))
        found.append(str(caught.value))

    asking = threading.Thread(target=ask)
    asking.start()
    assert model.entered.wait(WITHIN_S)
    crew.dismiss("memory 5 %")
    model.go.set()
    asking.join(WITHIN_S)
    crew.stop()
    assert found == [DISMISSED]
    assert crew.runs == 1


def test_what_a_crew_has_spent_is_known_after_its_end(box: BlackBox) -> None:
    class Busy(Doubling):
        def run(self, inputs: Sequence[NDArray[Any]]) -> Run:
            np.linalg.norm(np.ones((400, 400)))
            return super().run(inputs)

    crew = Crew("c/s", "c", lambda _threads: Busy(), setting(1), box)
    crew.start()
    crew.answer(samples(*[1] * 20))
    before_s = crew.cpu_s()
    crew.stop()
    assert crew.cpu_s() >= before_s > 0


def test_where_one_replica_does_not_load_none_stays(box: BlackBox) -> None:
    made: list[Doubling] = []

    def opener(_threads: int) -> Doubling:
        if made:
            raise ModelError("c/s", "no memory for another one")
        made.append(Doubling())
        return made[0]

    before = threading.active_count()
    crew = Crew("c/s", "c", opener, setting(2), box)
    with pytest.raises(ModelError, match="no memory"):
        crew.start()
    assert made[0].closed
    assert threading.active_count() == before


def test_a_target_s_layout_becomes_the_setting_s() -> None:
    target = StageTarget(name="s", residence="resident", layout="replicas", threads=999)
    found = Setting.of(target)
    assert (found.layout, found.threads) == ("replicas", len(ALLOWED))
    before = Setting.of(target.with_(layout="intra-op"))
    assert found != before
    assert "layout intra-op -> replicas" in found.explained("tuned", before)
