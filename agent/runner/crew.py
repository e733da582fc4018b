"""The workers of one loaded stage: one, or replicas that take its requests side by side."""

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from agent.runner.blackbox import BlackBox
from agent.runner.jobs import Job, JobQueue, Tensors
from agent.runner.worker import Setting, Worker
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
        self._title, self._box = title, box
        self._jobs = JobQueue()
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
            StageError: it has been dismissed.
        """
        jobs = [Job(share) for share in _shares(samples, len(self._workers))]
        self._jobs.put(jobs)
        for job in jobs:
            job.done.acquire()
        for job in jobs:
            if job.error is not None:
                raise job.error
        return [tensors for job in jobs for tensors in job.answers]

    @property
    def dismissed(self) -> bool:
        """Whether it answers nobody any more."""
        return self._jobs.closed

    def dismiss(self, why: str) -> None:
        """Answer nobody any more; what is inside the interpreters is finished.

        Any thread may do so at any time, and it wakes none: `turn_away` does.
        """
        self._jobs.close(f"cannot use {self._title}: it is unloaded ({why})")

    def turn_away(self) -> None:
        """Let what waits for a dismissed crew fail."""
        self._jobs.turn_away()

    def stop(self) -> None:
        """Dismiss it, wait for what is inside the interpreters, and drop them."""
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
        self.dismiss("its time is over")
        self._jobs.end(len(started))
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
