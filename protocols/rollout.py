"""How a deployment reaches its devices, wave by wave, and how far it has come.

A person signs the `Strategy` with the deployment. The controller signs the `Rollout`, which holds
all that it has to remember, so that any other controller can go on from there.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from protocols.bundle import CONFIDENCE_BINS
from protocols.message import Message, Name, Part

Selector = dict[str, Annotated[str, Field(max_length=256)]]
"""Labels that a device must have, all of them; empty: every device."""

MAX_BASELINES = 128
"""Devices of a wave of which is remembered how they were before; more add nothing to a verdict."""

MAX_FINDINGS = 64


class Wave(Part):
    """How many devices have the bundle when a wave is over, those of earlier waves included."""

    percent: float | None = Field(None, gt=0, le=100, description="of all, rounded up")
    count: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.percent is None) is (self.count is None):
            raise ValueError("a wave is a percentage or a number of devices")
        return self


Limit = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Gates(Part):
    """What a device may do with the new bundle before it counts as unhealthy; null: anything.

    A device that refuses or rejects the bundle, quarantines it or cannot fit it is always
    unhealthy.
    """

    unhealthy: Share = Field(
        0.02, description="share of the devices reached that may be, rounded down"
    )
    failed: Share | None = Field(0.01, description="share of requests that end in an error")
    degraded: Share | None = Field(
        0.2, description="how far the share of degraded or turned down ones may rise above before"
    )
    deaths: Limit | None = Field(0, description="deaths of the runner blamed on the cascade")
    p95: Limit | None = Field(1.5, description="p95 of an answer, as a multiple of that before")
    escalated: Share | None = Field(
        0.1,
        description="how far escalations per answer may be above what the certificate says, and "
        "above those before",
    )
    battery: Limit | None = Field(20, description="percentage points an hour, while unplugged")
    confidence: bool = Field(
        default=True, description="whether confidences may not drift from those of the calibration"
    )


class Strategy(Part):
    """How a deployment reaches its devices. Waves in order; the last one is always all of them."""

    canary: Selector | None = Field(None, description="the first wave: devices with these labels")
    waves: tuple[Wave, ...] = Field((), max_length=32)
    per_minute: int | None = Field(
        None, ge=1, description="devices reached in any minute, at most; null: at once"
    )
    soak_s: float = Field(600.0, ge=0, description="a wave runs so long before the next one")
    gates: Gates = Gates()


GateName = Literal[
    "bundle",
    "failed",
    "degraded",
    "deaths",
    "p95",
    "escalated",
    "battery",
    "confidence",
    "state",
]
"""`bundle`: the device does not run it (refused, rejected, quarantined, cannot fit). `state`:
nobody knows any more how far the rollout had come, or whether it had stopped."""


class Finding(Part):
    """What a gate found."""

    gate: GateName
    device: Name | None = Field(None, description="null: of all devices together")
    message: str = Field(max_length=512, description="the figures, for a person")


class Baseline(Part):
    """What has to be remembered of a device: how it was before it got the bundle; null: not known.

    `slow_s` is since when it is over the limit of its p95, which a moment's load can lift.
    """

    p95_ms: float | None = None
    degraded: float | None = Field(None, description="share of its requests, turned down included")
    escalated: float | None = Field(None, description="per answer")
    deaths: int = 0
    battery_percent: float | None = Field(
        None, description="unplugged, when its wave began to soak"
    )
    slow_s: float | None = Field(None, description="Unix time")


class ConfidenceWindow(Part):
    """Where the current window of a gated stage's confidences began."""

    start: tuple[int, ...] = Field((), max_length=CONFIDENCE_BINS, description="summed over all")
    shifted: bool = Field(default=False, description="whether the window before had drifted")
    excused: bool = Field(
        default=False, description="whether devices without the bundle have drifted, too"
    )


RolloutPhase = Literal["reaching", "soaking", "paused", "stopped", "completed"]
"""`reaching`: devices of the wave are still being told. `soaking`: all that are connected run it
and are watched. `paused`: a person holds it; with findings: its state may have been lost, and it
waits for a word. `stopped`: a gate has failed, and the deployment rules nowhere any more."""


class Rollout(Message):
    """`rollouts/<deployment>`: retained envelope, signed by the controller role.

    A device is reached if its place in (0, 1] is at most `admitted`. The place follows from the
    names of deployment and device alone, so no list is kept and who joins later has one, too.
    """

    KIND: ClassVar[str] = "rollout"

    fleet: Name
    deployment: Name
    revision: int = Field(0, ge=0, description="rises with every change")
    phase: RolloutPhase = "reaching"
    wave: int = Field(0, ge=0, description="that is open, from 0")
    promoted: int = Field(0, ge=0, description="of the deployment's, already acted upon")
    admitted: float = Field(0.0, ge=0, le=1)
    admitted_s: float | None = Field(None, description="Unix time when `admitted` last rose")
    wave_s: float = Field(0.0, description="Unix time when the wave was opened")
    soaking_s: float | None = Field(None, description="Unix time when it began to soak")
    ended_s: float | None = Field(None, description="Unix time of the stop or the completion")
    baselines: dict[Name, Baseline] = Field({}, max_length=MAX_BASELINES)
    confidences: dict[Name, ConfidenceWindow] = Field({}, description="by gated stage")
    findings: tuple[Finding, ...] = Field(
        (),
        max_length=MAX_FINDINGS,
        description="why it stopped, what was tolerated, or why it is held without a person's word",
    )
    unhealthy: int = Field(0, ge=0, description="devices, when it ended")
    reached: int = Field(0, ge=0, description="devices, when it ended")
