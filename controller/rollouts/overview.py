"""A rollout at a glance: its waves, how many devices of each run it, and what keeps it. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from controller.fleet import Device, Fleet
from controller.progress import (
    PENDING,
    DeviceProgress,
    Outcome,
    counted,
    outcome,
    progress,
)
from controller.rollouts.evidence import BAD, eligible, judge_device
from controller.rollouts.gates import found
from controller.rollouts.waves import (
    ENDED,
    admits,
    goal,
    is_canary,
    is_held,
    is_under_way,
    place,
    wave_names,
)
from protocols.bundle import Bundle
from protocols.desired import Deployment
from protocols.rollout import Finding, Rollout, Strategy

AT_ONCE = Strategy(soak_s=0.0)
"""How a deployment without a strategy reads: one wave of all."""


@dataclass(frozen=True, slots=True)
class WaveStanding:
    """One wave, and how the devices that it adds stand.

    Attributes:
        name: `canary`, `25%`, `all`.
        devices: that it adds to the earlier ones.
        running: how many of them run the bundle.
        others: how many are in which other phase.
        state: `passed`, `open`, `waiting` or `never`: the rollout has ended before. Of the open one
            the rollout's phase says more.
    """

    name: str
    devices: int
    running: int
    others: dict[str, int]
    state: str


@dataclass(frozen=True, slots=True)
class Overview:
    """How a deployment and its rollout stand.

    Attributes:
        deployment: as it is known.
        rollout: its state; None: it has none, or nobody has carried it on yet.
        devices: how far each is.
        waves: in order.
        findings: what the gates say now, or said when it ended.
        lagging: devices that were reached, are connected and do not run it yet.
        away: devices that were reached and are not connected.
        silent: devices that run it and were not heard since the wave began to soak.
        outcome: what a command that ends now ends with.
    """

    deployment: Deployment
    rollout: Rollout | None
    devices: tuple[DeviceProgress, ...]
    waves: tuple[WaveStanding, ...]
    findings: tuple[Finding, ...]
    lagging: tuple[DeviceProgress, ...]
    away: tuple[str, ...]
    silent: tuple[str, ...]
    outcome: Outcome


def overview(deployment: Deployment, fleet: Fleet, bundle: Bundle | None, now_s: float) -> Overview:
    """Return how a deployment stands.

    Args:
        deployment: the fleet's own copy of it, if there, says whether it was changed since.
        fleet: what is known.
        bundle: of the deployment; without it nothing is said of what cannot fit.
        now_s: Unix time in seconds.
    """
    deployment = fleet.deployments.get(deployment.id, deployment)
    rollout = fleet.rollouts.get(deployment.id) if deployment.strategy is not None else None
    devices = progress(deployment, fleet, bundle)
    there = eligible(deployment, fleet)
    by_name = {one.device: one for one in devices}
    reached = [
        by_name[d.name]
        for d in there
        if d.name in by_name and admits(deployment, d, fleet.rollouts)
    ]
    online = {d.name for d in there if d.online}
    waits = [one for one in reached if one.phase not in {"running", *BAD}]
    return Overview(
        deployment,
        rollout,
        devices,
        _waves(deployment, rollout, fleet, by_name),
        _findings(deployment, rollout, there, reached, bundle, now_s),
        tuple(one for one in waits if one.device in online),
        tuple(one.device for one in waits if one.device not in online),
        _silent(rollout, there, reached),
        outcome_of(deployment, fleet, devices),
    )


def outcome_of(deployment: Deployment, fleet: Fleet, devices: Sequence[DeviceProgress]) -> Outcome:
    """Return how a deployment stands; one whose rollout has not ended is never settled.

    Args:
        deployment: whose devices these are.
        fleet: its own copy of the deployment, if there, says whether it was aborted since.
        devices: as `progress` has them.
    """
    current = fleet.deployments.get(deployment.id, deployment)
    if not is_under_way(current, fleet.rollouts):
        return outcome(devices, None if current.aborted else fleet.rollouts.get(current.id))
    if devices and all(one.phase == "superseded" for one in devices):
        return outcome(devices)
    return Outcome(settled=False, exit_code=PENDING, message=counted(devices) or "no device yet")


def turns(deployment: Deployment, fleet: Fleet) -> list[tuple[str, list[str]]]:
    """Return which devices each wave of a deployment adds, in the order of their turns.

    Args:
        deployment: published or not.
        fleet: what is known.
    """
    strategy = deployment.strategy or AT_ONCE
    devices = sorted(eligible(deployment, fleet), key=lambda d: place(deployment, d))
    canaries = sum(is_canary(strategy, d) for d in devices)
    found, begin = [], 0
    for number, name in enumerate(wave_names(strategy)):
        end = goal(strategy, number, len(devices), canaries)
        found.append((name, [d.name for d in devices[begin:end]]))
        begin = end
    return found


def _silent(
    rollout: Rollout | None, devices: Sequence[Device], reached: Sequence[DeviceProgress]
) -> tuple[str, ...]:
    if rollout is None or rollout.soaking_s is None:
        return ()
    runs = {one.device for one in reached if one.phase == "running"}
    return tuple(
        d.name
        for d in devices
        if d.online and d.name in runs and (d.heard_s is None or d.heard_s < rollout.soaking_s)
    )


def _waves(
    deployment: Deployment,
    rollout: Rollout | None,
    fleet: Fleet,
    by_name: dict[str, DeviceProgress],
) -> tuple[WaveStanding, ...]:
    standings = []
    for number, (name, added) in enumerate(turns(deployment, fleet)):
        phases = Counter(by_name[device].phase for device in added if device in by_name)
        running = phases.pop("running", 0)
        others = {str(phase): count for phase, count in sorted(phases.items())}
        state = _state(deployment, rollout, number)
        standings.append(WaveStanding(name, len(added), running, others, state))
    return tuple(standings)


def _state(deployment: Deployment, rollout: Rollout | None, number: int) -> str:
    if deployment.strategy is None:
        return "open"
    wave = rollout.wave if rollout is not None else 0
    if number == wave and not (rollout is not None and rollout.phase == "completed"):
        return "open"
    if number <= wave:
        return "passed"
    ended = deployment.aborted or (rollout is not None and rollout.phase in ENDED)
    return "never" if ended else "waiting"


def _findings(
    deployment: Deployment,
    rollout: Rollout | None,
    devices: Sequence[Device],
    reached: Sequence[DeviceProgress],
    bundle: Bundle | None,
    now_s: float,
) -> tuple[Finding, ...]:
    if rollout is not None and (rollout.phase in ENDED or is_held(rollout)):
        return rollout.findings
    bad = {
        one.device: found("bundle", one.device, f"{one.phase}: {one.message}".removesuffix(": "))
        for one in reached
        if one.phase in BAD
    }
    findings = list(bad.values())
    runs = {one.device for one in reached if one.phase == "running"}
    if deployment.strategy is not None and rollout is not None:
        for device in devices:
            if device.name in runs:
                findings += judge_device(
                    deployment, deployment.strategy, rollout, device, bundle, now_s
                )
    return tuple(findings)
