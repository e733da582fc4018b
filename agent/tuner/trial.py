"""Run a model one way for a while and say what that took: the edge that measures."""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.runner import memory
from agent.runner.blackbox import BlackBox
from agent.runner.control import StageTarget
from agent.runner.crew import Crew
from agent.runner.stages import percentiles
from agent.runner.worker import Setting
from agent.tuner.candidates import Candidate
from agent.tuner.energy import extra_w
from agent.tuner.halving import Effort
from agent.tuner.power_watch import PowerWatch, within
from protocols.bundle import TensorSpec
from protocols.inference.runtime import Model, ModelError, open_model
from protocols.profile import Energy, LayoutRun

_WARM_UP_S = 0.5
_LONGEST_S = 20.0
"""A model so slow that this is not enough is measured by what it did in that time."""
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""Written to clear_refs it sets VmHWM back to what is resident now (proc(5))."""

_SEED = 20
_WIDEST_QUANTIZED_BYTES = 2

Inputs = list[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to be measured."""

    path: Path
    sample_shape: tuple[int, ...] | None = None
    """See `open_model`."""


class Trial:
    """Measures candidates of one or several models.

    Args:
        box: where the process marks that it is inside an interpreter.
    """

    def __init__(self, box: BlackBox) -> None:
        self._box = box

    def measure(self, subject: Subject, candidate: Candidate, effort: Effort) -> LayoutRun:
        """Measure one model by itself.

        Raises:
            ModelError: it does not load or does not answer.
        """
        (run,) = self.measure_beside([(subject, candidate)], effort)
        return run

    def measure_beside(
        self, pairs: Sequence[tuple[Subject, Candidate]], effort: Effort
    ) -> list[LayoutRun]:
        """Measure models that work at the same time: the parts of a pipeline.

        `answers_per_s` of each is that of the slowest, which sets the pace of all.

        Raises:
            ModelError: one does not load or does not answer.
        """
        with contextlib.ExitStack() as stack:
            loaded = [stack.enter_context(_loaded(*pair, self._box)) for pair in pairs]
            _answer(loaded, effort)
            runs = [_summed_up(one) for one in loaded]
        pace = min(run.answers_per_s for run in runs)
        return [run.with_(answers_per_s=pace) for run in runs]

    def measure_energy(
        self, pairs: Sequence[tuple[Subject, Candidate]], watch: PowerWatch, idle_w: Sequence[float]
    ) -> list[Energy] | None:
        """Let models work as in `measure_beside` while the power is watched.

        What the device takes beyond idling is shared by CPU time among models that work at once.

        Args:
            pairs: models, and how each runs.
            watch: of the device's power.
            idle_w: its readings while nothing ran.

        Returns:
            The energy of an answer of each; None: it does not stand out.

        Raises:
            ModelError: one does not load or does not answer.
        """
        with contextlib.ExitStack() as stack:
            loaded = [stack.enter_context(_loaded(*pair, self._box)) for pair in pairs]
            with watch.watching() as readings:
                _answer(loaded, Effort(1, watch.span.seconds))
        begin_s = max(one.began_s for one in loaded) + watch.span.settle_s
        end_s = min(one.began_s + one.wall_s for one in loaded)
        more_w = extra_w(idle_w, within(readings, begin_s, end_s))
        busy_s = sum(one.cpu_s for one in loaded)
        if more_w is None or busy_s <= 0:
            return None
        shares = [one.cpu_s / busy_s * one.wall_s / len(one.times_ms) for one in loaded]
        return [Energy(joules=_short(more_w * share), method=watch.method) for share in shares]


def _summed_up(one: "_Loaded") -> LayoutRun:
    times = sorted(one.times_ms)
    p50_ms, p95_ms = percentiles(times)
    cpu_ms = 1e3 * one.cpu_s / len(times)
    per_s = len(times) / one.wall_s
    return LayoutRun(
        layout=one.candidate.layout,
        threads=one.candidate.threads,
        cpus=one.candidate.cpus,
        count=len(times),
        p50_ms=_short(p50_ms or 0.0),
        p95_ms=_short(p95_ms or 0.0),
        answers_per_s=_short(per_s),
        cpu_ms=_short(cpu_ms),
        load_ms=_short(one.load_ms),
        peak_rss_mib=_short(one.peak_mib),
    )


class _Loaded:
    """A model in memory, and what its answers took."""

    def __init__(self, crew: Crew, candidate: Candidate, inputs: Inputs, before_bytes: int) -> None:
        self._before_bytes = before_bytes
        self.candidate = candidate
        self.times_ms = list[float]()
        self.load_ms = self.cpu_s = self.began_s = self.wall_s = self.peak_mib = 0.0
        self._crew, self._inputs = crew, inputs
        self._error: Exception | None = None
        self._lock = threading.Lock()

    def clients(self, effort: Effort) -> list[threading.Thread]:
        """Return threads that ask until the effort is spent: one for each request it can take."""
        side_by_side = self.candidate.threads if self.candidate.layout == "replicas" else 1
        start = threading.Barrier(side_by_side, action=self._begin)
        each = -(-effort.count // side_by_side)
        return [
            threading.Thread(target=self._ask, args=(start, each, effort.seconds))
            for _ in range(side_by_side)
        ]

    def finish(self) -> None:
        """Note the peak of memory; raise what went wrong while it answered."""
        self.peak_mib = max(0, _peak_bytes() - self._before_bytes) / memory.MIB
        if self._error is not None:
            raise self._error

    def _begin(self) -> None:
        self.began_s, self._cpu_before_s = time.perf_counter(), self._crew.cpu_s()

    def _ask(self, start: threading.Barrier, count: int, seconds: float) -> None:
        try:
            times = self._asked(start, count, seconds)
        except (ModelError, threading.BrokenBarrierError) as error:
            start.abort()
            self._error = self._error or error
            return
        with self._lock:
            self.times_ms += times
            self.wall_s = time.perf_counter() - self.began_s
            self.cpu_s = self._crew.cpu_s() - self._cpu_before_s

    def _asked(self, start: threading.Barrier, count: int, seconds: float) -> list[float]:
        warm_s = time.perf_counter() + min(_WARM_UP_S, seconds)
        while time.perf_counter() < warm_s:
            self._crew.answer([self._inputs])
        start.wait()
        times, began = list[float](), time.perf_counter()
        while (len(times) < count or time.perf_counter() - began < seconds) and (
            not times or time.perf_counter() - began < _LONGEST_S
        ):
            asked = time.perf_counter()
            self._crew.answer([self._inputs])
            times.append((time.perf_counter() - asked) * 1e3)
        return times


def _answer(loaded: Sequence[_Loaded], effort: Effort) -> None:
    """Let all work at once, until each has spent its effort."""
    clients = [client for one in loaded for client in one.clients(effort)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    for one in loaded:
        one.finish()


@contextlib.contextmanager
def _loaded(subject: Subject, candidate: Candidate, box: BlackBox) -> Iterator[_Loaded]:
    """Load a model as a candidate says; its memory is returned at the end."""
    target = StageTarget(
        name="tune",
        residence="resident",
        layout=candidate.layout,
        threads=candidate.threads,
        cpus=candidate.cpus,
    )
    inputs = list[Inputs]()

    def opened(threads: int) -> Model:
        model = open_model(subject.path, threads, subject.sample_shape)
        inputs.append(_random(model))
        return model

    memory.give_back()
    _reset_peak()
    before = memory.rss_bytes()
    crew = Crew("tune", "tune", opened, Setting.of(target), box)
    began = time.perf_counter()
    crew.start()
    one = _Loaded(crew, candidate, inputs[0], before)
    one.load_ms = (time.perf_counter() - began) * 1e3
    try:
        yield one
    finally:
        crew.stop()
        del crew, one
        memory.give_back()


def _random(model: Model) -> Inputs:
    """Return an input: uniform in [-1, 1), or over the whole range of a narrow integer type.

    Wider integers are zero: they are indices as a rule, and not all of them exist.
    """
    chance = np.random.default_rng(_SEED)
    return [_values(chance, spec) for spec in model.inputs]


def _values(chance: np.random.Generator, spec: TensorSpec) -> NDArray[Any]:
    dtype = np.dtype(spec.dtype)
    if dtype.kind in "iu" and dtype.itemsize > _WIDEST_QUANTIZED_BYTES:
        return np.zeros(spec.shape, dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return chance.integers(info.min, info.max, spec.shape, dtype=dtype, endpoint=True)
    return chance.uniform(-1, 1, spec.shape).astype(dtype)


def _reset_peak() -> None:
    with contextlib.suppress(OSError):  # then the peak is that of all so far
        _RESET.write_text(_RESET_PEAK)


def _peak_bytes() -> int:
    """Return the most that was resident since the peak was reset; what is now where unknown."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return memory.rss_bytes()


def _short(value: float) -> float:
    """Four digits are more than any of this has, and the inventory stays small."""
    return float(f"{value:.4g}")
