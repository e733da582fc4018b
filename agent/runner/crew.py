"""The workers of one loaded stage: one, or replicas that take its requests side by side."""

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

from numpy.typing import NDArray

from agent.runner.blackbox import BlackBox
from agent.runner.worker import Job, Setting, Tensors, Worker
from protocols.inference.runtime import Model


class Crew:
    """What a loaded stage is made of, and the requests inside.

    Args:
        title: cascade and stage, for names and errors.
        cascade: whom the black box shall blame.
        opener: opens the model with so many threads.
        setting: how the stage runs.
        box: the runner's black box.
    """

    def __init__(
        self,
        title: str,
        cascade: str,
        opener: Callable[[int], Model],
        setting: Setting,
        box: BlackBox,
    ) -> None:
        self.setting = setting
        self.users = 0
        self._box = box
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._workers = tuple(
            Worker(title, opener, mine, box.claim(cascade), self._jobs)
            for mine in setting.workers()
        )

    def start(self) -> None:
        """Load the model, once for each worker, and answer once.

        Raises:
            ModelError: it does not load or does not answer; nothing of it stays.
        """
        started: list[Worker] = []
        try:
            for worker in self._workers:
                worker.start()
                started.append(worker)
        except Exception:
            self._end(started)
            raise

    def answer(self, samples: Sequence[Sequence[NDArray[Any]]]) -> list[Tensors]:
        """Run the samples, each with one array for every input; replicas share them.

        Raises:
            ModelError: the interpreter gave up.
        """
        jobs = [Job(share) for share in _shares(samples, len(self._workers))]
        for job in jobs:
            self._jobs.put(job)
        for job in jobs:
            job.done.acquire()
        for job in jobs:
            if job.error is not None:
                raise job.error
        return [tensors for job in jobs for tensors in job.answers]

    def stop(self) -> None:
        """End the threads and drop their interpreters; nobody may be inside."""
        self._end(self._workers)

    @property
    def runs(self) -> int:
        """How many samples it has answered."""
        return sum(worker.runs for worker in self._workers)

    @property
    def recent_ms(self) -> list[float]:
        """The last answers' times, of one worker after the other."""
        return [ms for worker in self._workers for ms in tuple(worker.recent_ms)]

    @property
    def cpus(self) -> tuple[int, ...] | None:
        """Where its threads may run, as they say themselves; None: the platform does not tell."""
        known = [worker.cpus for worker in self._workers if worker.cpus is not None]
        return tuple(sorted({cpu for cpus in known for cpu in cpus})) if known else None

    def cpu_s(self) -> float:
        """Return the CPU seconds of all its threads since the first answers."""
        return sum(worker.cpu_s() for worker in self._workers)

    def _end(self, started: Sequence[Worker]) -> None:
        for _ in started:
            self._jobs.put(None)
        for worker in started:
            worker.join()
        for worker in self._workers:
            self._box.release(worker.mark)


def _shares(
    samples: Sequence[Sequence[NDArray[Any]]], workers: int
) -> list[Sequence[Sequence[NDArray[Any]]]]:
    """Divide a batch among the workers, in order; a single sample is one share."""
    size = max(1, -(-len(samples) // workers))
    return [samples[at : at + size] for at in range(0, len(samples), size)]
