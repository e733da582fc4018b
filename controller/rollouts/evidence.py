"""How the devices of a rollout stand: from what they report to what the decision takes. Pure."""

from collections.abc import Mapping, Sequence

from controller.fleet import Device, Fleet
from controller.progress import DeviceProgress, means, reaches, ruled_progress
from controller.rollouts.decide import Member
from controller.rollouts.drift import Seen, collect
from controller.rollouts.gates import (
    Sight,
    baseline,
    expected_escalations,
    found,
    is_slow,
    judge,
)
from controller.rollouts.waves import admits, is_canary, is_under_way, place
from controller.roster import members as planned_for
from protocols.bundle import Bundle, Certificate
from protocols.desired import Deployment, DesiredCascade
from protocols.device import WAITS, CascadeStats
from protocols.rollout import Baseline, Finding, Rollout, Strategy

BAD = frozenset({"refused", "rejected", "quarantined", "cannot-fit"})
"""Phases in which a device does not run the bundle, and will not by itself."""


def eligible(deployment: Deployment, fleet: Fleet) -> list[Device]:
    """Return the devices that a rollout is for: no later deployment rules there; by name."""
    later = [
        other
        for other in fleet.deployments.values()
        if other.bundle.name == deployment.bundle.name
        and (other.order, other.id) > (deployment.order, deployment.id)
    ]
    return [
        device
        for device in planned_for(fleet)
        if device.inventory is not None
        and means(deployment, device)
        and not any(reaches(other, device, fleet.rollouts) for other in later)
    ]


def goes_on(deployment: Deployment, fleet: Fleet) -> bool:
    """Whether a rollout is under way, and may still come to somebody.

    Where later deployments have taken all of its devices over, it never ends, and nobody waits for
    it any more.
    """
    if not is_under_way(deployment, fleet.rollouts):
        return False
    meant = any(means(deployment, device) for device in fleet.devices.values())
    return not meant or bool(eligible(deployment, fleet))


def members(
    deployment: Deployment,
    strategy: Strategy,
    state: Rollout,
    fleet: Fleet,
    bundle: Bundle | None,
    now_s: float,
) -> list[Member]:
    """Return how every device that a rollout is for stands.

    Args:
        deployment: with a strategy.
        strategy: the deployment's.
        state: of its rollout; what it has reached is judged.
        fleet: what is known.
        bundle: of the deployment; None: certificates and memory cannot be judged.
        now_s: Unix time in seconds.
    """
    rollouts = {deployment.id: state}
    return [
        _member(deployment, strategy, state, device, fleet, bundle=bundle, now_s=now_s)
        if admits(deployment, device, rollouts)
        else _waiting(deployment, strategy, device)
        for device in eligible(deployment, fleet)
    ]


def confidences(
    deployment: Deployment,
    devices: Sequence[Device],
    bundles: Mapping[str, Bundle],
) -> tuple[dict[str, Seen], dict[str, Seen]]:
    """Return the confidences by gated stage: on devices with the bundle, and on those without.

    Args:
        deployment: whose bundle it is.
        devices: that its rollout is for.
        bundles: by the SHA-256 of their envelopes.
    """
    found: dict[bool, list[tuple[CascadeStats, Certificate]]] = {True: [], False: []}
    for device in devices:
        stats, cascade = _stats(deployment, device), _present(deployment, device)
        if stats is None or cascade is None or stats.version != cascade.bundle.version:
            continue
        bundle = bundles.get(cascade.bundle.artifact.sha256)
        certificate = bundle.certificate(cascade.variants) if bundle is not None else None
        if certificate is not None:
            found[cascade.bundle == deployment.bundle].append((stats, certificate))
    return collect(found[True]), collect(found[False])


def stats_of(deployment: Deployment, device: Device) -> CascadeStats | None:
    """Return what a device counts of the deployment's bundle; None: it does not run it yet."""
    stats = _stats(deployment, device)
    return stats if stats is not None and stats.version == deployment.bundle.version else None


def _waiting(deployment: Deployment, strategy: Strategy, device: Device) -> Member:
    return Member(
        device.name,
        place(deployment, device),
        is_canary(strategy, device),
        device.online,
        heard_s=device.heard_s,
        now=_now(deployment, device),
    )


def _member(  # noqa: PLR0913 - all that a verdict rests on
    deployment: Deployment,
    strategy: Strategy,
    state: Rollout,
    device: Device,
    fleet: Fleet,
    *,
    bundle: Bundle | None,
    now_s: float,
) -> Member:
    progress = ruled_progress(deployment, device, fleet, bundle)
    runs, puts_off = progress.phase == "running", progress.message.startswith(WAITS)
    findings = [_not_running(progress)] if progress.phase in BAD else []
    sight = _sight(deployment, strategy, state, device, bundle, now_s) if runs else None
    if sight is not None:
        findings += judge(strategy.gates, sight)
    return Member(
        device.name,
        place(deployment, device),
        is_canary(strategy, device),
        # One that waits for its charger is no more to be waited for than one that is away.
        device.online and not puts_off,
        runs,
        device.heard_s,
        _now(deployment, device),
        tuple(findings),
        sight is not None and is_slow(strategy.gates, sight),
    )


def judge_device(
    deployment: Deployment,
    strategy: Strategy,
    state: Rollout,
    device: Device,
    bundle: Bundle | None,
    now_s: float,
) -> list[Finding]:
    """Return what the gates say of a device that runs the bundle."""
    sight = _sight(deployment, strategy, state, device, bundle, now_s)
    return list(judge(strategy.gates, sight)) if sight is not None else []


def _sight(
    deployment: Deployment,
    strategy: Strategy,
    state: Rollout,
    device: Device,
    bundle: Bundle | None,
    now_s: float,
) -> Sight | None:
    """Return what is known of a device that runs the bundle; None: it has not said anything yet."""
    stats, telemetry = stats_of(deployment, device), device.telemetry
    if stats is None or telemetry is None:
        return None
    before = state.baselines.get(device.name)
    slow_s = before.slow_s if before is not None else None
    cascade, expected = _told(deployment, device), None
    if bundle is not None and cascade is not None and device.desired is not None:
        row = device.desired.schedule.cascades.get(bundle.name)
        step = row.base_threshold if row is not None else 0
        expected = expected_escalations(bundle, cascade, step)
    return Sight(
        device.name,
        stats,
        telemetry.sample,
        before,
        now_s - state.soaking_s if state.soaking_s is not None else 0.0,
        expected,
        _heard_for_s(device, slow_s),
        strategy.soak_s,
    )


def _heard_for_s(device: Device, since_s: float | None) -> float:
    """Return for how long a device has been heard since then: time alone proves nothing."""
    if since_s is None or device.heard_s is None:
        return 0.0
    return max(0.0, device.heard_s - since_s)


def _not_running(progress: DeviceProgress) -> Finding:
    why = f": {progress.message}" if progress.message else ""
    return found("bundle", progress.device, f"{progress.phase}{why}")


def _now(deployment: Deployment, device: Device) -> Baseline:
    sample = device.telemetry.sample if device.telemetry is not None else None
    unplugged = sample is not None and sample.battery_plugged is False
    return baseline(_stats(deployment, device), deployment.bundle.version).with_(
        battery_percent=sample.battery_percent if sample is not None and unplugged else None
    )


def _stats(deployment: Deployment, device: Device) -> CascadeStats | None:
    cascades = device.telemetry.cascades if device.telemetry is not None else ()
    return next((c for c in cascades if c.name == deployment.bundle.name), None)


def _told(deployment: Deployment, device: Device) -> DesiredCascade | None:
    cascade = _present(deployment, device)
    return cascade if cascade is not None and cascade.bundle == deployment.bundle else None


def _present(deployment: Deployment, device: Device) -> DesiredCascade | None:
    """Return in which form a device is told to run the deployment's cascade, of any version."""
    cascades = device.desired.cascades if device.desired is not None else ()
    return next((c for c in cascades if c.bundle.name == deployment.bundle.name), None)
