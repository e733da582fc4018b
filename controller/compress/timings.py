"""Times of many runs in a few figures, named as TFLite's `benchmark_model` names them. Pure."""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from protocols.message import Part

_QUIET_SHARE = 0.8


class Timings(Part):
    """What the runs of one model took, in microseconds."""

    count: int = Field(description="runs that were timed, after the warm-up")
    first: float = Field(description="the first run of all, which prepares what the others reuse")
    min: float
    max: float
    avg: float
    std: float = Field(description="standard deviation of the runs")
    p5: float
    median: float
    p95: float


def timings(first_us: float, runs_us: Sequence[float]) -> Timings:
    """Sum runs up.

    Args:
        first_us: what the first run after loading took.
        runs_us: the timed ones, at least one.
    """
    runs = np.asarray(runs_us, np.float64)
    p5, median, p95 = np.percentile(runs, (5, 50, 95))
    return Timings(
        count=runs.size,
        first=round(first_us, 3),
        min=round(float(runs.min()), 3),
        max=round(float(runs.max()), 3),
        avg=round(float(runs.mean()), 3),
        std=round(float(runs.std()), 3),
        p5=round(float(p5), 3),
        median=round(float(median), 3),
        p95=round(float(p95), 3),
    )


def cpu_share(found: Timings, cpu_s: float) -> float:
    """Return how many CPUs a run had on average: one thread that nobody disturbs has 1.

    Args:
        found: what the runs took.
        cpu_s: CPU seconds of one run.
    """
    return cpu_s * 1e6 / found.avg


def was_disturbed(found: Timings, cpu_s: float, threads: int) -> bool:
    """Whether other work took the CPU away so often that wall times say little.

    Long runs are then hit more often than short ones, so that even ratios of medians are off;
    CPU seconds and minima are not. With several threads it cannot be told.
    """
    return threads == 1 and cpu_share(found, cpu_s) < _QUIET_SHARE
