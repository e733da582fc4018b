"""What a device says of itself: status, inventory, telemetry, events and its reported document."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from protocols.bundle import CONFIDENCE_BINS, BundleRef
from protocols.enrolment import Enrolment
from protocols.message import Message, Name, Part
from protocols.profile import EnergyMethod, StageProfile
from protocols.schedule import WORST, Layout


class Status(Message):
    """`devices/<id>/status`: retained, and the last will."""

    KIND: ClassVar[str] = "status"

    device: Name
    online: bool
    boot_id: str = Field(
        description="of this run of the agent; a will of an older run is told apart"
    )
    version: str = Field(description="of the agent")


CoreSource = Literal["cpu_capacity", "cpuinfo_max_freq", "midr", "measured"]
"""What tells a device which of its CPUs are alike (docs/sensors.md)."""


class CoreClass(Part):
    """CPUs that are alike: the big or the LITTLE ones."""

    cpus: tuple[int, ...]
    capacity: int = Field(description="relative speed, 1024 for the fastest")
    max_mhz: float | None = None


class Inventory(Message):
    """`devices/<id>/inventory`: what hardly ever changes while the agent runs."""

    KIND: ClassVar[str] = "inventory"

    device: Name
    labels: dict[str, str] = {}
    agent_version: str
    runtime: str | None = Field(
        None, description="interpreter and version, null if none is installed"
    )
    machine: str = Field(description="as uname -m has it")
    model: str | None = Field(None, description="of the board, where the firmware says it")
    kernel: str | None = None
    pointer_bits: int = 64
    cores: tuple[CoreClass, ...] = Field((), description="fastest first, cut by the allowed mask")
    cores_source: CoreSource | None = Field(
        None, description="of these classes; null: nothing tells the CPUs apart, or an older agent"
    )
    memory_mib: float | None = None
    memory_limit_mib: float | None = Field(None, description="of the agent's cgroup, null if none")
    swap_mib: float | None = None
    has_battery: bool = False
    endpoints: tuple[str, ...] = Field(
        (), description="URLs of the inference endpoint on the device"
    )
    profiles: tuple[StageProfile, ...] = Field(
        (), max_length=64, description="what the tuner has measured of the models it has"
    )
    enrolment: Enrolment | None = Field(None, description="null: it came without a file")


class Sample(Part):
    """One reading of the sensors. Null: this machine cannot know it. Never a made-up zero."""

    time_s: float = Field(description="monotonic clock")
    cpu_percent: float | None = Field(None, description="of all CPUs together, 0 to 100")
    own_cpu_percent: float | None = Field(None, description="of agent and runner, same scale")
    foreign_cpu_percent: float | None = Field(
        None, description="busy minus own, and what others had to wait for because of us"
    )
    memory_total_mib: float | None = None
    memory_available_mib: float | None = None
    memory_available_percent: float | None = None
    psi_cpu_some_avg10: float | None = None
    psi_memory_some_avg10: float | None = None
    psi_memory_full_avg10: float | None = None
    temperature_c: float | None = Field(None, description="of the hottest CPU or SoC zone")
    throttled: int | None = Field(None, description="firmware bits, as the board gives them")
    battery_percent: float | None = None
    battery_plugged: bool | None = None
    battery_temperature_c: float | None = None
    low_voltage: bool | None = Field(None, description="the board's supply is too weak right now")
    power_w: float | None = Field(None, ge=0, description="of the whole device")
    power_method: EnergyMethod | None = None
    metered: bool | None = Field(None, description="whether the link to the broker costs")


class Rungs(Part):
    """Where the governor stands on both ladders, and why."""

    residency: int = Field(0, ge=0, le=WORST)
    compute: int = Field(0, ge=0, le=WORST)
    residency_cause: str = ""
    compute_cause: str = ""
    request_interval_s: float = Field(0.0, ge=0, description="spacing of requests at C3, by AIMD")


Count = Annotated[int, Field(ge=0, le=1 << 53)]
"""Of what has happened. Bounded: a reader computes with it, whoever has written it."""


class StageStats(Part):
    """What one stage did since the runner started."""

    name: Name
    variant: Name
    loaded: bool
    layout: Layout | None = Field(None, description="null: not loaded")
    threads: int | None = None
    cpus: tuple[int, ...] | None = Field(None, description="as its threads have them, read back")
    loaded_mib: float | None = Field(None, description="what loading it added, as measured here")
    answers: Count = Field(0, description="requests that left here")
    runs: Count = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    cpu_s: float = 0.0
    joules: float | None = Field(
        None, ge=0, description="of `energy_runs`, by the cascade's method; null: not known"
    )
    energy_runs: Count = Field(0, description="runs whose energy was counted")
    confidence: tuple[Count, ...] | None = Field(
        None,
        max_length=CONFIDENCE_BINS,
        description="of a gated stage: how many answers had which confidence, in equal bins of "
        "[0, 1]; cumulative; null: not counted",
    )


class CascadeStats(Part):
    """What one cascade did since the runner started."""

    name: Name
    version: int
    stages: tuple[StageStats, ...]
    answers: Count = 0
    degraded: Count = 0
    refused: Count = Field(0, description="503 by a rung, or a full queue")
    failed: Count = 0
    escalated: Count = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    energy_method: EnergyMethod | None = Field(
        None, description="of its stages' joules: all by one, another one has counts of its own"
    )
    energy_answers: Count = Field(0, description="answers whose energy was counted")
    deaths: Count = Field(
        0, description="of the runner, this cascade was blamed for; since the agent started"
    )


class Telemetry(Message):
    """`devices/<id>/telemetry`: not retained, QoS 0. Deduplicate by boot id and seq."""

    KIND: ClassVar[str] = "telemetry"

    device: Name
    boot_id: str
    seq: int = Field(ge=0)
    ts: float
    clock_synced: bool | None = None
    uptime_s: float
    sample: Sample
    rungs: Rungs
    cascades: tuple[CascadeStats, ...] = ()
    supervisor_rss_mib: float | None = None
    runner_rss_mib: float | None = None


EventKind = Literal[
    "started",
    "stopping",
    "fetching",
    "applied",
    "loaded",
    "unloaded",
    "threads",
    "rung",
    "refused",
    "rejected",
    "reverted",
    "runner-died",
    "quarantined",
    "sensor-lost",
    "planned",
    "deployment",
    "pinned",
    "tuned",
    "keys",
    "postponed",
]


class Event(Message):
    """`devices/<id>/events`: something happened, and why."""

    KIND: ClassVar[str] = "event"

    device: Name
    boot_id: str
    seq: int = Field(ge=0)
    ts: float
    kind: EventKind
    cascade: Name | None = None
    stage: Name | None = None
    message: str = Field(description="for a person: what, and why")
    returned_bytes: int | None = Field(None, description="by an unload, as measured")
    source: str = Field("agent", description="agent, or the controller that wrote it")


StageState = Literal["absent", "fetching", "verified", "loading", "loaded", "draining", "failed"]


class ReportedStage(Part):
    """One stage of a cascade on the device."""

    name: Name
    variant: Name
    state: StageState
    threads: int | None = None
    message: str = ""


CascadePhase = Literal[
    "fetching", "verified", "starting", "running", "refused", "rejected", "quarantined"
]


WAITS = "waits: "
"""How the message of a cascade begins that the device puts off by itself, and goes on with by
itself: its battery is low, its link costs, or what it may fetch in a day is used up."""


WRONG_BYTES = "cannot accept "
"""How the message of a cascade begins that is rejected because a chunk or an artifact came with
other bytes than the signed ones: whoever has the right ones may put them out again."""


class ReportedCascade(Part):
    """One cascade of the desired document, and how far the device is with it.

    `refused`: not accepted (trust, fit, message). `rejected`: accepted, but its model does not
    load, fit the manifest or answer its golden samples. `quarantined`: it killed the runner twice.
    With each of the three, `running` says what serves instead.
    """

    bundle: BundleRef
    phase: CascadePhase
    running: BundleRef | None = Field(None, description="what answers now, null: nothing")
    stages: tuple[ReportedStage, ...] = ()
    fetched_bytes: int = 0
    total_bytes: int = 0
    message: str = Field(
        "",
        description='"cannot X: why" where the phase is a bad one, "waits: why" where put off',
    )


class Refusal(Part):
    """A desired document that the device did not act on."""

    generation: int | None = None
    message: str


class Reported(Message):
    """`devices/<id>/reported`: retained; the agent makes it match desired."""

    KIND: ClassVar[str] = "reported"

    device: Name
    boot_id: str
    generation: int = Field(0, ge=0, description="the last one accepted; persisted on the device")
    cascades: tuple[ReportedCascade, ...] = ()
    rungs: Rungs = Rungs()
    refusal: Refusal | None = None
    keys_version: int = Field(0, ge=0, description="of the key set that the device trusts")
