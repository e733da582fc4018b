"""What waits for the workers of a loaded stage: a queue with a door that closes for good."""

import contextlib
import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Any

from numpy.typing import NDArray

from protocols.errors import SluiceError

Tensors = list[NDArray[Any]]


class StageError(SluiceError):
    """A stage cannot be loaded or cannot answer."""


class Job:
    """Samples for one worker, and its answer."""

    __slots__ = ("answers", "done", "error", "samples")

    def __init__(self, samples: Sequence[Sequence[NDArray[Any]]]) -> None:
        self.samples = samples
        self.answers: list[Tensors] = []
        self.error: Exception | None = None
        self.done = threading.Lock()
        self.done.acquire()


class JobQueue:
    """The jobs of one crew. Any thread may put and close; its workers get.

    Its end has three steps, because memory has to come back first: `close` wakes nobody, `end`
    sends the workers home, and only `turn_away` wakes those that wait. A hundred threads that wake
    at once would keep the one that frees memory from the interpreter's lock.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._door = threading.Lock()
        self._over = threading.Event()
        self._closed: str | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing comes in any more."""
        return self._closed is not None

    def check(self) -> None:
        """Raise what a closed door answers.

        Raises:
            StageError: it has been closed.
        """
        if self._closed is not None:
            raise StageError(self._closed)

    def put(self, jobs: Sequence[Job]) -> None:
        """Let jobs in, all or none.

        Raises:
            StageError: it has been closed.
        """
        with self._door:
            self.check()
            for job in jobs:
                self._queue.put(job)

    def get(self) -> Job | None:
        """Wait for the next job; None: there will be no other, and the worker's time is over."""
        job = self._queue.get()
        if self._closed is None:
            return job
        if job is not None:
            self._refuse(job)
        self._over.wait()
        return None

    def close(self, why: str) -> None:
        """Let nothing in any more, and give the workers nothing more. The first reason stands."""
        with self._door:
            self._closed = self._closed or why

    def end(self, workers: int) -> None:
        """Send so many workers home; it must be closed."""
        self._over.set()
        for _ in range(workers):
            self._queue.put(None)

    def turn_away(self) -> None:
        """Fail what waits; it must be closed. Workers that are being sent home still get there."""
        homeward = 0
        with contextlib.suppress(Empty):
            while True:
                job = self._queue.get_nowait()
                if job is None:
                    homeward += 1
                else:
                    self._refuse(job)
        for _ in range(homeward):
            self._queue.put(None)

    def _refuse(self, job: Job) -> None:
        job.error = StageError(self._closed or "")
        job.done.release()
