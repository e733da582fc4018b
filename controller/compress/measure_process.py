"""The child that runs models to measure them. See `controller.compress.measure`."""

import gc
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from controller.compress.measure import (
    JOB,
    Clock,
    Clocked,
    Failed,
    Partition,
    Partitioned,
    Place,
    Region,
    Said,
    Share,
    Weigh,
    Weighed,
)
from controller.compress.timings import timings
from controller.samples import random_inputs
from protocols.errors import SluiceError
from protocols.inference.interpreter import open_with
from protocols.inference.runtime import ModelError, runtime_name

_MIB = 1 << 20
_FIRST_RUNS = 5
_REPORT_S = 0.2
_US = 1e6

Say = Callable[[Said], None]


def main() -> None:
    """Do the job on standard input."""
    say = _speaker()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is expected here and there
    job = JOB.validate_json(sys.stdin.buffer.read())
    try:
        match job:
            case Weigh():
                say(_weigh(job))
            case Clock():
                say(_clock(job, say))
            case Partition():
                say(_partition(job))
    except ModelError as error:
        say(Failed(why=error.why))
    except SluiceError as error:
        say(Failed(why=str(error)))
    except (MemoryError, OSError, ValueError, RuntimeError) as error:
        say(Failed(why=f"{type(error).__name__}: {error}"))


def _speaker() -> Say:
    """Keep standard output for what we say; what the interpreter prints goes to standard error."""
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def say(said: Said) -> None:
        channel.write(said.model_dump_json().encode() + b"\n")

    return say


@dataclass
class _Ready:
    """A model that has its inputs, and has run once."""

    interpreter: Any
    load_s: float
    first_s: float
    runs_us: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    def run(self) -> None:
        """Time one run."""
        cpu_s, began = time.process_time(), time.perf_counter()
        self.interpreter.invoke()
        took_s = time.perf_counter() - began
        self.cpu_s += time.process_time() - cpu_s
        self.runs_us.append(took_s * _US)

    def take_turn(self, runs: int) -> None:
        """Time some runs in a row, with the caches as these leave them."""
        if runs > 1:
            self.interpreter.invoke()
        for _ in range(runs):
            self.run()


def _open(path: str, place: Place, sample_shape: tuple[int, ...] | None) -> _Ready:
    made: list[Any] = []

    def interpreter(*, model_path: str, num_threads: int) -> Any:  # noqa: ANN401 - litert's own
        made.append(Interpreter(model_path=model_path, num_threads=num_threads))
        return made[0]

    began = time.perf_counter()
    model = open_with(interpreter, Path(path), place.threads, sample_shape)
    load_s = time.perf_counter() - began
    inputs = random_inputs(model.inputs, 0)
    for details, values in zip(made[0].get_input_details(), inputs, strict=True):
        made[0].set_tensor(details["index"], values)
    began = time.perf_counter()
    made[0].invoke()
    return _Ready(made[0], load_s, time.perf_counter() - began)


def _keep_to(place: Place) -> None:
    """Stay on the CPUs that are wanted; the pool's threads inherit that."""
    if not place.cpus:
        return
    try:
        os.sched_setaffinity(0, place.cpus)
    except (OSError, AttributeError) as error:
        here = ", ".join(map(str, sorted(os.sched_getaffinity(0)))) if _HAS_AFFINITY else "unknown"
        raise OSError(
            f"cannot keep to CPUs {', '.join(map(str, place.cpus))} ({error}); there are: {here}"
        ) from error


_HAS_AFFINITY = hasattr(os, "sched_getaffinity")


def _weigh(job: Weigh) -> Weighed:
    _keep_to(job.place)
    gc.collect()
    process = psutil.Process()
    before_bytes = process.memory_info().rss
    resets = _reset_peak()
    ready = _open(job.path, job.place, job.sample_shape)
    loaded_bytes = process.memory_info().rss
    for _ in range(_FIRST_RUNS):
        ready.interpreter.invoke()
    peak_bytes = _peak_bytes() if resets else None
    return Weighed(
        runtime=runtime_name() or "",
        load_ms=round(ready.load_s * 1e3, 3),
        first_us=round(ready.first_s * _US, 3),
        load_mib=round(max(0, loaded_bytes - before_bytes) / _MIB, 3),
        peak_mib=None if peak_bytes is None else round((peak_bytes - before_bytes) / _MIB, 3),
    )


def _reset_peak() -> bool:
    """Have the kernel forget the process's peak (proc(5), clear_refs 5); False: it cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        return False
    return True


def _peak_bytes() -> int | None:
    for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def _clock(job: Clock, say: Say) -> Clocked:
    _keep_to(job.place)
    ready = [_open(path, job.place, job.sample_shape) for path in job.paths]
    pace, began = job.pace, time.perf_counter()
    warmed = 1  # the first run of each
    while warmed < pace.warm_runs or time.perf_counter() - began < pace.warm_s:
        for one in ready:
            one.interpreter.invoke()
        warmed += 1
    gc.collect()
    gc.disable()
    began = said_s = time.perf_counter()
    while (spent_s := time.perf_counter() - began) < pace.limit_s:
        rounds = len(ready[0].runs_us)
        share = min(rounds / pace.runs, spent_s / pace.seconds if pace.seconds else 1.0)
        if rounds and share >= 1.0:
            break
        for one in ready:
            one.take_turn(pace.turn)
        if time.perf_counter() - said_s > _REPORT_S:
            said_s = time.perf_counter()
            say(Share(done=max(share, spent_s / pace.limit_s)))
    return Clocked(
        timings=tuple(timings(one.first_s * _US, one.runs_us) for one in ready),
        cpu_s=tuple(one.cpu_s / len(one.runs_us) for one in ready),
    )


def _partition(job: Partition) -> Partitioned:
    """Compare the nodes with and without the default delegate.

    The interpreter keeps a model's own nodes, and appends one for each part that a delegate took.
    """
    plain = Interpreter(
        model_path=job.path,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    operators = len(plain._get_ops_details())  # noqa: SLF001 - the one way to ask for it
    default = Interpreter(model_path=job.path)
    default.allocate_tensors()
    nodes = default._get_ops_details()  # noqa: SLF001
    return Partitioned(
        runtime=runtime_name() or "",
        operators=operators,
        regions=tuple(
            Region(
                inputs=tuple(int(n) for n in node["inputs"]),
                outputs=tuple(int(n) for n in node["outputs"]),
            )
            for node in nodes[operators:]
        ),
    )


if __name__ == "__main__":
    main()
