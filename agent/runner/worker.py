"""A thread that owns one interpreter.

It sets its own CPU mask and niceness before it builds the interpreter, whose pool threads inherit
both; then it reads back what every one of these threads really has. Another number of threads,
another mask or another niceness is a new worker beside the old one: no request waits for the
change, and a thread that starts at the process's own niceness needs no privilege to be nicer or
less nice than the one before.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from agent.affinity import get_cpus, get_nice, set_cpus, set_nice, thread_ids
from agent.runner.blackbox import Mark
from agent.runner.control import StageTarget
from agent.runner.jobs import Job, JobQueue, StageError
from protocols.inference.runtime import Model, ModelError
from protocols.schedule import Layout

RECENT = 512
"""How many of the last answers percentiles are taken of."""

_NICEST = 19
_CLOCK_OF_THREAD = 6


@dataclass(frozen=True, slots=True)
class Setting:
    """How a stage runs: what its plan asks for, cut by what the process may use."""

    threads: int
    cpus: tuple[int, ...] | None
    nice: int
    asked_threads: int = field(compare=False)
    layout: Layout = "intra-op"
    allowed: tuple[int, ...] = ()
    """The CPUs of the process: in another mask a stage is set up anew, pins included."""

    @classmethod
    def of(cls, target: StageTarget) -> "Setting":
        """Return the setting for a target: never more threads than CPUs in the mask.

        CPUs that the process may not use are left out; if there is no other, it uses those it may.
        """
        allowed = set(get_cpus() or range(os.cpu_count() or 1))
        mask = (allowed & set(target.cpus) if target.cpus is not None else set()) or allowed
        cpus = None if target.cpus is None else tuple(sorted(mask))
        threads = min(target.threads, len(mask))
        asked, allowed_now = target.threads, tuple(sorted(allowed))
        return cls(threads, cpus, target.nice, asked, target.layout, allowed_now)

    def workers(self) -> "tuple[Setting, ...]":
        """Return the setting of each worker: of replicas, one thread each, on CPUs of their own."""
        if self.layout != "replicas":
            return (self,)
        cpus = self.cpus
        return tuple(
            replace(self, threads=1, cpus=None if cpus is None else (cpus[number % len(cpus)],))
            for number in range(self.threads)
        )

    def explained(self, cause: str, before: "Setting | None" = None) -> str:
        """Return a cause, with what the number of threads alone would not tell a person."""
        notes = [cause]
        if before is not None and before.layout != self.layout:
            notes.append(f"layout {before.layout} -> {self.layout}")
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


class Worker:
    """A thread and its interpreter; it takes jobs from a queue that others may share.

    Args:
        name: of the thread.
        opener: opens the model with so many threads.
        setting: how it runs.
        mark: of the black box.
        jobs: where its work comes from.
    """

    def __init__(
        self,
        name: str,
        opener: Callable[[int], Model],
        setting: Setting,
        mark: Mark,
        jobs: JobQueue,
    ) -> None:
        self.setting, self.mark = setting, mark
        self.recent_ms: deque[float] = deque(maxlen=RECENT)
        self.runs = 0
        self.cpus: tuple[int, ...] | None = None
        """Where its threads may run, as they say themselves; None: the platform does not tell."""
        self._opener, self._jobs = opener, jobs
        self._opened = Job(())
        self._thread_ids: tuple[int, ...] = ()
        self._cpu_before_s = 0.0
        self._spent_s: float | None = None
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

    def join(self) -> None:
        """Wait until it has been sent home and has dropped its interpreter."""
        self._thread.join()

    def cpu_s(self) -> float:
        """Return the CPU seconds of its thread and its pool threads since the first answer.

        Loading is not in it, and neither is the work of the connections' threads (HTTP, JSON,
        gates). Pool threads spin for a moment after each answer; that is in it, as it is spent.
        """
        if self._spent_s is not None:
            return self._spent_s
        return max(0.0, sum(map(_clock_s, self._thread_ids)) - self._cpu_before_s)

    def _work(self) -> None:
        model = self._open()
        if model is None:
            return
        self._opened.done.release()
        while (job := self._jobs.get()) is not None:
            self._run(model, job)
            del job  # the next wait must not keep its arrays
        self._spent_s = self.cpu_s()  # a thread that has ended has no clock any more
        model.close()

    def _open(self) -> Model | None:
        threads_before = thread_ids()
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
        self._thread_ids = (own, *(thread_ids() - threads_before - python))
        self.cpus = self._placed()
        self._cpu_before_s = sum(map(_clock_s, self._thread_ids))
        return model

    def _placed(self) -> tuple[int, ...] | None:
        """Return the CPUs that its threads have; one that has others gets the mask first."""
        wanted = self.setting.cpus
        masks = [get_cpus(thread_id) for thread_id in self._thread_ids]
        if wanted is not None:
            masks = [
                mask if mask is None or set(mask) <= set(wanted) else set_cpus(wanted, thread_id)
                for thread_id, mask in zip(self._thread_ids, masks, strict=True)
            ]
        known = [mask for mask in masks if mask is not None]
        return tuple(sorted({cpu for mask in known for cpu in mask})) if known else None

    def _run(self, model: Model, job: Job) -> None:
        try:
            with self.mark:
                for sample in job.samples:
                    self._jobs.check()  # a batch ends with the sample that is inside
                    began = time.perf_counter()
                    job.answers.append(model.run(sample))
                    self.recent_ms.append((time.perf_counter() - began) * 1e3)
                    self.runs += 1
        except (ModelError, StageError) as error:
            job.error = error
        except Exception as error:  # noqa: BLE001 - it belongs to the thread that waits
            job.error = ModelError(self._thread.name, f"{type(error).__name__}: {error}", "run")
        job.done.release()


def _clock_s(thread_id: int) -> float:
    """Return a thread's CPU seconds; 0 once it has ended.

    The clock of another thread of this process, as pthread_getcpuclockid makes its number on Linux
    (MAKE_THREAD_CPUCLOCK): it needs no file and counts in nanoseconds.
    """
    try:
        return time.clock_gettime((~thread_id << 3) | _CLOCK_OF_THREAD)
    except OSError:
        return 0.0
