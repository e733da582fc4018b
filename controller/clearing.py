"""Which artifacts the broker need not keep: those of deployments that rule nowhere any more. Pure.

A deployment is superseded for good once a later one of the same cascade is for all of its devices,
has reached them, and runs on those that are connected. Manifests stay: they are small, and who
starts anew reads from them what every deployment is. An abort or an undo that brings such a
deployment back puts out what is missing.
"""

from collections.abc import Mapping

from controller.deployments import named_artifacts
from controller.fleet import Fleet
from controller.progress import means, reaches
from controller.rollouts.waves import is_over, is_under_way
from protocols.bundle import ArtifactRef, Bundle
from protocols.desired import Deployment


def unneeded_artifacts(fleet: Fleet, bundles: Mapping[str, Bundle]) -> tuple[ArtifactRef, ...]:
    """Return the artifacts that only superseded deployments name, their manifests left out.

    Nothing is unneeded while it is not known what some deployment names.

    Args:
        fleet: what is known.
        bundles: by the SHA-256 of their envelopes.
    """
    active = [d for d in fleet.deployments.values() if not d.aborted]
    if any(d.bundle.artifact.sha256 not in bundles for d in active):
        return ()
    past = [d for d in active if any(_supersedes(other, d, fleet) for other in active)]
    needed = {ref.sha256 for d in active if d not in past for ref in _named(d, bundles)}
    manifests = {d.bundle.artifact.sha256 for d in active}
    unneeded = {
        ref.sha256: ref
        for d in past
        for ref in _named(d, bundles)
        if ref.sha256 not in needed | manifests
    }
    return tuple(unneeded.values())


def _named(deployment: Deployment, bundles: Mapping[str, Bundle]) -> list[ArtifactRef]:
    ref = deployment.bundle
    return [one for one, _ in named_artifacts(ref, bundles[ref.artifact.sha256])]


def _supersedes(later: Deployment, earlier: Deployment, fleet: Fleet) -> bool:
    return (
        later.bundle.name == earlier.bundle.name
        and (later.order, later.id) > (earlier.order, earlier.id)
        and _covers(later, earlier)
        and not is_under_way(later, fleet.rollouts)
        and not is_over(later, fleet.rollouts)
        and all(
            _runs(later, name, fleet)
            for name, device in fleet.devices.items()
            if means(later, device) and device.online
        )
    )


def _covers(later: Deployment, earlier: Deployment) -> bool:
    """Whether every device that the earlier one is for, known or not, is the later one's, too."""
    named = not later.devices or (
        bool(earlier.devices) and set(earlier.devices) <= set(later.devices)
    )
    return named and later.selector.items() <= earlier.selector.items()


def _runs(deployment: Deployment, name: str, fleet: Fleet) -> bool:
    device = fleet.devices[name]
    if not reaches(deployment, device, fleet.rollouts) or device.reported is None:
        return False
    return any(cascade.running == deployment.bundle for cascade in device.reported.cascades)
