"""When the tuner may run, and which models are worth it. Pure.

It runs while nothing else needs the device: the figures would be wrong otherwise, and it would be
in the way. So for a while both ladders have stood at their best, others hardly use the CPU, no
request has cost much, and the device is not on its battery.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from protocols.device import CascadeStats, Rungs, Sample, StageStats
from protocols.profile import LayoutRun, StageProfile

DRIFT = 0.25
"""A moving latency so far from what was measured ..."""
DRIFT_FOR_S = 600.0
"""... for so long means that the profile is no longer true."""

_FOREIGN_PERCENT = 20.0
_SERVING_CPUS = 0.05
"""Of one CPU: requests that take more than this are work, not idling."""
_MEMORY_PERCENT = 30.0
_AGAIN_S = 3600.0
"""A model that could not be measured is tried again after so long."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the device does besides tuning."""

    sample: Sample
    rungs: Rungs
    serving_cpus: float = 0.0
    """CPUs' worth of time that requests take."""


@dataclass(frozen=True, slots=True)
class Memo:
    """What is remembered between two looks. Times are of the monotonic clock."""

    idle_since_s: float | None = None
    failed_s: Mapping[str, float] = field(default_factory=dict)
    """Artifacts that could not be measured, and when."""
    drifting_s: Mapping[str, float] = field(default_factory=dict)
    """Artifacts whose latency is off, and since when."""


def busy(load: Load) -> str:
    """Say why this is no time to measure; empty: it is one."""
    sample, rungs = load.sample, load.rungs
    foreign, memory = sample.foreign_cpu_percent, sample.memory_available_percent
    reasons = {
        f"the governor is at R{rungs.residency} C{rungs.compute}": rungs.residency or rungs.compute,
        "what others use of the CPU is not known": foreign is None,
        f"others use {foreign or 0:.0f} % of the CPU": (foreign or 0) > _FOREIGN_PERCENT,
        "it is on its battery": (
            sample.battery_percent is not None and sample.battery_plugged is not True
        ),
        f"{memory or 0:.0f} % of the memory are available": (
            memory is not None and memory < _MEMORY_PERCENT
        ),
        "requests are answered": load.serving_cpus > _SERVING_CPUS,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def look(memo: Memo, load: Load, now_s: float) -> Memo:
    """Return what is remembered after a look: since when the device idles."""
    if busy(load):
        return replace(memo, idle_since_s=None)
    return memo if memo.idle_since_s is not None else replace(memo, idle_since_s=now_s)


def is_due(memo: Memo, idle_s: float, now_s: float) -> bool:
    """Whether the device has idled for long enough."""
    return memo.idle_since_s is not None and now_s - memo.idle_since_s >= idle_s


def untuned(
    memo: Memo, artifacts: Iterable[str], known: Iterable[StageProfile], now_s: float
) -> tuple[str, ...]:
    """Return the artifacts that want measuring: without a profile, or with one that drifts.

    Args:
        memo: what is remembered.
        artifacts: of the stages that serve.
        known: profiles that hold for this runtime, kernel and mask.
        now_s: monotonic clock.
    """
    have = {profile.key.artifact for profile in known}
    return tuple(
        artifact
        for artifact in artifacts
        if now_s - memo.failed_s.get(artifact, -_AGAIN_S) >= _AGAIN_S
        and (artifact not in have or _has_drifted(memo, artifact, now_s))
    )


def compare(
    memo: Memo,
    stages: Mapping[str, StageStats],
    known: Iterable[StageProfile],
    rungs: Rungs,
    now_s: float,
) -> Memo:
    """Return what is remembered after telemetry: whose latency is off by more than a quarter.

    Only what runs as tuned is compared: at C0, with a setting that was measured.

    Args:
        memo: what was remembered.
        stages: by artifact, what the stages do now.
        known: profiles that hold.
        rungs: where the governor stands.
        now_s: monotonic clock.
    """
    if rungs.compute:
        return memo
    off = {
        profile.key.artifact
        for profile in known
        if (stage := stages.get(profile.key.artifact)) and _is_off(stage, profile.runs)
    }
    since = {artifact: memo.drifting_s.get(artifact, now_s) for artifact in off}
    return replace(memo, drifting_s=since)


def served(stats: Iterable[CascadeStats]) -> float:
    """Return the CPU seconds that requests have cost so far."""
    return sum(stage.cpu_s for cascade in stats for stage in cascade.stages)


def failed(memo: Memo, artifact: str, now_s: float) -> Memo:
    """Return what is remembered after a model could not be measured."""
    return replace(memo, failed_s={**memo.failed_s, artifact: now_s})


def measured(memo: Memo, artifact: str) -> Memo:
    """Return what is remembered after a model was measured."""
    drifting = {name: since for name, since in memo.drifting_s.items() if name != artifact}
    return replace(memo, drifting_s=drifting)


def _has_drifted(memo: Memo, artifact: str, now_s: float) -> bool:
    return now_s - memo.drifting_s.get(artifact, now_s) >= DRIFT_FOR_S


def _is_off(stage: StageStats, runs: Iterable[LayoutRun]) -> bool:
    run = next((r for r in runs if (r.layout, r.threads) == (stage.layout, stage.threads)), None)
    if run is None or stage.p50_ms is None or not run.p50_ms:
        return False
    return abs(stage.p50_ms / run.p50_ms - 1) > DRIFT
