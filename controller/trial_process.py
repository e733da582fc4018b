"""The child of a trial: opens a model file that may kill it. See `controller.trial`."""

import ctypes
import gc
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from controller.samples import random_inputs
from controller.trial import JOB, Answer, Answered, Examine, Facts, Failed, Progress, Said, Source
from protocols.bundle import Needs, TensorSpec
from protocols.errors import SluiceError
from protocols.inference.runtime import Model, ModelError, load_runtime, open_model, runtime_name
from protocols.inference.tensors import from_sample, hand_on

_MIB = 1 << 20
_REPORT_S = 0.2
_MEASURE_S, _MIN_RUNS, _MAX_RUNS = 0.3, 5, 200
_SAME_ROW = 1e-3

Say = Callable[[Said], None]


def main() -> None:
    """Do the job on standard input."""
    say = _speaker()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is expected here and there
    job = JOB.validate_json(sys.stdin.buffer.read())
    try:
        say(_examine(job) if isinstance(job, Examine) else _answer(job, say))
    except ModelError as error:
        say(Failed(why=error.why))
    except SluiceError as error:
        say(Failed(why=str(error)))
    except (MemoryError, OSError, ImportError) as error:
        say(Failed(why=f"{type(error).__name__}: {error}"))


def _speaker() -> Say:
    """Keep standard output for what we say; what the interpreter prints goes to standard error."""
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def say(said: Said) -> None:
        channel.write(said.model_dump_json().encode() + b"\n")

    return say


def _examine(job: Examine) -> Facts:
    path = Path(job.path)
    load_runtime()
    cold, sample_shape = _open_for_one(path, job.sample_shape)
    cold.run([np.zeros(spec.shape, spec.dtype) for spec in cold.inputs])
    cold.close()
    del cold
    _give_back()
    before_bytes, began = psutil.Process().memory_info().rss, time.perf_counter()
    model = open_model(path, 1, sample_shape)
    load_ms = (time.perf_counter() - began) * 1e3
    inputs = random_inputs(model.inputs, 0)
    model.run(inputs)
    grown_bytes = psutil.Process().memory_info().rss - before_bytes
    return Facts(
        inputs=model.inputs,
        outputs=model.outputs,
        needs=Needs(
            load_mib=round(max(0, grown_bytes) / _MIB, 2),
            load_ms=round(load_ms, 3),
            answer_ms=round(_answer_ms(model, inputs), 4),
        ),
        runtime=runtime_name() or "",
    )


def _open_for_one(
    path: Path, sample_shape: tuple[int, ...] | None
) -> tuple[Model, tuple[int, ...] | None]:
    """Open a model so that it takes one sample; return it and the sample shape that it took.

    Raises:
        ModelError: it does not open, or it takes several samples and cannot be resized.
    """
    model = open_model(path, 1, sample_shape)
    batch = _batch(model)
    if batch is None or sample_shape == model.inputs[0].shape:
        return model, sample_shape
    one = open_model(path, 1, model.inputs[0].shape[1:])
    if not _answers_alike(model, one, batch):
        return model, sample_shape
    return one, model.inputs[0].shape[1:]


def _batch(model: Model) -> int | None:
    """Return how many samples a model seems to take at a time; None: one."""
    shapes = [spec.shape for spec in (*model.inputs, *model.outputs)]
    first = {shape[0] for shape in shapes if len(shape) > 1}
    several = len(first) == 1 and first != {1} and all(len(shape) > 1 for shape in shapes)
    return first.pop() if several and len(model.inputs) == 1 else None


def _answers_alike(whole: Model, one: Model, batch: int) -> bool:
    """Whether one row of a batch is answered as the same row alone is: axis 0 is a batch."""
    (row,) = random_inputs(one.inputs, 1)
    rows = whole.run([np.concatenate([row] * batch)])
    return all(
        alone.shape[:1] == (1,)
        and np.allclose(together[0], alone[0], rtol=_SAME_ROW, atol=_SAME_ROW, equal_nan=True)
        for together, alone in zip(rows, one.run([row]), strict=True)
    )


def _answer_ms(model: Model, inputs: list[NDArray[Any]]) -> float:
    """Return the median time of an answer, in milliseconds."""
    took_s: list[float] = []
    while len(took_s) < _MIN_RUNS or (sum(took_s) < _MEASURE_S and len(took_s) < _MAX_RUNS):
        began = time.perf_counter()
        model.run(inputs)
        took_s.append(time.perf_counter() - began)
    return median(took_s) * 1e3


def _answer(job: Answer, say: Say) -> Answered:
    shape = job.inputs[0].shape if job.inputs else job.sources[0].spec.shape
    model = open_model(Path(job.path), 1, shape[1:] if shape[:1] == (1,) else shape)
    if job.inputs and (model.inputs != job.inputs or model.outputs != job.outputs):
        raise ModelError(Path(job.path).name, "its tensors are not those that it was added with")
    rows = [np.load(source.path, mmap_mode="r") for source in job.sources]
    count, said_s = len(rows[0]), time.monotonic()
    results = [
        np.lib.format.open_memmap(
            Path(job.folder) / f"{number}.npy",
            mode="w+",
            dtype=np.dtype(spec.dtype),
            shape=(count, *spec.shape),
        )
        for number, spec in enumerate(model.outputs)
    ]
    for index in range(count):
        inputs = [
            _input(row[index], source, spec)
            for row, source, spec in zip(rows, job.sources, model.inputs, strict=True)
        ]
        for result, values in zip(results, model.run(inputs), strict=True):
            result[index] = values
        if time.monotonic() - said_s >= _REPORT_S:
            said_s = time.monotonic()
            say(Progress(done=index + 1))
    for result in results:
        result.flush()
    return Answered(outputs=model.outputs)


def _input(row: NDArray[Any], source: Source, spec: TensorSpec) -> NDArray[Any]:
    take = from_sample if source.is_request else hand_on
    return take(np.asarray(row), source.spec, spec)


def _give_back() -> None:
    """Return freed memory to the system, so that what a second load adds can be seen."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


if __name__ == "__main__":
    main()
