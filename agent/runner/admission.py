"""Who may come in now: nobody while a cascade is paused, so many at once, so far apart."""

import contextlib
import threading
import time
from collections.abc import Iterator

from agent.runner.control import CascadePlan
from agent.runner.pacing import Spacing
from protocols.errors import SluiceError

MAX_INSIDE = 128
MAX_SPACED = 64
MAX_SPACED_S = 10.0


class RefusedError(SluiceError):
    """No answer now, on purpose: paused, unloaded or full. Ask again later."""

    def __init__(self, cascade: str, why: str, retry_after_s: int) -> None:
        super().__init__(f"cannot infer: {cascade}: {why}")
        self.retry_after_s = retry_after_s


class Admission:
    """The door of one cascade."""

    def __init__(self, plan: CascadePlan) -> None:
        self._plan = plan
        self._changed = threading.Condition()
        self._spacing = Spacing()
        self._inside = self._waiting = 0
        self._hurried = False

    def set_plan(self, plan: CascadePlan) -> None:
        """Admit by another plan from now on. Who waits goes at once if nothing is spaced then."""
        with self._changed:
            if plan.request_interval_s < self._plan.request_interval_s:
                self._spacing.ease(plan.request_interval_s, time.monotonic(), self._waiting)
            self._plan = plan
            self._changed.notify_all()

    def hurry(self) -> None:
        """Let spaced requests go at once: the runner drains."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Wait for this request's turn, and count it among those inside.

        Raises:
            RefusedError: paused, or too many are inside or wait.
        """
        with self._changed:
            self._refuse_if_paused()
            if self._inside >= MAX_INSIDE:
                raise self._refusal(f"{MAX_INSIDE} requests are under way")
            self._inside += 1
        try:
            if self._plan.request_interval_s:
                self._take_turn()
            yield
        finally:
            with self._changed:
                self._inside -= 1

    def _take_turn(self) -> None:
        with self._changed:
            interval_s = self._plan.request_interval_s
            if self._at_once():
                return
            wait_s = None
            if self._waiting < MAX_SPACED:
                wait_s = self._spacing.wait_s(interval_s, time.monotonic(), MAX_SPACED_S)
            if wait_s is None:
                raise self._refusal(f"requests are {interval_s:g} s apart and too many wait")
            self._waiting += 1
            self._changed.wait_for(self._at_once, wait_s)
            self._waiting -= 1
            self._refuse_if_paused()

    def _at_once(self) -> bool:
        plan = self._plan
        return self._hurried or not plan.request_interval_s or plan.paused is not None

    def _refuse_if_paused(self) -> None:
        if self._plan.paused is not None:
            raise self._refusal(self._plan.paused)

    def _refusal(self, why: str) -> RefusedError:
        return RefusedError(self._plan.name, why, self._plan.retry_after_s)
