"""A thread that owns one interpreter.

It sets its own CPU mask and niceness before it builds the interpreter, whose pool threads inherit
both. Another number of threads, another mask or another niceness is a new worker beside the old
one: no request waits for the change, and a thread that starts at the process's own niceness needs
no privilege to be nicer or less nice than the one before.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.affinity import get_cpus, get_nice, set_cpus, set_nice
from agent.runner.blackbox import Mark
from agent.runner.control import StageTarget
from protocols.inference.runtime import Model, ModelError

Tensors = list[NDArray[Any]]

RECENT = 512
"""How many of the last answers percentiles are taken of."""

_NICEST = 19
_TASKS = Path("/proc/self/task")
_CLOCK_OF_THREAD = 6


@dataclass(frozen=True, slots=True)
class Setting:
    """How a worker runs: what its plan asks for, cut by what the process may use."""

    threads: int
    cpus: tuple[int, ...] | None
    nice: int
    asked_threads: int = field(compare=False)

    @classmethod
    def of(cls, target: StageTarget) -> "Setting":
        """Return the setting for a target: never more threads than CPUs in the mask.

        CPUs that the process may not use are left out; if there is no other, it uses those it may.
        """
        allowed = set(get_cpus() or range(os.cpu_count() or 1))
        mask = (allowed & set(target.cpus) if target.cpus is not None else set()) or allowed
        cpus = None if target.cpus is None else tuple(sorted(mask))
        return cls(min(target.threads, len(mask)), cpus, target.nice, target.threads)

    def explained(self, cause: str, before: "Setting | None" = None) -> str:
        """Return a cause, with what the number of threads alone would not tell a person."""
        notes = [cause]
        if before is not None and before.nice != self.nice:
            notes.append(f"nice {before.nice} -> {self.nice}")
        if self.threads < self.asked_threads:
            notes.append(f"{self.asked_threads} threads asked for, {self.threads} CPUs to use")
        return "; ".join(notes)

    def take(self) -> None:
        """Give the calling thread this mask, and be that much nicer than it is."""
        if self.cpus is not None:
            set_cpus(self.cpus)
        if self.nice:
            set_nice(min(_NICEST, (get_nice() or 0) + self.nice))


class Job:
    """Samples for one worker, and its answer."""

    __slots__ = ("answers", "done", "error", "samples")

    def __init__(self, samples: Sequence[Sequence[NDArray[Any]]]) -> None:
        self.samples = samples
        self.answers: list[Tensors] = []
        self.error: Exception | None = None
        self.done = threading.Lock()
        self.done.acquire()


class Worker:
    """A thread, its interpreter, and the requests inside."""

    def __init__(
        self, name: str, opener: Callable[[int], Model], setting: Setting, mark: Mark
    ) -> None:
        self.setting = setting
        self.users = 0
        self.recent_ms: deque[float] = deque(maxlen=RECENT)
        self.runs = 0
        self._opener, self.mark = opener, mark
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._opened = Job(())
        self._clocks: tuple[int, ...] = ()
        self._cpu_before_s = 0.0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Load the model and answer once; return when that is done.

        Raises:
            ModelError: it does not load or does not answer.
        """
        self._thread.start()
        self._opened.done.acquire()
        if self._opened.error is not None:
            self._thread.join()
            raise self._opened.error

    def answer(self, samples: Sequence[Sequence[NDArray[Any]]]) -> list[Tensors]:
        """Run the samples one by one; each has one array for every input of the model.

        Raises:
            ModelError: the interpreter gave up.
        """
        job = Job(samples)
        self._jobs.put(job)
        job.done.acquire()
        if job.error is not None:
            raise job.error
        return job.answers

    def stop(self) -> None:
        """End the thread and drop its interpreter; nobody may be inside."""
        self._jobs.put(None)
        self._thread.join()

    def cpu_s(self) -> float:
        """Return the CPU seconds of its thread and its pool threads since the first answer.

        Loading is not in it, and neither is the work of the connections' threads (HTTP, JSON,
        gates). Pool threads spin for a moment after each answer; that is in it, as it is spent.
        """
        return max(0.0, sum(map(_clock_s, self._clocks)) - self._cpu_before_s)

    def _work(self) -> None:
        model = self._open()
        if model is None:
            return
        self._opened.done.release()
        while (job := self._jobs.get()) is not None:
            self._run(model, job)
            del job  # the next wait must not keep its arrays
        model.close()

    def _open(self) -> Model | None:
        threads_before = _tasks()
        try:
            self.setting.take()
            with self.mark:
                model = self._opener(self.setting.threads)
                model.run([np.zeros(spec.shape, spec.dtype) for spec in model.inputs])
        except Exception as error:  # noqa: BLE001 - it belongs to the thread that waits
            self._opened.error = error
            self._opened.done.release()
            return None
        own = threading.get_native_id()
        python = {thread.native_id for thread in threading.enumerate()}
        self._clocks = (own, *(_tasks() - threads_before - python))
        self._cpu_before_s = sum(map(_clock_s, self._clocks))
        return model

    def _run(self, model: Model, job: Job) -> None:
        try:
            with self.mark:
                for sample in job.samples:
                    began = time.perf_counter()
                    job.answers.append(model.run(sample))
                    self.recent_ms.append((time.perf_counter() - began) * 1e3)
                    self.runs += 1
        except ModelError as error:
            job.error = error
        except Exception as error:  # noqa: BLE001 - it belongs to the thread that waits
            job.error = ModelError(self._thread.name, f"{type(error).__name__}: {error}", "run")
        job.done.release()


def _tasks() -> set[int]:
    """Return the ids of this process's threads; none where the system does not list them."""
    try:
        return {int(task.name) for task in _TASKS.iterdir()}
    except OSError:
        return set()


def _clock_s(thread_id: int) -> float:
    """Return a thread's CPU seconds; 0 once it has ended.

    The clock of another thread of this process, as pthread_getcpuclockid makes its number on Linux
    (MAKE_THREAD_CPUCLOCK): it needs no file and counts in nanoseconds.
    """
    try:
        return time.clock_gettime((~thread_id << 3) | _CLOCK_OF_THREAD)
    except OSError:
        return 0.0
