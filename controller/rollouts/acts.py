"""What a person does to a rollout, as the documents that say so. Pure."""

from collections.abc import Sequence

from controller.errors import ControllerError
from controller.fleet import Fleet
from controller.rollouts.waves import is_over, is_under_way, wave_names
from controller.steps import PutDeployment
from protocols.bundle import BundleRef
from protocols.desired import Deployment

_KNOWN = 6


def find(fleet: Fleet, name: str | None) -> Deployment:
    """Return the deployment that a person means by its id or by a cascade: the latest of that.

    Args:
        fleet: what is known.
        name: None: the latest of all.

    Raises:
        ControllerError: there is none.
    """
    if name is not None and name in fleet.deployments:
        return fleet.deployments[name]
    found = history(fleet, name)
    if not found:
        known = sorted({d.bundle.name for d in fleet.deployments.values()})
        more = f" and {len(known) - _KNOWN} more" if len(known) > _KNOWN else ""
        what = f"a rollout of {name}" if name is not None else "a rollout"
        raise ControllerError(
            f"cannot find {what}: {', '.join(known[:_KNOWN]) or 'nothing'}{more} is deployed"
        )
    return found[0]


def history(fleet: Fleet, cascade: str | None = None) -> list[Deployment]:
    """Return the deployments of a cascade (None: of all) that the broker has, the latest first."""
    found = [d for d in fleet.deployments.values() if cascade in {None, d.bundle.name}]
    return sorted(found, key=lambda d: (d.order, d.id), reverse=True)


def pause(fleet: Fleet, name: str) -> PutDeployment:
    """Return what holds a rollout where it is; gates go on watching.

    Raises:
        ControllerError: there is none, it has ended, or it is held already.
    """
    deployment = _moving(fleet, name, "pause")
    if deployment.paused:
        raise ControllerError(f"cannot pause {deployment.id}: it is paused already")
    return PutDeployment(deployment.with_(paused=True), "rollout-paused")


def resume(fleet: Fleet, name: str) -> PutDeployment:
    """Return what lets a rollout go on.

    Raises:
        ControllerError: there is none, it has ended, or nobody holds it.
    """
    deployment = _moving(fleet, name, "resume")
    if not deployment.paused:
        raise ControllerError(f"cannot resume {deployment.id}: it is not paused")
    return PutDeployment(deployment.with_(paused=False), "rollout-resumed")


def promote(fleet: Fleet, name: str) -> PutDeployment:
    """Return what opens the next wave without waiting, and lets a held rollout go on.

    Raises:
        ControllerError: there is none, it has ended, or it is in its last wave.
    """
    deployment = _moving(fleet, name, "promote")
    state = fleet.rollouts.get(deployment.id)
    wave = state.wave if state is not None else 0
    coming = deployment.promoted - (state.promoted if state is not None else 0)
    names = wave_names(deployment.strategy) if deployment.strategy is not None else ()
    if wave + coming >= len(names) - 1:
        raise ControllerError(
            f"cannot promote {deployment.id}: it is in its last wave ({names[-1]})"
        )
    return PutDeployment(
        deployment.with_(paused=False, promoted=deployment.promoted + 1), "rollout-promoted"
    )


def undo_target(fleet: Fleet, cascade: str, version: int | None) -> tuple[Deployment, Deployment]:
    """Return the deployment that is to be undone, and the earlier one whose bundle comes back.

    Args:
        fleet: what is known.
        cascade: its name.
        version: of the bundle that is wanted; None: the one before.

    Raises:
        ControllerError: nothing of it is deployed, or there was nothing before.
    """
    found = history(fleet, cascade)
    present = next((d for d in found if not is_over(d, fleet.rollouts)), None)
    if present is None:
        raise ControllerError(f"cannot undo {cascade}: nothing of it is deployed")
    earlier = [d for d in found if d.bundle != present.bundle]
    if version is None:
        before = [
            d
            for d in earlier
            if (d.order, d.id) < (present.order, present.id) and not is_over(d, fleet.rollouts)
        ]
    else:
        before = [d for d in earlier if d.bundle.version == version]
    if not before:
        raise ControllerError(
            f"cannot undo {cascade}: {_named(present.bundle)} is deployed; "
            f"{_before_words(earlier, version, cascade)}"
        )
    return present, before[0]


def _before_words(earlier: Sequence[Deployment], version: int | None, cascade: str) -> str:
    known = ", ".join(dict.fromkeys(_named(d.bundle) for d in earlier)) or "nothing"
    if version is None:
        return f"no earlier bundle holds (deployed at some time: {known}); name one with --to"
    return f"{cascade}@{version} was never deployed besides (only {known})"


def _moving(fleet: Fleet, name: str, verb: str) -> Deployment:
    """Return the deployment whose rollout is meant, which must not have ended."""
    if name in fleet.deployments:
        deployment = fleet.deployments[name]
    else:
        moving = [d for d in history(fleet, name) if is_under_way(d, fleet.rollouts)]
        deployment = moving[0] if moving else find(fleet, name)
    if deployment.strategy is None:
        raise ControllerError(
            f"cannot {verb} {deployment.id}: it has no waves, it went everywhere at once; deploy "
            "with --canary or --waves"
        )
    state = fleet.rollouts.get(deployment.id)
    if not is_under_way(deployment, fleet.rollouts):
        how = "was aborted" if deployment.aborted else f"has {state.phase if state else 'ended'}"
        how = "is completed" if how == "has completed" else how
        raise ControllerError(f"cannot {verb} {deployment.id}: it {how}; deploy to begin again")
    return deployment


def _named(ref: BundleRef) -> str:
    return f"{ref.name}@{ref.version}"
