"""What a device measured of the models it has: time, CPU, memory and energy of each layout.

The tuner on the device writes profiles, the inventory carries them, and the schedule compiler in
the controller turns them into rows. A figure is of one artifact, on one runtime, kernel and CPU
mask (`ProfileKey`): change one of them, and it says nothing any more.
"""

from typing import Literal

from pydantic import Field

from protocols.message import Part, Sha256
from protocols.schedule import Layout, Threads

EnergyMethod = Literal["meter", "rail", "battery", "model"]
"""Where joules come from: an external meter, the board's own rail sensors, the battery's current,
or CPU seconds times watts, which is an estimate. Figures of two methods are never compared."""


class Energy(Part):
    """Energy of one answer, with the method by which it was found."""

    joules: float = Field(ge=0)
    method: EnergyMethod


class LayoutRun(Part):
    """One way to run a model, as it was measured."""

    layout: Layout = "intra-op"
    threads: Threads = Field(1, description="intra-op threads, or replicas of one thread")
    cpus: tuple[int, ...] | None = Field(None, description="null: any of the mask")
    count: int = Field(ge=1, description="answers that were measured")
    p50_ms: float = Field(ge=0)
    p95_ms: float = Field(ge=0)
    answers_per_s: float = Field(ge=0, description="with as many requests at once as it can take")
    cpu_ms: float = Field(ge=0, description="CPU time of one answer, all threads")
    load_ms: float = Field(ge=0, description="from the file to the end of the first answer")
    peak_rss_mib: float = Field(ge=0, description="that loading and answering added, at most")
    energy: Energy | None = Field(None, description="null: there is no source")


class ProfileKey(Part):
    """What a profile holds for."""

    artifact: Sha256
    runtime: str = Field(max_length=128, description="interpreter and version")
    kernel: str | None = Field(None, max_length=128)
    cpus: tuple[int, ...] = Field(max_length=1024, description="the allowed mask, in order")


class StageProfile(Part):
    """All the runs of one artifact that were carried to the end."""

    key: ProfileKey
    measured_ts: float = Field(description="Unix time in seconds")
    runs: tuple[LayoutRun, ...] = Field(min_length=1, max_length=32)

    @property
    def for_latency(self) -> LayoutRun:
        """The run whose answer comes soonest, by the 95th percentile; then the fewest CPU-ms."""
        return min(self.runs, key=lambda run: (run.p95_ms, run.cpu_ms, run.threads))

    @property
    def for_throughput(self) -> LayoutRun:
        """The run that gives most answers in a second; then the fewest CPU-ms."""
        return min(self.runs, key=lambda run: (-run.answers_per_s, run.cpu_ms, run.threads))
