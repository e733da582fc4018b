"""One of two CPUs is taken away, by load or by mask: what the agent does, and what it is worth.

`python -m tests.bench steal [--rounds N] [--seconds S] [MODEL.tflite]`. The agent begins with two
threads, under the default first line and hold of foreign CPU, and is asked at a steady rate. Then
another process spins on one CPU (load), or agent and runner may use one CPU only (mask). Beside it
runners without an agent, of one and of two threads for good, go through the same. All take turns in
every round; medians over the rounds. It needs a machine that is otherwise idle: whoever else works
on it is foreign load as well, and the agent has then reacted before it begins.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from agent.affinity import get_cpus
from agent.runner.control import Ready
from controller.broker import start_broker
from protocols.inference.runtime import open_model
from protocols.schedule import (
    DEFAULT_THRESHOLDS,
    Dwell,
    Schedule,
    Signal,
    Threshold,
    default_cascade_schedule,
)
from tests.agent.rig import Rig, rigged
from tests.agent.runner.cascades import Built, Piece, build
from tests.agent.runner.harness import running
from tests.agent.runner.samples import samples
from tests.bench.inference import Wire, request_binary
from tests.end_to_end.stack import wait_for

MODEL = Path("controller/demo/assets/large-fp32.tflite")
LOAD_SHARE = 0.3
"""Requests come so often that one thread would work this share of the time."""
CALM_S = 3.0
INTERVAL_S, TELEMETRY_S = 0.5, 5.0
"""Of samples and telemetry: the agent's own defaults."""
HOLD_S = Dwell().hold_s
BOUND_S = HOLD_S + 1.0
FOREIGN: Signal = "foreign_cpu_percent"
LINES = {FOREIGN: Threshold(enter=(DEFAULT_THRESHOLDS[FOREIGN].enter[0], None, None, None))}
"""One of two CPUs asks for the first rung; what else this machine may ask for is not the matter."""
SETTLE_S = 0.5
GIVE_UP_S = 15.0
WORSE = 1.1
POLICIES = ("ours", "fixed 1", "fixed 2")
KINDS = ("load", "mask")
SPIN = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


@dataclass
class Stream:
    """Asks at a steady rate; where an answer takes longer than that, the next one goes at once."""

    address: tuple[str, int]
    request: bytes
    rate: float
    answers: list[tuple[float, float]] = field(default_factory=list)
    """When each was asked (monotonic), and the ms from then to its answer."""

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._thread.join()

    def between(self, begin_s: float, end_s: float) -> list[float]:
        """Return the times of the requests that were asked in a span."""
        return [ms for asked_s, ms in tuple(self.answers) if begin_s <= asked_s < end_s]

    def _run(self) -> None:
        wire, due_s = Wire(self.address), time.monotonic()
        while not self._over.wait(max(0.0, due_s - time.monotonic())):
            asked_s = time.monotonic()
            wire.ask(self.request)
            self.answers.append((asked_s, (time.monotonic() - asked_s) * 1e3))
            due_s = max(due_s + 1 / self.rate, time.monotonic())
        wire.close()


@dataclass(frozen=True)
class Subject:
    """What answers: its processes, and when its number of threads changed after a moment."""

    address: tuple[str, int]
    pids: tuple[int, ...]
    changed_s: Callable[[float], float | None]
    """Takes a wall clock's moment; waits, and returns the seconds until it had other threads."""
    begins_with: int


@dataclass(frozen=True)
class Run:
    """One policy through one disturbance."""

    p95_ms: float
    worst_change_ms: float
    reaction_s: float | None


def main(options: list[str]) -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(prog="steal")
    parser.add_argument("model", nargs="?", type=Path, default=MODEL)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    asked = parser.parse_args(options)
    cpus = get_cpus() or ()
    if len(cpus) != len(KINDS):
        raise SystemExit(f"cannot take one of two CPUs away: there are {len(cpus)} to use")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built, answer_ms = _built(folder, asked.model)
        rate = LOAD_SHARE * 1e3 / min(answer_ms.values())
        said = ", ".join(f"{threads} threads {ms:.2f} ms" for threads, ms in answer_ms.items())
        print(f"{asked.model.name}: {said}; {rate:.0f} requests a second", flush=True)
        broker = start_broker(folder / "broker")
        try:
            bench = _Bench(folder, built, broker.url, rate, asked.seconds, cpus)
            _show(bench.runs(asked.rounds))
        finally:
            broker.stop()


class _Bench:
    def __init__(
        self,
        folder: Path,
        built: Built,
        broker_url: str,
        rate: float,
        seconds: float,
        cpus: tuple[int, ...],
    ) -> None:
        self._folder, self._built, self._broker_url = folder, built, broker_url
        self._rate, self._seconds, self._cpus = rate, seconds, cpus
        self._request = request_binary(built.x[0])
        self._number = 0

    def runs(self, rounds: int) -> dict[tuple[str, str], list[Run]]:
        """Return the runs by kind and policy; the policies take turns."""
        found: dict[tuple[str, str], list[Run]] = {}
        for number in range(rounds):
            turned = POLICIES[number % 3 :] + POLICIES[: number % 3]
            for kind in KINDS:
                for policy in turned:
                    run = self._run(kind, policy, self._cpus[number % 2])
                    found.setdefault((kind, policy), []).append(run)
                    reaction = "" if run.reaction_s is None else f", after {run.reaction_s:.2f} s"
                    print(f"  {number + 1} {kind:5}{policy:8}p95 {run.p95_ms:6.2f} ms{reaction}")
                    sys.stdout.flush()
        return found

    def _run(self, kind: str, policy: str, cpu: int) -> Run:
        with self._subject(policy, kind) as subject:
            with Stream(subject.address, self._request, self._rate) as stream:
                time.sleep(CALM_S)
                begin_ts, begin_s = time.time(), time.monotonic()
                with self._disturbed(kind, subject, cpu):
                    reaction_s = subject.changed_s(begin_ts)
                    time.sleep(SETTLE_S)
                    calm_s = time.monotonic()
                    time.sleep(self._seconds)
                    end_s = time.monotonic()
            measured, before = stream.between(calm_s, end_s), stream.between(begin_s, calm_s)
            return Run(_p95(measured), max(before), reaction_s)

    @contextlib.contextmanager
    def _disturbed(self, kind: str, subject: Subject, cpu: int) -> Iterator[None]:
        if kind == "mask":
            for pid in subject.pids:
                _confine(pid, cpu)
            yield
            return
        with subprocess.Popen([sys.executable, "-c", SPIN, str(cpu)]) as spinner:
            try:
                yield
            finally:
                spinner.kill()

    def _subject(self, policy: str, kind: str) -> contextlib.AbstractContextManager[Subject]:
        if policy == "ours":
            return self._ours(LINES if kind == "load" else {})
        return self._fixed(int(policy.removeprefix("fixed ")))

    @contextlib.contextmanager
    def _ours(self, lines: dict[Signal, Threshold]) -> Iterator[Subject]:
        self._number += 1
        folder = self._folder / f"agent-{self._number}"
        folder.mkdir()
        with rigged(folder, self._broker_url, folder.name) as rig:
            rig.start(interval_s=INTERVAL_S, telemetry_s=TELEMETRY_S)
            schedule = Schedule(
                thresholds=lines,
                cascades={"digits": default_cascade_schedule(("only",), len(self._cpus))},
            )
            rig.desire(rig.ship(self._built), schedule=schedule)
            rig.wait_running()
            assert rig.process is not None
            pids = (rig.process.pid, *rig.runner_pids())
            yield Subject(rig.address(), pids, lambda ts: _reaction_s(rig, ts), len(self._cpus))
            rig.stop()

    @contextlib.contextmanager
    def _fixed(self, threads: int) -> Iterator[Subject]:
        with running() as runner:
            runner.assign((self._built.assignment(), self._built.plan(threads=threads)))
            runner.expect(Ready)
            runner.take()
            yield Subject(runner.address, (runner.process.pid,), _as_long, threads)


def _reaction_s(rig: Rig, begin_ts: float) -> float | None:
    """Wait for the event of fewer threads; None: it did not come, or had come before."""

    def look() -> float | None:
        told = (event.ts for event in list(rig.observer.events) if event.kind == "threads")
        return next((ts - begin_ts for ts in told if ts >= begin_ts), None)

    with contextlib.suppress(AssertionError):
        return wait_for("fewer threads", look, GIVE_UP_S)
    return None


def _as_long(_begin_ts: float) -> None:
    time.sleep(BOUND_S)


def _confine(pid: int, cpu: int) -> None:
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(task.name), {cpu})


def _built(folder: Path, model: Path) -> tuple[Built, dict[int, float]]:
    """Return a cascade of that model alone, and the median ms of an answer by threads."""
    times: dict[int, list[float]] = {1: [], 2: []}
    loaded = {threads: open_model(model, threads) for threads in times}
    shape = loaded[1].inputs[0].shape[1:]
    x = samples(4, *shape)
    inputs = [np.zeros(spec.shape, spec.dtype) for spec in loaded[1].inputs]
    for _ in range(60):
        for threads, one in loaded.items():
            began = time.perf_counter()
            one.run(inputs)
            times[threads].append((time.perf_counter() - began) * 1e3)
    built = build(folder, [Piece("only", model.read_bytes())], x)
    return built, {threads: statistics.median(ms) for threads, ms in times.items()}


def _show(found: dict[tuple[str, str], list[Run]]) -> None:
    for kind in KINDS:
        ours = found[kind, "ours"]
        reactions = [run.reaction_s for run in ours if run.reaction_s is not None]
        in_time = sum(reaction <= BOUND_S for reaction in reactions)
        print(
            f"{kind}: fewer threads within {BOUND_S:g} s (G + 1) in {in_time} of {len(ours)}",
            end="",
        )
        if reactions:
            print(f", median {statistics.median(reactions):.2f} s, longest {max(reactions):.2f} s")
        else:
            print()
        p95 = _medians(found, kind, lambda run: run.p95_ms)
        worst = _medians(found, kind, lambda run: run.worst_change_ms)
        print(f"  longest answer until then: {_listed(worst)}")
        print(f"  p95 afterwards:            {_listed(p95)}")
        ratio = p95["ours"] / min(p95["fixed 1"], p95["fixed 2"])
        verdict = "no worse" if ratio <= WORSE else "WORSE"
        print(f"  ours takes {ratio:.2f} of the better fixed one: {verdict} (bound {WORSE:g})")


def _medians(
    found: dict[tuple[str, str], list[Run]], kind: str, figure: Callable[[Run], float]
) -> dict[str, float]:
    return {policy: statistics.median(map(figure, found[kind, policy])) for policy in POLICIES}


def _listed(ms: dict[str, float]) -> str:
    return ", ".join(f"{policy} {value:.2f} ms" for policy, value in ms.items())


def _p95(times_ms: list[float]) -> float:
    return sorted(times_ms)[round(0.95 * (len(times_ms) - 1))]


if __name__ == "__main__":
    main(sys.argv[1:])
