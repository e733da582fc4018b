"""The child that does one step. See `controller.compress.advise.work`.

What is done here is what the commands do that `controller.compress.advise.commands` prints; a test
runs them and compares the files.
"""

import hashlib
import itertools
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from controller.compress.advise.commands import (
    EPOCHS,
    IMPORTANCE,
    LAST_EPOCHS,
    RATE,
    SEED,
    SPREAD,
    STEPS,
    TEMPERATURE,
    WEIGHT,
)
from controller.compress.advise.recipes import AUTO, Step, Technique
from controller.compress.advise.work import (
    JOB,
    At,
    Failed,
    Made,
    Make,
    OnStep,
    Probe,
    Probed,
    Said,
    Time,
)
from controller.compress.budget import halves
from controller.compress.dedupe import dedupe
from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.layers import layers
from controller.compress.measure import ModelFile, clock, weigh
from controller.compress.metrics import quality
from controller.compress.mixed import Aim, quantize_mixed
from controller.compress.prune import prune, prune_within
from controller.compress.quantize import (
    CALIBRATION_SAMPLES,
    Form,
    check_float,
    choose_calibration,
    quantize,
)
from controller.compress.scorer import Scorer
from controller.compress.search import Judge
from controller.compress.share import share, share_within
from controller.compress.tie import tie_within
from controller.compress.weights import footprint
from controller.samples import Samples, read_samples
from protocols.bundle import ScoreKind
from protocols.errors import SluiceError

if TYPE_CHECKING:
    from controller.compress.training.protocol import Task

_MIB = 1 << 20
_BINARY = 2
_REPORT_S = 0.2
_THINNER = 0.6
"""What a batch takes on the way down from the whole network to a thin one, with its teacher."""

Say = Callable[[Said], None]


def main() -> None:
    """Do the job on standard input; say how it goes on standard output, a JSON line each."""
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print

    def say(said: Said) -> None:
        channel.write(said.model_dump_json().encode() + b"\n")

    job = JOB.validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        match job:
            case Make():
                say(_make(job, say))
            case Probe():
                say(_probe(job))
            case Time():
                files = [ModelFile(Path(path).stem, Path(path)) for path in job.paths]
                say(clock(files, None, job.pace, job.sample_shape))
    except SluiceError as error:
        say(Failed(why=str(error)))
    except (MemoryError, OSError, ValueError, RuntimeError, KeyError, IndexError) as error:
        say(Failed(why=f"cannot do it: {type(error).__name__}: {error}"))


def _end_with_parent() -> None:
    """Kill the group that we lead, ourselves included, once our parent is no more."""
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)


def _make(job: Make, say: Say) -> Made:
    data = job.data
    samples = read_samples(Path(data.path), data.x_key, data.y_key)
    content = Path(job.model).read_bytes()
    if job.step is not None:
        content = _done(job, job.step, content, samples, _speaker(say))
    Path(job.out).write_bytes(content)
    began = time.monotonic()
    accuracies, counts, kind, half_s = _judged(job, content, samples)
    found = footprint(content, job.name)
    graph = Graph.read(content, job.name)
    shape = tuple(map(int, samples.x.shape[1:]))
    return Made(
        sha256=hashlib.sha256(content).hexdigest(),
        file_bytes=found.file_bytes,
        wire_bytes=found.wire_bytes,
        parameters=found.parameters,
        nonzero=found.nonzero,
        accuracy=accuracies[0],
        held_out=accuracies[1],
        halves=counts,
        kind=kind,
        layers=len(layers(graph)),
        why_narrow=_why_narrow(content, job.name),
        sample_shape=shape,
        memory_bytes=_memory(job, shape) if job.weigh else None,
        measure_s=time.monotonic() - began,
        half_s=half_s,
    )


def _speaker(say: Say) -> OnStep:
    """Return what says how far it is, though not too often."""
    last_s = -_REPORT_S

    def on_step(title: str, done: int, total: int) -> None:
        nonlocal last_s
        if time.monotonic() - last_s > _REPORT_S:
            last_s = time.monotonic()
            say(At(title=title, done=done, total=total))

    return on_step


def _judged(
    job: Make, content: bytes, samples: Samples
) -> tuple[tuple[float, float], tuple[int, int], ScoreKind, float]:
    """Return the accuracy on both halves, their sizes, the kind of the scores, and seconds."""
    parts = halves(samples)
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(Scorer(part, job.data.scores)) for part in parts)
        began = time.monotonic()
        kind = job.kind or ours.kind(content, job.name)
        first = _accuracy(ours, content, job.name, kind)
        half_s = time.monotonic() - began
        second = _accuracy(theirs, content, job.name, kind)
    return (first, second), (len(parts[0].x), len(parts[1].x)), kind, half_s


def _accuracy(scorer: Scorer, content: bytes, name: str, kind: ScoreKind) -> float:
    rows = scorer.rows(content, name)
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if broken.size:
        raise CompressError(
            f"cannot judge {name}: NaN or infinite scores for {broken.size} of {len(rows)} samples"
        )
    if scorer.samples.y is None:  # `halves` lets no other through
        raise CompressError(f"cannot judge {name}: there are no labels")
    scorer.samples.check_classes(max(_BINARY, rows.shape[1]))
    return quality(rows, kind, scorer.samples.y).accuracy


def _why_narrow(content: bytes, name: str) -> str:
    try:
        check_float(content, name, f"quantize {name}")
    except CompressError as error:
        return str(error)
    return ""


def _memory(job: Make, sample_shape: tuple[int, ...]) -> float | None:
    found = weigh(ModelFile(job.name, Path(job.out)), None, sample_shape)
    return None if found.peak_mib is None else found.peak_mib * _MIB


def _done(job: Make, step: Step, content: bytes, samples: Samples, on_step: OnStep) -> bytes:
    """Return the model with a step done to it."""
    name = job.name
    match step.technique:
        case Technique.CHANNELS:
            return _channels(job, step, on_step)
        case Technique.DEDUPE:
            return dedupe(content, name)[0]
        case Technique.PRUNE if step.amount != AUTO:
            return prune(content, name, float(step.amount))[0]
        case Technique.PALETTE if step.amount != AUTO:
            return share(content, name, int(step.amount))[0]
        case Technique.PRUNE | Technique.PALETTE | Technique.TIE | Technique.MIXED:
            with Judge(content, name, samples, job.data.scores, on_step) as judge:
                return _searched(judge, step, on_step)
        case form:
            chosen = choose_calibration(samples, CALIBRATION_SAMPLES)
            calibration = chosen if form is Technique.INT8 else None
            return quantize(content, Form(form.value), name, calibration)[0]


def _searched(judge: Judge, step: Step, on_step: OnStep) -> bytes:
    allowed = float(step.max_loss or 0) / 100
    match step.technique:
        case Technique.PRUNE:
            return prune_within(judge, allowed)[0].content
        case Technique.PALETTE:
            return share_within(judge, allowed)[0].content
        case Technique.TIE:
            return tie_within(judge, allowed, on_step)[0]
        case _:
            return quantize_mixed(judge, Aim(allowed))[0].content


def _task(module: str | None) -> "Task":
    """Load a module as the commands that train do."""
    from controller.compress.training.protocol import load_task  # noqa: PLC0415 - needs torch

    if module is None:
        raise CompressError("cannot cut channels: no module was given")
    _quiet_torch()
    return load_task(module)


def _quiet_torch() -> None:
    from controller.compress.training.protocol import check_packages  # noqa: PLC0415

    check_packages()
    import torch  # noqa: PLC0415

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(SEED)


def _channels(job: Make, step: Step, on_step: OnStep) -> bytes:
    from controller.compress.training.channels import Schedule, cut_channels  # noqa: PLC0415
    from controller.compress.training.export import converted  # noqa: PLC0415
    from controller.compress.training.target import parse_target  # noqa: PLC0415
    from controller.compress.training.teach import Lesson  # noqa: PLC0415

    task = _task(job.module)
    schedule = Schedule(
        steps=STEPS,
        between=Lesson(EPOCHS, RATE / 2, WEIGHT, TEMPERATURE),
        last=Lesson(LAST_EPOCHS, RATE, WEIGHT, TEMPERATURE),
        importance=IMPORTANCE,
        spread=SPREAD,
    )
    network, _ = cut_channels(task, parse_target(step.amount), schedule, on_step)
    return converted(task, network, "channels")


def _probe(job: Probe) -> Probed:
    """Time some batches of teaching the whole network by itself, and count those of an epoch."""
    import copy  # noqa: PLC0415

    import torch  # noqa: PLC0415

    task = _task(job.module)
    student = copy.deepcopy(task.network).train()
    for parameter in student.parameters():
        parameter.requires_grad_(requires_grad=True)
    batches = sum(1 for _ in task.train)
    began, done = time.monotonic(), 0
    for x, y in itertools.islice(task.train, max(1, batches)):
        with torch.no_grad():
            task.network(x)
        task.loss(student(x), y).backward()
        done += 1
        if time.monotonic() - began > job.seconds:
            break
    batch_s = (time.monotonic() - began) / max(1, done)
    epochs = EPOCHS * (STEPS - 1) + LAST_EPOCHS
    return Probed(
        training_s=_THINNER * epochs * batches * batch_s,
        sample_shape=tuple(task.example.shape[1:]),
    )


if __name__ == "__main__":
    main()
