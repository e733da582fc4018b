"""What the runner should do: schedule, rungs, pins and the CPU mask folded into plans. Pure.

Who wins, from the strongest:

1. R4 and C4, whatever asked for them: nothing is loaded, or requests are paused. A pin never
   overrides a hard limit.
2. The planner's `dropped`: those stages are not on the device at all.
3. Pins, a person's word: they override every other rung, of the schedule and of the governor.
4. The rungs, in the schedule that the desired document has for the cascade, else its bundle's own.
"""

import math
from collections.abc import Iterable, Sequence

from agent.placement import clamp
from agent.runner.control import CascadePlan, Residence, StageTarget
from protocols.bundle import Bundle
from protocols.desired import Desired, DesiredCascade, StagePin
from protocols.device import Rungs
from protocols.memory import load_floor_percent
from protocols.schedule import (
    WORST,
    CascadeSchedule,
    ComputeRung,
    Dwell,
    ResidencyRung,
    Schedule,
    StageCompute,
)

_RETRY_AFTER_S = 5
_LONGEST_RETRY_S = 60

Pins = dict[str, StagePin]


def runner_plans(
    desired: Desired,
    cascades: Iterable[tuple[DesiredCascade, Bundle]],
    rungs: Rungs,
    allowed_cpus: Sequence[int],
) -> tuple[CascadePlan, ...]:
    """Return what each cascade that a runner has should do now.

    Args:
        desired: its schedule and pins are used; the cascades that serve may be older ones.
        cascades: what the runner was started for, with their bundles.
        rungs: where the governor stands.
        allowed_cpus: the CPUs that this process may use.
    """
    return tuple(
        _cascade_plan(
            wanted,
            bundle,
            schedule_of(desired, bundle),
            {pin.stage: pin for pin in desired.pins if pin.cascade == bundle.name},
            rungs,
            allowed_cpus,
            desired.schedule,
        )
        for wanted, bundle in cascades
    )


def schedule_of(desired: Desired, bundle: Bundle) -> CascadeSchedule:
    """Return the cascade's rows: the desired document's where they fit the bundle's stages."""
    given = desired.schedule.cascades.get(bundle.name)
    if given is None or not fits_stages(given, bundle):
        return bundle.schedule
    return given


def fits_stages(schedule: CascadeSchedule, bundle: Bundle) -> bool:
    """Whether a schedule names this bundle's stages and no others."""
    names = {stage.name for stage in bundle.stages}
    return all(set(rung.stages) == names for rung in schedule.compute) and all(
        {*rung.resident, *rung.on_demand} <= names for rung in schedule.residency
    )


def resident_stages(
    desired: Desired, wanted: DesiredCascade, bundle: Bundle, residency: int
) -> tuple[str, ...]:
    """Return the stages that are loaded and stay loaded at a residency rung, pins included."""
    rung = schedule_of(desired, bundle).residency[residency]
    pins = {pin.stage: pin for pin in desired.pins if pin.cascade == bundle.name}
    return tuple(
        stage.name
        for stage in bundle.stages
        if _residence(stage.name, rung, wanted.dropped, pins, residency) == "resident"
    )


def _cascade_plan(  # noqa: PLR0913, PLR0917 - everything that has a say
    wanted: DesiredCascade,
    bundle: Bundle,
    schedule: CascadeSchedule,
    pins: Pins,
    rungs: Rungs,
    allowed_cpus: Sequence[int],
    device: Schedule,
) -> CascadePlan:
    residency = schedule.residency[rungs.residency]
    compute = schedule.compute[rungs.compute]
    targets = tuple(
        _target(
            stage.name,
            _residence(stage.name, residency, wanted.dropped, pins, rungs.residency),
            compute.stages[stage.name],
            pins.get(stage.name),
            allowed_cpus,
        )
        for stage in bundle.stages
    )
    paused = _paused(targets, compute, wanted.dropped, pins, rungs)
    held = any(pin.loaded for pin in pins.values())
    return CascadePlan(
        name=bundle.name,
        stages=targets,
        paused=paused,
        idle_unload_s=residency.idle_unload_s,
        one_at_a_time=residency.one_at_a_time and not held,
        memory_floor_percent=load_floor_percent(device.thresholds.get("memory_available_percent")),
        threshold_index=threshold_index(bundle, wanted.variants, schedule, compute),
        certified=_certified(bundle, wanted.variants, targets),
        escalations_per_s=compute.escalations_per_s,
        request_interval_s=rungs.request_interval_s if compute.spaced else 0.0,
        retry_after_s=_retry_after_s(device.dwell) if paused else _RETRY_AFTER_S,
    )


def _residence(
    name: str, rung: ResidencyRung, dropped: Sequence[str], pins: Pins, residency: int
) -> Residence:
    if residency == WORST or name in dropped:
        return "out"
    pin = pins.get(name)
    if pin is not None and pin.loaded is not None:
        return "resident" if pin.loaded else "out"
    if name in rung.resident:
        return "resident"
    return "on_demand" if name in rung.on_demand else "out"


def _target(
    name: str,
    residence: Residence,
    compute: StageCompute,
    pin: StagePin | None,
    allowed_cpus: Sequence[int],
) -> StageTarget:
    threads, cpus = compute.threads, compute.cpus
    if pin is not None and pin.threads is not None:
        # A person may ask for more threads than the schedule has CPUs for: they get any CPUs.
        cpus = cpus if cpus is not None and pin.threads <= len(cpus) else None
        threads = pin.threads
    threads, cpus = clamp(threads, cpus, allowed_cpus)
    return StageTarget(
        name=name,
        residence=residence,
        layout=compute.layout,
        threads=threads,
        cpus=cpus,
        nice=compute.nice,
    )


def _paused(
    targets: Sequence[StageTarget],
    compute: ComputeRung,
    dropped: Sequence[str],
    pins: Pins,
    rungs: Rungs,
) -> str | None:
    if rungs.residency == WORST:
        return f"memory: {rungs.residency_cause or 'residency rung R4'}"
    if rungs.compute == WORST or compute.paused:
        return f"compute: {rungs.compute_cause or f'compute rung C{rungs.compute}'}"
    first = targets[0]
    if first.residence != "out":
        return None
    if first.name in dropped:
        return f"stage {first.name} is dropped by the planner"
    if first.name in pins:
        return f"stage {first.name} is unloaded by a pin; `ctl unpin` takes it back"
    return f"memory: stage {first.name} is unloaded at rung R{rungs.residency}"


def threshold_index(
    bundle: Bundle, variants: dict[str, str], schedule: CascadeSchedule, compute: ComputeRung
) -> int:
    """Return the step of the certified ladders to use; a shorter ladder stays at its last."""
    certificate = bundle.certificate(variants)
    ladders = [len(ladder) for ladder in certificate.gates.values()] if certificate else []
    last = max(0, max(ladders, default=1) - 1)
    return min(schedule.base_threshold + compute.threshold_step, last)


def _certified(bundle: Bundle, variants: dict[str, str], targets: Sequence[StageTarget]) -> bool:
    """Every stage can answer, and what was proved is proved of these variants."""
    if any(target.residence == "out" for target in targets):
        return False
    gated = any(stage.metric is not None for stage in bundle.stages[:-1])
    return not gated or bundle.certificate(variants) is not None


def _retry_after_s(dwell: Dwell) -> int:
    return math.ceil(min(max(dwell.recover_s, 1.0), _LONGEST_RETRY_S))
