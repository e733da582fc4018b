"""The rollouts of a fleet: which of them are this controller's, and what becomes of them. Pure."""

from collections.abc import Iterable, Mapping

from controller.election import electorate, owner
from controller.fleet import Device, Fleet
from controller.progress import means, reaches
from controller.rollouts.decide import begin, decide
from controller.rollouts.drift import Drift, drift
from controller.rollouts.evidence import confidences, eligible, members
from controller.rollouts.gates import found
from controller.rollouts.waves import has_bundle, is_held, is_under_way, place
from controller.rollouts.wording import what_changed
from controller.steps import PutRollout
from protocols.bundle import Bundle
from protocols.desired import Deployment
from protocols.rollout import Rollout

BEGIN_WITHIN_S = 86_400.0
"""A deployment that nobody has taken up for a day does not begin by itself any more."""


def rollout_steps(
    fleet: Fleet, bundles: Mapping[str, Bundle], now_s: float, me: str
) -> list[PutRollout]:
    """Return the new states of the rollouts that this controller carries on.

    Args:
        fleet: all that is known.
        bundles: the verified bundles, by the SHA-256 of their envelopes; nothing moves on while
            that of a deployment is not among them.
        now_s: Unix time in seconds.
        me: this controller's name; rollouts of others are left alone.
    """
    voters = electorate(fleet.controllers.values())
    steps = []
    for deployment in under_way(fleet):
        known = deployment.bundle.artifact.sha256 in bundles
        if not known or owner(voters, deployment.id) != me:
            continue
        before = fleet.rollouts.get(deployment.id)
        after = rollout(deployment, fleet, bundles, now_s)
        if after != before:
            said = what_changed(deployment, before, after)
            steps.append(PutRollout(after, said))
    return steps


def under_way(fleet: Fleet) -> Iterable[Deployment]:
    """Return the deployments whose rollout has not ended, oldest first."""
    found = (d for d in fleet.deployments.values() if is_under_way(d, fleet.rollouts))
    return sorted(found, key=lambda d: (d.order, d.id))


def rollout(
    deployment: Deployment, fleet: Fleet, bundles: Mapping[str, Bundle], now_s: float
) -> Rollout:
    """Return the state of a deployment's rollout that follows now.

    Args:
        deployment: with a strategy.
        fleet: what is known, the state as it is retained among it.
        bundles: the deployment's among them.
        now_s: Unix time in seconds.
    """
    strategy, before = deployment.strategy, fleet.rollouts.get(deployment.id)
    if strategy is None:
        raise ValueError(f"{deployment.id} has no strategy")
    state = before or _first(deployment, fleet, now_s)
    if before is None and is_held(state):
        return state.with_(revision=1)
    bundle = bundles[deployment.bundle.artifact.sha256]
    seen = members(deployment, strategy, state, fleet, bundle, now_s)
    shift = Drift(state.confidences)
    if strategy.gates.confidence:
        devices = eligible(deployment, fleet)
        shift = drift(state.confidences, *confidences(deployment, devices, bundles))
    after = decide(deployment, strategy, state, seen, now_s, shift)
    if after == before:
        return after
    return after.with_(revision=state.revision + 1)


def _first(deployment: Deployment, fleet: Fleet, now_s: float) -> Rollout:
    """Return the state of a rollout that has none: it begins, goes on, or nobody knows.

    An old deployment that no device has from it may have stopped before its state was lost. That
    must not begin again by itself, and a new one that took long to be signed must not be lost.
    """
    state = begin(deployment, now_s, _reached_before(deployment, fleet))
    age_s = now_s - deployment.created_ts
    if state.admitted or age_s <= BEGIN_WITHIN_S:
        return state
    message = (
        f"it was made {age_s / 3600:.0f} h ago, no device has it from there, and nobody knows "
        f"whether it had stopped; ctl rollout resume {deployment.id} lets it begin"
    )
    # Of what a person has said before nothing lets it go: only the next word does.
    held = state.with_(phase="paused", promoted=deployment.promoted)
    return held.with_(findings=(found("state", None, message),))


def _reached_before(deployment: Deployment, fleet: Fleet) -> float:
    """Return how far a rollout whose state is lost had come, as its devices tell it.

    The state may be lost with the broker's disk, or unreadable after its key was taken away; its
    devices must not fall back for that. A device that may have the same bundle from an earlier
    deployment has it from there: so every one is some deployment's, and none comes too far.
    """
    earlier = [
        d
        for d in fleet.deployments.values()
        if d.bundle == deployment.bundle and (d.order, d.id) < (deployment.order, deployment.id)
    ]
    have = [
        place(deployment, device)
        for device in eligible(deployment, fleet)
        if has_bundle(device, deployment) and not any(_may_have(d, device, fleet) for d in earlier)
    ]
    return max(have, default=0.0)


def _may_have(deployment: Deployment, device: Device, fleet: Fleet) -> bool:
    """Whether a deployment has reached a device, or may have: its state is lost, too."""
    lost = is_under_way(deployment, fleet.rollouts) and deployment.id not in fleet.rollouts
    if lost:
        return means(deployment, device)
    return reaches(deployment, device, fleet.rollouts)
