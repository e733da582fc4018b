"""A stage's model in memory: one thread that owns its interpreter, loaded, unloaded and replaced.

The thread sets its own CPU mask and niceness before it builds the interpreter, whose pool threads
inherit both. Another number of threads, another mask or another niceness is a new thread beside the
old one: no request waits for the change, and a thread that starts at the process's own niceness
needs no privilege to be nicer or less nice than the one before.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agent.affinity import get_cpus, get_nice, set_cpus, set_nice
from agent.runner import memory
from agent.runner.blackbox import BlackBox, Mark
from agent.runner.control import StageChanged, StageTarget
from protocols.bundle import TensorSpec, Variant
from protocols.device import StageStats
from protocols.errors import SluiceError
from protocols.inference.runtime import Model, ModelError, open_model

Tensors = list[NDArray[Any]]
Emit = Callable[[StageChanged], None]
Change = Literal["loaded", "unloaded", "threads", "failed"]

RETRY_S = 5.0
"""After a load has failed, the next try waits that long."""

_RECENT = 512
_NICEST = 19
_TASKS = Path("/proc/self/task")
_CLOCK_OF_THREAD = 6


class StageError(SluiceError):
    """A stage cannot be loaded or cannot answer."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a worker runs: what its plan asks for, cut by what the process may use."""

    threads: int
    cpus: tuple[int, ...] | None
    nice: int

    @classmethod
    def of(cls, target: StageTarget) -> "Setting":
        """Return the setting for a target: never more threads than CPUs in the mask."""
        allowed = set(get_cpus() or range(os.cpu_count() or 1))
        mask = allowed & set(target.cpus) if target.cpus is not None else allowed
        cpus = tuple(sorted(mask)) if target.cpus is not None and mask else None
        return cls(min(target.threads, len(mask or allowed)), cpus, target.nice)

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
        self.recent_ms: deque[float] = deque(maxlen=_RECENT)
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


class StageSlot:
    """One stage of a running cascade: its worker or none, and what it has done.

    `load`, `unload` and `retune` are called under the cascade's own lock, one at a time;
    `enter` and `leave` by any request.
    """

    def __init__(
        self, cascade: str, name: str, variant: Variant, path: Path, box: BlackBox
    ) -> None:
        self.name, self.variant = name, variant
        self.title = f"{cascade}/{name}"
        self.answers = 0
        self.used_s = time.monotonic()
        self._cascade, self._path, self._box = cascade, path, box
        self.emit: Emit = _nobody
        self._worker: Worker | None = None
        self._changed = threading.Condition()
        self._retry_s = 0.0
        self._loaded_mib: float | None = None
        self._recent_ms: deque[float] = deque(maxlen=_RECENT)
        self._runs = 0
        self._cpu_s = 0.0

    @property
    def loaded(self) -> bool:
        """Whether its model is in memory."""
        return self._worker is not None

    def failing(self) -> bool:
        """Whether the last load failed so recently that it is not tried again."""
        return time.monotonic() < self._retry_s

    def differs(self, setting: Setting) -> bool:
        """Whether it is loaded and runs with another setting."""
        return self._worker is not None and self._worker.setting != setting

    def enter(self) -> Worker | None:
        """Return the worker and keep it until `leave`; None: not loaded."""
        with self._changed:
            if self._worker is not None:
                self._worker.users += 1
            return self._worker

    def leave(self, worker: Worker) -> None:
        """Say that a request is out of the worker."""
        with self._changed:
            self.used_s = time.monotonic()
            worker.users -= 1
            if not worker.users:
                self._changed.notify_all()

    def load(self, setting: Setting, cause: str) -> None:
        """Load the model and answer once; report what that took.

        Raises:
            StageError: it does not load, or its tensors are not the manifest's.
        """
        began = time.perf_counter()
        with memory.moving:
            before = memory.rss_bytes()
            worker = self._start(setting)
            after = memory.rss_bytes()
        self._loaded_mib = max(0, after - before) / memory.MIB
        self.used_s = time.monotonic()
        with self._changed:
            self._worker = worker
        self._report("loaded", cause, began, loaded_mib=self._loaded_mib)

    def unload(self, cause: str) -> None:
        """Let requests out, drop the model, return its memory, report how much came back."""
        began = time.perf_counter()
        worker = self._put(None)
        if worker is None:
            return
        with memory.moving:
            before = memory.rss_bytes()
            self._end(worker)
            del worker
            memory.give_back()
            returned = max(0, before - memory.rss_bytes())
        self._report("unloaded", cause, began, returned_bytes=returned)

    def retune(self, setting: Setting, cause: str) -> None:
        """Run with another setting from now on: a new worker beside the old one, then swap.

        Raises:
            StageError: the new one does not load; the old one goes on.
        """
        began = time.perf_counter()
        if not self.differs(setting):
            return
        with memory.moving:
            fresh = self._start(setting)
        old = self._put(fresh)
        if old is not None:
            with memory.moving:
                self._end(old)
                del old
                memory.give_back()
        self._report("threads", cause, began)

    def report_failure(self, error: StageError, cause: str) -> None:
        """Report that it could not be loaded."""
        self._report("failed", f"{error} ({cause})", time.perf_counter())

    def stats(self) -> StageStats:
        """Return what it did; for its CPU seconds see `Worker.cpu_s`."""
        with self._changed:
            worker = self._worker
            recent = list(self._recent_ms)
            runs, cpu_s = self._runs, self._cpu_s
        if worker is not None:
            recent = [*recent, *worker.recent_ms][-_RECENT:]
            runs, cpu_s = runs + worker.runs, cpu_s + worker.cpu_s()
        p50, p95 = percentiles(recent)
        return StageStats(
            name=self.name,
            variant=self.variant.name,
            loaded=worker is not None,
            threads=worker.setting.threads if worker else None,
            cpus=worker.setting.cpus if worker else None,
            loaded_mib=self._loaded_mib,
            answers=self.answers,
            runs=runs,
            p50_ms=p50,
            p95_ms=p95,
            cpu_s=cpu_s,
        )

    def _start(self, setting: Setting) -> Worker:
        mark = self._box.claim(self._cascade)
        worker = Worker(self.title, self._open, setting, mark)
        try:
            worker.start()
        except Exception as error:
            self._box.release(mark)
            self._retry_s = time.monotonic() + RETRY_S
            why = error.why if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
            raise StageError(f"cannot load {self.title}: {why}") from error
        return worker

    def _open(self, threads: int) -> Model:
        shape = self.variant.inputs[0].shape
        sample = shape[1:] if shape[:1] == (1,) else shape
        model = open_model(self._path, threads, sample)
        for kind, promised, found in (
            ("input", self.variant.inputs, model.inputs),
            ("output", self.variant.outputs, model.outputs),
        ):
            difference = differing(kind, promised, found)
            if difference:
                raise ModelError(self.title, difference)
        return model

    def _put(self, worker: Worker | None) -> Worker | None:
        """Let new requests use another worker (None: none); return the old one, with nobody in."""
        with self._changed:
            old, self._worker = self._worker, worker
            self._changed.wait_for(lambda: old is None or not old.users)
        return old

    def _end(self, worker: Worker) -> None:
        cpu_s = worker.cpu_s()
        worker.stop()
        self._box.release(worker.mark)
        with self._changed:
            self._recent_ms.extend(worker.recent_ms)
            self._runs += worker.runs
            self._cpu_s += cpu_s

    def _report(
        self,
        change: Change,
        cause: str,
        began: float,
        loaded_mib: float | None = None,
        returned_bytes: int | None = None,
    ) -> None:
        worker = self._worker
        self.emit(
            StageChanged(
                change=change,
                cascade=self._cascade,
                stage=self.name,
                variant=self.variant.name,
                cause=cause,
                threads=worker.setting.threads if worker else None,
                cpus=worker.setting.cpus if worker else None,
                took_ms=(time.perf_counter() - began) * 1e3,
                rss_mib=memory.rss_bytes() / memory.MIB,
                returned_bytes=returned_bytes,
                loaded_mib=loaded_mib,
            )
        )


def _nobody(_change: StageChanged) -> None:
    """Say nothing: until a slot is given somebody who listens."""


def percentiles(recent_ms: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the median and the 95th percentile (nearest rank); None of nothing."""
    if not recent_ms:
        return None, None
    ordered = sorted(recent_ms)
    last = len(ordered) - 1
    return ordered[round(0.5 * last)], ordered[round(0.95 * last)]


def differing(kind: str, promised: Sequence[TensorSpec], found: Sequence[TensorSpec]) -> str | None:
    """Say how a model's tensors differ from the manifest's (names aside); None: they do not."""
    if len(promised) != len(found):
        return f"the manifest says {len(promised)} {kind}s, the model has {len(found)}"
    for want, have in zip(promised, found, strict=True):
        if (want.shape, want.dtype, want.quantization) != (
            have.shape,
            have.dtype,
            have.quantization,
        ):
            return f"the manifest says {kind} {_described(want)}, the model has {_described(have)}"
    return None


def _described(spec: TensorSpec) -> str:
    scale = spec.quantization
    suffix = f" (scale {scale.scale:g}, zero point {scale.zero_point})" if scale else ""
    return f"[{','.join(map(str, spec.shape))}] {spec.dtype}{suffix}"


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
