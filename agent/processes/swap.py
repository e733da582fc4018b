"""Which runner serves: starting one, blue/green take-over, draining, death and restart.

Three places: `serving` answers requests, `next` loads and proves itself, `leaving` finishes what it
has begun. Time and messages come in through `heard`, `exited` and `tick`; what happened comes out
as outcomes, which the supervisor acts on.
"""

import logging
import os
from collections.abc import Callable

from agent.errors import ChildError
from agent.inbox import RunnerExited, RunnerSaid
from agent.processes.runners import (
    Child,
    Counted,
    Died,
    Lineup,
    Moved,
    Outcome,
    Runner,
    Serving,
    TurnedDown,
)
from agent.runner.control import (
    Apply,
    AskStats,
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
)

log = logging.getLogger("sluice.swap")

READY_WITHIN_S = 60.0
"""A runner that loads and says nothing for so long hangs."""

HAND_OVER_WITHIN_S = 2.0
"""Requests of new connections wait at most so long for a runner that is slow to leave."""
LEAVE_WITHIN_S = 30.0
ANSWER_WITHIN_S = 60.0
"""A serving runner that says nothing for so long when it is asked for statistics hangs."""
_STEADY_S = 60.0
_AT_ONCE = 3
"""So many restarts in a row do not wait at all: a person's kill, or the kernel's, is no habit."""
_FIRST_DELAY_S = 0.2
_LONGEST_DELAY_S = 30.0


class Swap:
    """Keeps one runner serving; `spawn` starts a process, `clock` is monotonic."""

    def __init__(self, spawn: Callable[[], Child], clock: Callable[[], float]) -> None:
        self._spawn, self._clock = spawn, clock
        self.serving: Runner | None = None
        self.next: Runner | None = None
        self.leaving: Runner | None = None
        self._orphans: list[int] = []
        self._hand_over_by_s = 0.0
        self._failures = 0
        self._not_before_s = 0.0

    def pids(self) -> tuple[int, ...]:
        """Return the process ids of the runners."""
        places = (self.serving, self.next, self.leaving)
        return tuple(runner.child.pid for runner in places if runner is not None)

    def ensure(self, lineup: Lineup, *, roomy: bool) -> None:
        """See to it that a runner for these cascades comes to serve.

        Args:
            lineup: what should be served.
            roomy: memory allows a second runner beside the one that serves; else that one leaves
                first and requests wait in the backlog meanwhile.
        """
        if self.next is not None:
            if self.next.executes(lineup.cascades):
                return
            self._dismiss(self.next)
            self.next = None
        if self.serving is not None:
            if self.serving.executes(lineup.cascades):
                return
            if not roomy:
                self._drain_serving()
        if (self.leaving is None or roomy) and self._clock() >= self._not_before_s:
            self._start(lineup)

    def apply(
        self, plans: tuple[CascadePlan, ...], cause: str, mask: tuple[int, ...] | None = None
    ) -> None:
        """Give the serving runner new targets, or other CPUs, if they are new."""
        runner = self.serving
        if runner is not None and (runner.plans, runner.mask) != (plans, mask):
            runner.plans, runner.mask = plans, mask
            runner.child.send(Apply(plans=plans, cause=cause, mask=mask))

    def ask_stats(self) -> bool:
        """Ask the serving runner for its statistics; false if there is none."""
        runner = self.serving
        if runner is None:
            return False
        if runner.asked_s is None:
            runner.asked_s = self._clock()
        runner.child.send(AskStats())
        return True

    def heard(self, said: RunnerSaid) -> tuple[Outcome, ...]:
        """Take a runner's message."""
        message, runner = said.message, self._of(said.child)
        if isinstance(message, HandOver):
            self._adopt(said.fds)
        return () if runner is None else self._heard(runner, message)

    def _heard(self, runner: Runner, message: FromRunner) -> tuple[Outcome, ...]:
        if runner is self.next:  # many cascades take long: it is silence that shows that it hangs
            runner.deadline_s = self._clock() + READY_WITHIN_S
        match message:
            case Ready():
                return self._is_ready(runner)
            case Drained():
                runner.drained = True
                return self._turn()
            case Rejected():
                runner.rejected.append(message)
                if runner is self.serving:
                    return self._turn_down(runner)
            case StageChanged() if runner is not self.leaving:
                return (Moved(message, runner.cascades),)
            case Stats() if runner is self.serving:
                runner.asked_s = None
                return (Counted(message),)
        return ()

    def exited(self, exit_: RunnerExited) -> tuple[Outcome, ...]:
        """Take note that a runner's process has ended."""
        runner = self._of(exit_.child)
        if runner is None:
            return ()
        died: tuple[Outcome, ...] = ()
        if runner is self.leaving:
            self.leaving = None
            if exit_.code != 0 and not runner.drained and not runner.late:
                died = (_death(runner, exit_),)
        else:
            self._back_off(runner)
            died = (_death(runner, exit_),)
            if runner is self.next:
                self.next = None
            else:
                self.serving = None
        return (*died, *self._turn())

    def tick(self) -> tuple[Outcome, ...]:
        """End what takes too long."""
        now = self._clock()
        runner = self.serving
        if runner is not None and runner.asked_s is not None:
            self._end_if_late(runner, runner.asked_s + ANSWER_WITHIN_S, now)
        if self.next is not None and not self.next.ready:
            self._end_if_late(self.next, self.next.deadline_s, now)
        if self.leaving is not None:
            self._end_if_late(self.leaving, self.leaving.deadline_s, now)
        return self._turn()

    def wake_s(self) -> float:
        """Return when `tick` has something to do that nobody announces; infinity: nothing."""
        now = self._clock()
        times = [self._not_before_s]
        if self.next is not None and self.next.ready:
            times.append(self._hand_over_by_s)
        return min((time for time in times if time > now), default=float("inf"))

    def drain(self) -> bool:
        """Begin to stop for good; false once nothing runs any more."""
        if self.next is not None:
            self._dismiss(self.next)
            self.next = None
        self._drain_serving()
        return self.leaving is not None

    def kill(self) -> None:
        """End every runner at once and close the connections that wait for one."""
        for runner in (self.serving, self.next, self.leaving):
            if runner is not None:
                self._dismiss(runner)
        self.serving = self.next = self.leaving = None
        while self._orphans:
            os.close(self._orphans.pop())

    def _turn(self) -> tuple[Outcome, ...]:
        """Go on with a take-over as far as it can go now."""
        runner = self.next
        if runner is None or not runner.ready:
            return ()
        if self.serving is not None:
            self._drain_serving()
        waiting = self.leaving is not None and not self.leaving.drained
        if waiting and self._clock() < self._hand_over_by_s:
            return ()
        self.serving, self.next = runner, None
        runner.since_s = self._clock()
        for fd in self._orphans:
            _hand_over(runner, fd)
        self._orphans.clear()
        runner.child.send(Take())
        return (Serving(runner.cascades),)

    def _start(self, lineup: Lineup) -> None:
        now = self._clock()
        try:
            child = self._spawn()
        except ChildError as error:
            log.warning("%s", error)
            self._wait_longer()
            return
        assign, ready_by_s = lineup.assign, now + READY_WITHIN_S
        self.next = Runner(child, lineup.cascades, assign.plans, ready_by_s, assign.mask)
        child.send(assign)

    def _drain_serving(self) -> None:
        if self.serving is None:
            return
        if self.leaving is not None:
            self._dismiss(self.leaving)
        now = self._clock()
        self.leaving, self.serving = self.serving, None
        self.leaving.deadline_s = now + LEAVE_WITHIN_S
        self._hand_over_by_s = now + HAND_OVER_WITHIN_S
        self.leaving.child.send(Drain())

    def _is_ready(self, runner: Runner) -> tuple[Outcome, ...]:
        """Let it take over, unless it had to leave out some of its cascades."""
        runner.ready = True
        if not runner.rejected or runner is not self.next:
            return self._turn()
        self._dismiss(runner)
        self.next = None
        return self._turn_down(runner)

    @staticmethod
    def _turn_down(runner: Runner) -> tuple[Outcome, ...]:
        said = {rejected.cascade: rejected.message for rejected in runner.rejected}
        runner.rejected.clear()
        cascades = [c for c in runner.cascades if c.bundle.name in said]
        return tuple(TurnedDown(cascade, said[cascade.bundle.name]) for cascade in cascades)

    def _back_off(self, runner: Runner) -> None:
        """Restart at once after a steady time, else later and later."""
        if runner is self.serving and self._clock() - runner.since_s >= _STEADY_S:
            self._failures = 0
        self._wait_longer()

    def _wait_longer(self) -> None:
        doublings = self._failures - _AT_ONCE
        delay_s = _FIRST_DELAY_S * 2**doublings if doublings >= 0 else 0.0
        self._failures += 1
        self._not_before_s = self._clock() + min(delay_s, _LONGEST_DELAY_S)

    def _adopt(self, fds: tuple[int, ...]) -> None:
        for fd in fds:
            if self.serving is not None:
                _hand_over(self.serving, fd)
            else:
                self._orphans.append(fd)

    def _of(self, child: int) -> Runner | None:
        for runner in (self.serving, self.next, self.leaving):
            if runner is not None and runner.child.id == child:
                return runner
        return None

    @staticmethod
    def _end_if_late(runner: Runner, deadline_s: float, now_s: float) -> None:
        if now_s >= deadline_s and not runner.late:
            runner.late = True
            runner.child.kill()

    @staticmethod
    def _dismiss(runner: Runner) -> None:
        """End a runner whose fate is of no interest any more."""
        runner.child.kill()


def _death(runner: Runner, exit_: RunnerExited) -> Died:
    suspects = tuple(c for c in runner.cascades if c.bundle.name in exit_.suspects)
    return Died(exit_.code, runner.ready, runner.late, suspects, runner.cascades)


def _hand_over(runner: Runner, fd: int) -> None:
    runner.child.send(HandOver(), (fd,))
    os.close(fd)
