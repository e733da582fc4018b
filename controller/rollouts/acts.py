"""What a person does to a rollout, as the documents that say so. Pure."""

from collections.abc import Sequence

from controller.errors import ControllerError
from controller.fleet import Device, Fleet
from controller.progress import means, reaches
from controller.rollouts.evidence import goes_on
from controller.rollouts.waves import is_held, is_over, is_under_way, wave_names
from controller.steps import PutDeployment
from protocols.bundle import BundleRef
from protocols.desired import Deployment
from protocols.rollout import Selector

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
    if is_held(fleet.rollouts.get(deployment.id)):
        return PutDeployment(_released(deployment), "rollout-resumed")
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
    if is_held(state):
        return PutDeployment(_released(deployment), "rollout-promoted")
    wave = state.wave if state is not None else 0
    coming = deployment.promoted - (state.promoted if state is not None else 0)
    names = wave_names(deployment.strategy) if deployment.strategy is not None else ()
    if wave + coming >= len(names) - 1:
        raise ControllerError(
            f"cannot promote {deployment.id}: it is in its last wave ({names[-1]})"
        )
    return PutDeployment(_released(deployment), "rollout-promoted")


def meant(fleet: Fleet, name: str) -> Deployment:
    """Return the deployment that a person means to act upon: of a cascade's the one on its way.

    Raises:
        ControllerError: there is none.
    """
    if name in fleet.deployments:
        return fleet.deployments[name]
    moving = next((d for d in history(fleet, name) if goes_on(d, fleet)), None)
    return moving or find(fleet, name)


def undo_target(fleet: Fleet, cascade: str, version: int | None) -> tuple[Deployment, Deployment]:
    """Return the deployment that is to be undone, and the earlier one whose bundle comes back.

    Those of the same bundle are undone with it, see `undone_with`.

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


def undone_with(fleet: Fleet, present: Deployment) -> list[Deployment]:
    """Return all deployments of a bundle that hold, the latest first.

    One that brings a device its own schedule is no reason to leave the bundle everywhere else.
    """
    found = history(fleet, present.bundle.name)
    return [d for d in found if d.bundle == present.bundle and not is_over(d, fleet.rollouts)]


def undo_places(fleet: Fleet, present: Deployment) -> list[tuple[tuple[str, ...], Selector]]:
    """Return names and labels of the devices that an undo is for, as few pairs as may be.

    A deployment that shares its devices with other bundles is undone where those do not rule.
    """
    wide: dict[frozenset[tuple[str, str]], set[str]] = {}
    for one in undone_with(fleet, present):
        names, selector = _place(fleet, one, present)
        if names is None:
            continue
        key = frozenset(selector.items())
        # No names are all devices: then nothing has to be added.
        wide[key] = {*names, *wide.get(key, names)} if names and wide.get(key, names) else set()
    return [
        (tuple(sorted(names)), dict(key))
        for key, names in wide.items()
        if not any(
            other < key and (not theirs or (names and names <= theirs))
            for other, theirs in wide.items()
        )
    ]


def _place(
    fleet: Fleet, one: Deployment, present: Deployment
) -> tuple[tuple[str, ...] | None, Selector]:
    """Return where a deployment is to be undone; None: nowhere, others rule on all of it."""
    there = [d for _, d in sorted(fleet.devices.items()) if means(one, d)]
    held = [d.name for d in there if _bundle_on(fleet, d, present) == present.bundle]
    if one == present or len(held) == len(there):
        return one.devices, one.selector
    return tuple(held) or None, {}


def _bundle_on(fleet: Fleet, device: Device, present: Deployment) -> BundleRef | None:
    found = history(fleet, present.bundle.name)
    return next((d.bundle for d in found if reaches(d, device, fleet.rollouts)), None)


def _released(deployment: Deployment) -> Deployment:
    return deployment.with_(paused=False, promoted=deployment.promoted + 1)


def _before_words(earlier: Sequence[Deployment], version: int | None, cascade: str) -> str:
    known = ", ".join(dict.fromkeys(_named(d.bundle) for d in earlier)) or "nothing"
    if version is None:
        return f"no earlier bundle holds (deployed at some time: {known}); name one with --to"
    return f"{cascade}@{version} was never deployed besides (only {known})"


def _moving(fleet: Fleet, name: str, verb: str) -> Deployment:
    """Return the deployment whose rollout is meant, which must not have ended."""
    deployment = meant(fleet, name)
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
