"""The thread schedule: what a device does at every rung, and what makes it take one.

Two ladders, because CPU pressure must not unload models (loading them again costs CPU):

* residency, from memory: R0 all resident; R1 later stages leave when idle; R2 one stage at a time;
  R3 only what the first answer takes, answers marked degraded; R4 nothing loaded, requests get 503.
* compute, from CPU, heat and battery: C0 as tuned; C1 fewer threads, nice +5; C2 the next certified
  threshold and a token bucket on escalations; C3 one thread, requests spaced by AIMD; C4 paused.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from protocols.message import Message, Name, Part

RUNGS = 5
WORST = RUNGS - 1

Ladder = Literal["residency", "compute"]
Signal = Literal[
    "memory_available_percent",
    "psi_memory_some_avg10",
    "psi_memory_full_avg10",
    "foreign_cpu_percent",
    "temperature_c",
    "throttled",
    "low_voltage",
    "battery_percent",
    "battery_temperature_c",
]

LADDER_OF: dict[Signal, Ladder] = {
    "memory_available_percent": "residency",
    "psi_memory_some_avg10": "residency",
    "psi_memory_full_avg10": "residency",
    "foreign_cpu_percent": "compute",
    "temperature_c": "compute",
    "throttled": "compute",
    "low_voltage": "compute",
    "battery_percent": "compute",
    "battery_temperature_c": "compute",
}

Enter = tuple[float | None, float | None, float | None, float | None]


class Threshold(Part):
    """What a signal must reach to ask for rungs 1 to 4 (null: never asks for that rung).

    `hard` asks for rung 4 at the next sample, without the hold. `falling` signals ask when the
    value is at or below the line (memory available, battery), the others at or above it.
    """

    enter: Enter
    hard: float | None = None
    falling: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        lines = [line for line in (*self.enter, self.hard) if line is not None]
        if lines != sorted(lines, reverse=self.falling):
            order = "fall" if self.falling else "rise"
            raise ValueError(f"lines must {order} from rung 1 to rung 4 and hard, got {lines}")
        return self


DEFAULT_THRESHOLDS: dict[Signal, Threshold] = {
    "memory_available_percent": Threshold(enter=(25, 18, 13, 8), hard=6, falling=True),
    "psi_memory_some_avg10": Threshold(enter=(5, 10, 20, 40)),
    "psi_memory_full_avg10": Threshold(enter=(None, None, None, None), hard=10),
    "foreign_cpu_percent": Threshold(enter=(45, 70, 85, 95)),
    "temperature_c": Threshold(enter=(70, 75, 79, 82), hard=83),
    "throttled": Threshold(enter=(None, 1, None, None)),
    "low_voltage": Threshold(enter=(None, 1, None, None)),
    "battery_percent": Threshold(enter=(40, 25, 15, 7), falling=True),
    "battery_temperature_c": Threshold(enter=(39, 42, 45, 47), hard=48),
}
"""The default lines (architecture, section 2). `throttled` is 1 when any of bits 1 to 3 is set,
`low_voltage` when the supply is too weak: before the board throttles for it, or falls over.
Foreign CPU asks for rung 1 where one of two CPUs, or two of four, is gone: that is 50 % and hardly
ever all of it, since we and the kernel are there too."""


class Dwell(Part):
    """How long a signal must last before the governor moves, and how often it may move back."""

    hold_s: float = Field(4.0, ge=0, description="G: a signal holds so long to enter a rung")
    recover_s: float = Field(120.0, gt=0, description="D: time a rung before recovering by one")
    up_moves_per_hour: int = Field(6, ge=1, description="recoveries that may begin in any hour")
    stale_s: float = Field(10.0, gt=0, description="a gap between samples after which one is stale")


class Downloads(Part):
    """What a device may fetch, and how fast. Manifests and chunk lists always pass: small."""

    large_mib: float = Field(32.0, ge=0, description="with more than this to fetch, it is large")
    battery_percent: float = Field(
        30.0, ge=0, le=100, description="no large download below this, unless plugged"
    )
    metered: bool = Field(
        default=False, description="whether a large download may use a metered link"
    )
    kib_per_s: float | None = Field(None, ge=1, description="bandwidth cap; null: no limit")
    mib_per_day: float | None = Field(None, ge=1, description="in a UTC day; null: no limit")


class Power(Part):
    """What a battery is spent on, while nothing else feeds the device (`LADDER_OF`: answering)."""

    apply_percent: float = Field(15.0, ge=0, le=100, description="below this a new bundle waits")
    resume_percent: float = Field(
        30.0, ge=0, le=100, description="from this on one that waits is loaded"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.resume_percent < self.apply_percent:
            raise ValueError(
                f"resume_percent must be at least apply_percent, got {self.resume_percent:g} and "
                f"{self.apply_percent:g}"
            )
        return self


Threads = Annotated[int, Field(ge=1, le=256)]


Layout = Literal["intra-op", "replicas", "pipeline"]
"""How the threads of a stage are used.

`intra-op`: one interpreter with so many threads. `replicas`: so many interpreters of one thread
each, requests side by side. `pipeline`: one interpreter on CPUs that no other stage of the cascade
uses, so that part k of one request runs beside part k + 1 of the request before it.
"""


class StageCompute(Part):
    """How one stage runs at one compute rung."""

    layout: Layout = "intra-op"
    threads: Threads = 1
    cpus: tuple[int, ...] | None = Field(None, description="null: any that are allowed")
    nice: int = Field(0, ge=0, le=19)


class ComputeRung(Part):
    """What one cascade does at one compute rung."""

    stages: dict[Name, StageCompute]
    threshold_step: int = Field(0, ge=0, description="down the ladder from the base one")
    escalations_per_s: float | None = Field(None, ge=0, description="token bucket; null: no limit")
    spaced: bool = False
    """Requests are spaced by the governor's AIMD interval."""
    paused: bool = False


class ResidencyRung(Part):
    """Which stages of one cascade stay loaded at one residency rung."""

    resident: tuple[Name, ...] = Field(description="stages that are loaded and stay loaded")
    on_demand: tuple[Name, ...] = Field((), description="loaded when a request needs them")
    idle_unload_s: float | None = Field(None, gt=0, description="unused, they leave after")
    one_at_a_time: bool = False
    """At most one stage is loaded at any moment."""


class CascadeSchedule(Part):
    """One cascade's row for every rung of both ladders; index 0 is the best."""

    base_threshold: int = Field(0, ge=0, description="index of C0's step in the ladder")
    compute: tuple[ComputeRung, ComputeRung, ComputeRung, ComputeRung, ComputeRung]
    residency: tuple[ResidencyRung, ResidencyRung, ResidencyRung, ResidencyRung, ResidencyRung]


class Window(Part):
    """A time of day in which a device does no better than a rung, for example quiet hours.

    Minutes since midnight, local time; a window whose end is before its start spans midnight,
    and one whose end is its start lasts the whole day.
    """

    start_minute: int = Field(ge=0, lt=1440)
    end_minute: int = Field(ge=0, lt=1440)
    compute: int = Field(0, ge=0, le=WORST)
    residency: int = Field(0, ge=0, le=WORST)


class Wishes(Part):
    """What a person wants of a cascade's speed; the schedule compiler meets it where it can."""

    goal: Literal["latency", "throughput", "energy"] = "latency"
    latency_ms: float | None = Field(None, gt=0, description="p95 of an answer, at C0")
    joules: float | None = Field(None, gt=0, description="of an answer, mean, at C0")
    quiet: tuple[Window, ...] = Field((), max_length=16, description="quiet hours")


class Schedule(Message):
    """A device's whole schedule: signals and dwell for the device, rungs for each cascade."""

    KIND: ClassVar[str] = "schedule"

    version: int = Field(0, ge=0, description="a person's, by cascade, from 1 on; 0: compiled")
    thresholds: dict[Signal, Threshold] = DEFAULT_THRESHOLDS
    dwell: Dwell = Dwell()
    downloads: Downloads = Downloads()
    power: Power = Power()
    windows: tuple[Window, ...] = ()
    cascades: dict[Name, CascadeSchedule] = {}


DEFAULT_ESCALATIONS_PER_S = {2: 5.0, 3: 2.0}
"""By compute rung, for devices that have not measured what an escalation costs."""


def default_cascade_schedule(
    stages: tuple[str, ...],
    threads: int,
    cpus: tuple[int, ...] | None = None,
    base_threshold: int = 0,
    idle_unload_s: float = 30.0,
    first: int = 1,
) -> CascadeSchedule:
    """Return the architecture's ladders for a cascade whose stages run best with `threads`.

    Args:
        stages: stage names, in order.
        threads: intra-op threads of every stage at C0, at least 1.
        cpus: the CPUs that suit the stages at C0; None leaves that to the device.
        base_threshold: index of C0's threshold in the certified ladder.
        idle_unload_s: at R1, seconds without use after which a later stage leaves.
        first: how many stages, from the first one on, stay at R1 and R3. More than one where the
            first answer takes more: a trunk, and the exit that reads it.
    """

    def run(count: int, nice: int) -> dict[str, StageCompute]:
        mine = None if cpus is None else cpus[:count]
        return {name: StageCompute(threads=count, cpus=mine, nice=nice) for name in stages}

    fewer = max(1, threads // 2)
    kept, later, rate = stages[:first], stages[first:], DEFAULT_ESCALATIONS_PER_S
    return CascadeSchedule(
        base_threshold=base_threshold,
        compute=(
            ComputeRung(stages=run(threads, 0)),
            ComputeRung(stages=run(fewer, 5)),
            ComputeRung(stages=run(fewer, 5), threshold_step=1, escalations_per_s=rate[2]),
            ComputeRung(
                stages=run(1, 10), threshold_step=1, escalations_per_s=rate[3], spaced=True
            ),
            ComputeRung(stages=run(1, 10), threshold_step=1, paused=True),
        ),
        residency=(
            ResidencyRung(resident=stages),
            ResidencyRung(resident=kept, on_demand=later, idle_unload_s=idle_unload_s),
            ResidencyRung(
                resident=(), on_demand=stages, idle_unload_s=idle_unload_s, one_at_a_time=True
            ),
            ResidencyRung(resident=kept),
            ResidencyRung(resident=()),
        ),
    )
