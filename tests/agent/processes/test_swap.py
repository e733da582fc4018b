"""Blue/green and restarts, with scripted runners behind the real interface."""

import os
import signal
from dataclasses import dataclass, field

import pytest

from agent.errors import ChildError
from agent.inbox import RunnerExited, RunnerSaid
from agent.processes.runners import Counted, Died, Lineup, Moved, Outcome, Serving, TurnedDown
from agent.processes.swap import (
    ANSWER_WITHIN_S,
    HAND_OVER_WITHIN_S,
    LEAVE_WITHIN_S,
    READY_WITHIN_S,
    Swap,
)
from agent.runner.control import (
    Apply,
    AskStats,
    Assign,
    CascadePlan,
    Drain,
    Drained,
    FromRunner,
    HandOver,
    Ready,
    Rejected,
    StageChanged,
    Stats,
    Take,
    ToRunner,
)
from protocols.desired import DesiredCascade
from tests.agent.bundles import make_bundle, wanted

ONE, TWO, OTHER = (
    wanted(make_bundle(version=1)),
    wanted(make_bundle(version=2)),
    wanted(make_bundle(name="other")),
)
MOVED = StageChanged(
    change="loaded", cascade="digits", stage="large", variant="fp32", cause="assigned", rss_mib=1
)


@dataclass
class Scripted:
    """A runner that remembers what it was told."""

    id: int
    told: list[ToRunner] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    killed: bool = False

    @property
    def pid(self) -> int:
        return 1000 + self.id

    def send(self, message: ToRunner, fds: tuple[int, ...] = ()) -> None:
        self.told.append(message)
        self.fds += [os.dup(fd) for fd in fds]

    def kill(self) -> None:
        self.killed = True

    def words(self) -> list[str]:
        return [message.type for message in self.told]


@dataclass
class Stage:
    """A swap, its runners and its clock."""

    runners: list[Scripted] = field(default_factory=list)
    now_s: float = 100.0

    def __post_init__(self) -> None:
        self.swap = Swap(self._spawn, lambda: self.now_s)
        self.failures = 0

    def _spawn(self) -> Scripted:
        if self.failures:
            self.failures -= 1
            raise ChildError("cannot start a runner: no memory")
        self.runners.append(Scripted(len(self.runners)))
        return self.runners[-1]

    def ensure(self, *cascades: DesiredCascade, roomy: bool = True) -> None:
        self.swap.ensure(Lineup(cascades, Assign(assignments=(), plans=())), roomy=roomy)

    def says(self, number: int, message: FromRunner, *fds: int) -> tuple[Outcome, ...]:
        return self.swap.heard(RunnerSaid(number, message, fds))

    def exits(self, number: int, code: int, *suspects: str) -> tuple[Outcome, ...]:
        return self.swap.exited(RunnerExited(number, code, suspects))

    def serve(self, *cascades: DesiredCascade) -> Scripted:
        """Bring a runner to serve."""
        self.ensure(*cascades)
        number = len(self.runners) - 1
        assert self.says(number, Ready()) == (Serving(cascades),)
        return self.runners[number]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_the_first_runner_takes_as_soon_as_it_is_ready(stage: Stage) -> None:
    runner = stage.serve(ONE)
    assert runner.words() == ["assign", "take"]
    stage.ensure(ONE)
    assert len(stage.runners) == 1


def test_the_old_one_leaves_before_the_new_one_takes(stage: Stage) -> None:
    old = stage.serve(ONE)
    stage.ensure(TWO)
    stage.ensure(TWO)
    new = stage.runners[1]
    assert new.words() == ["assign"]
    assert old.words() == ["assign", "take"]
    assert stage.says(1, Ready()) == ()
    assert old.words()[-1] == "drain"
    read, write = os.pipe()
    assert stage.says(0, HandOver(), read) == ()
    assert new.words() == ["assign"]
    assert stage.says(0, Drained()) == (Serving((TWO,)),)
    assert new.words() == ["assign", "hand-over", "take"]
    assert os.fstat(new.fds[0]).st_ino == os.fstat(write).st_ino
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(read)  # the supervisor keeps no copy
    late, _ = os.pipe(), stage.exits(0, 0)
    assert stage.says(0, HandOver(), late[0]) == ()
    assert new.words()[-1] == "hand-over"
    for fd in (*new.fds, write, late[1]):
        os.close(fd)


def test_requests_do_not_wait_for_one_that_is_slow_to_leave(stage: Stage) -> None:
    old = stage.serve(ONE)
    stage.ensure(TWO)
    stage.says(1, Ready())
    assert stage.swap.tick() == ()
    stage.now_s += HAND_OVER_WITHIN_S
    assert stage.swap.tick() == (Serving((TWO,)),)
    assert not old.killed
    stage.now_s += LEAVE_WITHIN_S
    stage.swap.tick()
    assert old.killed
    assert stage.exits(0, -signal.SIGKILL) == ()


def test_without_room_the_old_one_leaves_first(stage: Stage) -> None:
    old = stage.serve(ONE)
    stage.ensure(TWO, roomy=False)
    assert old.words()[-1] == "drain"
    assert len(stage.runners) == 1
    stage.says(0, Drained())
    stage.ensure(TWO, roomy=False)
    assert len(stage.runners) == 1
    stage.exits(0, 0)
    stage.ensure(TWO, roomy=False)
    assert stage.says(1, Ready()) == (Serving((TWO,)),)


def test_a_rejected_cascade_ends_the_attempt_and_the_old_one_serves_on(stage: Stage) -> None:
    stage.serve(ONE)
    stage.ensure(TWO, OTHER)
    assert stage.says(1, Rejected(cascade="digits", message="no")) == ()
    assert stage.says(1, Ready()) == (TurnedDown(TWO, "no"),)
    assert stage.runners[1].killed
    assert stage.runners[0].words() == ["assign", "take"]
    assert stage.exits(1, -signal.SIGKILL) == ()
    stage.ensure(ONE, OTHER)
    stage.says(2, Ready())
    assert stage.says(0, Drained()) == (Serving((ONE, OTHER)),)


def test_another_wish_replaces_the_one_that_loads(stage: Stage) -> None:
    stage.serve(ONE)
    stage.ensure(TWO)
    stage.ensure(OTHER)
    assert stage.runners[1].killed
    assert stage.says(1, Ready()) == ()
    stage.ensure(ONE)
    assert stage.runners[2].killed
    assert stage.swap.next is None


def test_a_death_is_told_with_its_suspects_and_the_restart_is_immediate(stage: Stage) -> None:
    stage.serve(ONE, OTHER)
    (died,) = stage.exits(0, -signal.SIGSEGV, "other", "stranger")
    assert died == Died(
        -signal.SIGSEGV, ready=True, late=False, suspects=(OTHER,), cascades=(ONE, OTHER)
    )
    stage.ensure(ONE, OTHER)
    assert len(stage.runners) == 2


def test_a_runner_that_cannot_be_started_is_tried_again_later(stage: Stage) -> None:
    stage.failures = 5
    for _ in range(100):
        stage.ensure(ONE)
    assert stage.failures == 1
    wake_s = stage.swap.wake_s()
    assert 0 < wake_s - stage.now_s < 1
    stage.now_s = wake_s
    stage.ensure(ONE)
    stage.now_s = stage.swap.wake_s()
    stage.ensure(ONE)
    assert len(stage.runners) == 1


def test_a_runner_may_load_for_long_but_not_be_silent(stage: Stage) -> None:
    stage.ensure(ONE, OTHER)
    for _ in range(3):
        stage.now_s += READY_WITHIN_S - 1
        stage.swap.tick()
        assert not stage.runners[0].killed
        assert stage.says(0, MOVED) == (Moved(MOVED, (ONE, OTHER)),)
    stage.now_s += READY_WITHIN_S
    stage.swap.tick()
    assert stage.runners[0].killed


def test_a_stage_of_the_runner_that_loads_is_not_taken_for_one_that_serves(stage: Stage) -> None:
    stage.serve(ONE)
    stage.ensure(TWO)
    assert stage.says(1, MOVED) == (Moved(MOVED, (TWO,)),)
    assert stage.says(0, MOVED) == (Moved(MOVED, (ONE,)),)


def test_restarts_come_later_and_later_until_one_is_steady(stage: Stage) -> None:
    waits = []
    for _ in range(14):
        begun = stage.now_s
        while not stage.runners or stage.swap.next is None:
            stage.ensure(ONE)
            stage.now_s += 0.1
        waits.append(stage.now_s - begun)
        number = len(stage.runners) - 1
        stage.says(number, Ready())
        stage.exits(number, -signal.SIGKILL)
    assert waits == sorted(waits)
    assert max(waits[:4]) < 0.2  # the first start, and three restarts at once
    assert waits[4] > 0.1
    assert 29 < waits[-1] < 31
    stage.now_s += 30
    stage.serve(ONE)
    stage.now_s += 61
    stage.exits(len(stage.runners) - 1, -signal.SIGKILL)
    stage.ensure(ONE)
    assert stage.swap.next is not None


def test_the_one_that_loads_takes_the_place_of_one_that_died(stage: Stage) -> None:
    stage.serve(ONE)
    stage.ensure(TWO)
    stage.exits(0, -signal.SIGKILL)
    stage.ensure(TWO)
    assert not stage.runners[1].killed
    assert stage.says(1, Ready()) == (Serving((TWO,)),)


def test_one_that_does_not_get_ready_is_ended(stage: Stage) -> None:
    stage.ensure(ONE)
    stage.now_s += READY_WITHIN_S
    stage.swap.tick()
    assert stage.runners[0].killed
    (died,) = stage.exits(0, -signal.SIGKILL)
    assert isinstance(died, Died)
    assert died.late


def test_one_that_hangs_is_ended(stage: Stage) -> None:
    runner = stage.serve(ONE)
    assert stage.swap.ask_stats()
    stage.now_s += ANSWER_WITHIN_S - 1
    stats = Stats(cascades=(), rss_mib=1, cpu_s=1)
    assert stage.says(0, stats) == (Counted(stats),)
    stage.swap.tick()
    assert not runner.killed
    stage.swap.ask_stats()
    stage.now_s += ANSWER_WITHIN_S
    stage.swap.tick()
    assert runner.killed
    assert AskStats() in runner.told


def test_plans_are_sent_once(stage: Stage) -> None:
    runner = stage.serve(ONE)
    plans = (CascadePlan(name="digits", stages=()),)
    stage.swap.apply(plans, "because")
    stage.swap.apply(plans, "because")
    assert [m for m in runner.told if isinstance(m, Apply)] == [Apply(plans=plans, cause="because")]


def test_another_mask_is_told_though_the_plans_are_the_same(stage: Stage) -> None:
    runner = stage.serve(ONE)
    for mask in (None, (0, 1), (0, 1), (0,), (0,), (0, 1)):
        stage.swap.apply((), "taskset", mask)
    told = [message.mask for message in runner.told if isinstance(message, Apply)]
    assert told == [(0, 1), (0,), (0, 1)]


def test_stopping_drains_once_and_waits_for_the_exit(stage: Stage) -> None:
    assert not stage.swap.drain()
    runner = stage.serve(ONE)
    stage.ensure(TWO)
    assert stage.swap.drain()
    assert stage.swap.drain()
    assert runner.words().count("drain") == 1
    assert Drain() in runner.told
    assert Take() in runner.told
    assert stage.runners[1].killed
    read, write = os.pipe()
    stage.says(0, HandOver(), read)
    stage.exits(0, 0)
    assert not stage.swap.drain()
    stage.swap.kill()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(read)
    os.close(write)
    assert stage.swap.pids() == ()
    assert not stage.swap.ask_stats()
