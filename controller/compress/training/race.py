"""Models and cascades timed against each other: in one process, in turns, with one thread each.

What other programs do to the machine's speed meets all of them alike. An answer is all that the
device's runner does for one: sample into tensor, interpreter, scores, and the gate of a cascade.
Run as a program it reads a job from standard input and writes what it found to standard output.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from controller.compress.errors import CompressError
from protocols.bundle import Metric
from protocols.inference.gate import confidence, probabilities, top1
from protocols.inference.runtime import Model, open_model
from protocols.inference.tensors import conform, real

METRIC: Metric = "max_prob"
_TURN = 20
"""Samples that one of them answers before it is the next one's turn."""
_WARM_UP = 20
_MIN_ANSWERS = 3000


@dataclass(frozen=True, slots=True)
class Entrant:
    """A model, or a small one before a large one. All give logits.

    Attributes:
        name: for reports.
        stages: one or two files.
        threshold: the first of two answers alone where its highest probability is no less.
    """

    name: str
    stages: tuple[bytes, ...]
    threshold: float = 0.0


@dataclass(frozen=True, slots=True)
class Timed:
    """What one of them did.

    Attributes:
        answers: class of each sample.
        mean_ms, median_ms, p95_ms: wall-clock time of an answer.
        cpu_ms: CPU time of the process for an answer, mean.
        escalated: share of samples that the last stage answered.
        runs: answers that were timed.
    """

    answers: tuple[int, ...]
    mean_ms: float
    median_ms: float
    p95_ms: float
    cpu_ms: float
    escalated: float
    runs: int


@dataclass
class _Lane:
    stages: list[Model]
    threshold: float
    wall_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    answers: list[int] = field(default_factory=list)
    escalated: int = 0

    def answer(self, sample: NDArray[np.float32]) -> tuple[int, int]:
        """Return the class, and the number of the stage that found it."""
        last = len(self.stages) - 1
        for number, model in enumerate(self.stages):
            scores = model.run([conform(sample, model.inputs[0])])[0]
            if number == last:
                break
            chances = probabilities(real(scores, model.outputs[0]), "logits")
            if confidence(chances, METRIC) >= self.threshold:
                break
        return top1(scores, "logits"), number


def race(entrants: Sequence[Entrant], x: NDArray[np.float32]) -> list[Timed]:
    """Let models answer the same samples in turns, in a new process, with one thread.

    Args:
        entrants: float32 or quantized files; each takes one sample of x.
        x: samples, [n, ...].

    Raises:
        CompressError: a model does not run.
    """
    with tempfile.TemporaryDirectory(prefix="sluice-race-") as folder:
        np.save(Path(folder) / "x.npy", x)
        lanes = [_stored(entrant, number, Path(folder)) for number, entrant in enumerate(entrants)]
        done = subprocess.run(
            [sys.executable, "-m", "controller.compress.training.race"],
            input=json.dumps({"samples": str(Path(folder) / "x.npy"), "lanes": lanes}),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        words = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise CompressError(f"cannot time the models: {words}")
    return [Timed(**{**row, "answers": tuple(row["answers"])}) for row in json.loads(done.stdout)]


def _stored(entrant: Entrant, number: int, folder: Path) -> dict[str, object]:
    paths = [folder / f"{number}-{stage}.tflite" for stage in range(len(entrant.stages))]
    for path, content in zip(paths, entrant.stages, strict=True):
        path.write_bytes(content)
    return {"stages": [str(path) for path in paths], "threshold": entrant.threshold}


def _run(lanes: list[_Lane], x: NDArray[np.float32]) -> Iterator[Timed]:
    for lane in lanes:
        for sample in np.resize(x, (_WARM_UP, *x.shape[1:])):
            lane.answer(sample)
    passes = max(1, -(-_MIN_ANSWERS // len(x)))
    for is_first in [True] + [False] * (passes - 1):
        for start in range(0, len(x), _TURN):
            for lane in lanes:
                _take_turn(lane, x[start : start + _TURN], is_first=is_first)
    for lane in lanes:
        wall_ms = np.array(lane.wall_s) * 1e3
        yield Timed(
            answers=tuple(lane.answers),
            mean_ms=float(wall_ms.mean()),
            median_ms=float(np.median(wall_ms)),
            p95_ms=float(np.percentile(wall_ms, 95)),
            cpu_ms=lane.cpu_s * 1e3 / len(wall_ms),
            escalated=lane.escalated / len(x),
            runs=len(wall_ms),
        )


def _take_turn(lane: _Lane, samples: NDArray[np.float32], *, is_first: bool) -> None:
    # The one before has left the caches full of its own weights: that is nobody's cost.
    lane.answer(samples[0])
    begun_cpu_s = time.process_time()
    for sample in samples:
        begun_s = time.perf_counter()
        answer, stage = lane.answer(sample)
        lane.wall_s.append(time.perf_counter() - begun_s)
        if is_first:
            lane.answers.append(answer)
            lane.escalated += stage == len(lane.stages) - 1
    lane.cpu_s += time.process_time() - begun_cpu_s


def _main() -> None:
    job = json.load(sys.stdin)
    lanes = [
        _Lane([open_model(Path(path)) for path in lane["stages"]], lane["threshold"])
        for lane in job["lanes"]
    ]
    json.dump([asdict(timed) for timed in _run(lanes, np.load(job["samples"]))], sys.stdout)


if __name__ == "__main__":
    _main()
