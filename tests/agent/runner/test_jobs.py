import threading
from collections.abc import Callable

import numpy as np
import pytest

from agent.runner.jobs import Job, JobQueue, StageError

WITHIN_S = 10.0


def job() -> Job:
    return Job([[np.zeros(1, np.float32)]])


def has_ended(one: Job) -> bool:
    return one.done.acquire(timeout=WITHIN_S)


def beside(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def test_jobs_come_in_order_and_the_end_after_them() -> None:
    queue, jobs = JobQueue(), [job(), job()]
    queue.put(jobs)
    assert [queue.get(), queue.get()] == jobs
    queue.close("over")
    queue.end(1)
    assert queue.get() is None


def test_a_closed_queue_lets_nothing_in_and_its_first_reason_stands() -> None:
    queue = JobQueue()
    queue.close("the first")
    queue.close("the second")
    with pytest.raises(StageError, match="the first"):
        queue.put([job()])
    with pytest.raises(StageError, match="the first"):
        queue.check()


def test_what_waits_is_woken_when_it_is_turned_away_and_not_before() -> None:
    queue, one = JobQueue(), job()
    queue.put([one])
    queue.close("over")
    assert one.error is None
    assert not one.done.acquire(blocking=False)
    queue.turn_away()
    assert has_ended(one)
    assert isinstance(one.error, StageError)


def test_a_worker_gets_nothing_of_a_closed_queue_and_goes_when_it_is_sent() -> None:
    queue, one, got = JobQueue(), job(), list[Job | None]()
    queue.put([one])
    queue.close("over")
    worker = beside(lambda: got.append(queue.get()))
    assert has_ended(one)  # it had it in its hand
    assert worker.is_alive()
    queue.end(1)
    worker.join(WITHIN_S)
    assert got == [None]


def test_whoever_turns_away_while_workers_are_sent_home_does_not_keep_them() -> None:
    queue = JobQueue()
    queue.close("over")
    queue.end(2)
    queue.turn_away()
    workers = [beside(queue.get) for _ in range(2)]
    for worker in workers:
        worker.join(WITHIN_S)
    assert not any(worker.is_alive() for worker in workers)


class Meeting:
    """Workers, clients and two who end it all begin at one moment."""

    CLIENTS = 8

    def __init__(self, workers: int) -> None:
        self._queue, self._workers = JobQueue(), workers
        acts = [self._work] * workers + [self._ask] * self.CLIENTS + [self._finish, self._dismiss]
        self._start = threading.Barrier(len(acts))
        self.ends: list[str] = []
        self.threads = [beside(act) for act in acts]

    def _work(self) -> None:
        self._start.wait(WITHIN_S)
        while (one := self._queue.get()) is not None:
            one.done.release()

    def _ask(self) -> None:
        self._start.wait(WITHIN_S)
        error: Exception | None = None
        while error is None:
            one = job()
            try:
                self._queue.put([one])
            except StageError:
                break
            if not has_ended(one):
                self.ends.append("left waiting")
                return
            error = one.error
        self.ends.append("turned away")

    def _finish(self) -> None:
        self._start.wait(WITHIN_S)
        self._queue.close("over")
        self._queue.end(self._workers)
        self._queue.turn_away()

    def _dismiss(self) -> None:
        self._start.wait(WITHIN_S)
        self._queue.close("over as well")
        self._queue.turn_away()


@pytest.mark.parametrize("workers", [1, 3])
def test_every_job_ends_once_whatever_meets(workers: int) -> None:
    """Many put while others close, end and turn away: nobody is left waiting."""
    for _round in range(60):
        meeting = Meeting(workers)
        for thread in meeting.threads:
            thread.join(2 * WITHIN_S)
        assert not any(thread.is_alive() for thread in meeting.threads)
        assert meeting.ends == ["turned away"] * Meeting.CLIENTS
