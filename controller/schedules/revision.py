"""A person's new schedule for what is deployed already: which deployment, and its successor. Pure.

A deployment is never changed: a new one of the same bundle, for the same devices or for one of
them, brings the new schedule. Deployments that rule on some of the devices by being later (a device
with a schedule of its own) are published again after it, so that they go on ruling there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.deployments import create_deployment, deployment_id
from controller.errors import ControllerError
from controller.fleet import Device, Fleet
from controller.planner import base_schedule, outlook, ruling_deployments
from controller.progress import means, rules
from controller.rollouts.evidence import eligible, goes_on
from controller.rollouts.waves import is_over
from controller.steps import PutDeployment
from protocols.bundle import Bundle
from protocols.desired import Deployment
from protocols.schedule import CascadeSchedule, Schedule

_KNOWN = 6
_AT_ONCE = {"strategy": None, "paused": False, "promoted": 0}
"""What is published again has reached its devices already."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whose schedule is meant.

    Attributes:
        deployment: that rules there now.
        devices: that are known and that it rules on, by name.
        device: the one device that is meant; None: all that the deployment is for.
    """

    deployment: Deployment
    devices: tuple[Device, ...]
    device: str | None = None

    @property
    def cascade(self) -> str:
        """The cascade's name."""
        return self.deployment.bundle.name


@dataclass(frozen=True, slots=True)
class Author:
    """Who publishes, and when.

    `nonces` are as `create_deployment` wants them, one for each deployment that is made.
    """

    by: str
    now_s: float
    nonces: Sequence[str]


def ruling(fleet: Fleet, device: Device) -> tuple[Deployment, ...]:
    """Return the deployments that rule on a device, one for each cascade, oldest first."""
    active = sorted(
        (d for d in fleet.deployments.values() if not d.aborted), key=lambda d: (d.order, d.id)
    )
    return ruling_deployments(active, device, fleet.rollouts)


def find_target(fleet: Fleet, name: str, cascade: str | None = None) -> Target:
    """Return what a person means by the name of a device, a deployment or a cascade, in that order.

    Args:
        fleet: what is known.
        name: of one of them.
        cascade: of a device, where more than one is deployed there.

    Raises:
        ControllerError: nothing is called so, or more than one is meant.
    """
    if name in fleet.devices:
        return _of_device(fleet, fleet.devices[name], cascade)
    if cascade is not None:
        raise ControllerError(f"cannot find {name}: no such device; {_known(fleet)}")
    found = fleet.deployments.get(name)
    if found is None:
        return _of_cascade(fleet, name)
    if is_over(found, fleet.rollouts):
        why = "it was aborted" if found.aborted else "its rollout has stopped"
        raise ControllerError(f"cannot use {name}: {why}")
    return Target(found, _ruled(fleet, found))


def start_of(target: Target, fleet: Fleet, bundles: Mapping[str, Bundle]) -> Schedule:
    """Return what an edit begins from: lines as they hold, and the cascade's rows.

    The rows are a person's where there are some, else those of the first device as the compiler
    writes them now, else the bundle's.

    Args:
        target: what is edited.
        fleet: what is known.
        bundles: by the SHA-256 of their envelopes, the target's among them.
    """
    deployment = target.deployment
    bundle = bundles[deployment.bundle.artifact.sha256]
    lines, rows = deployment.schedule or Schedule(), bundle.schedule
    if target.devices:
        device = target.devices[0]
        # The target's may be one that nobody has published: what would be without its schedule.
        there = [deployment if d.id == deployment.id else d for d in ruling(fleet, device)]
        lines = deployment.schedule or base_schedule(there)
        rows = outlook(device, there, bundles).schedule.cascades.get(target.cascade, rows)
    given = rows_of(deployment.schedule, target.cascade)
    return lines.with_(version=0, cascades={target.cascade: given or rows})


def edited(start: Schedule, written: Schedule, target: Target) -> Schedule | None:
    """Return the schedule to publish; None: nothing has changed.

    Rows that are as they were stay the compiler's, unless they were a person's already.
    """
    written = written.with_(version=0)
    given = rows_of(target.deployment.schedule, target.cascade)
    rows = rows_of(written, target.cascade)
    if written == start or (given is None and rows is None and _lines(written) == _lines(start)):
        return None
    if given is None and rows == start.cascades[target.cascade]:
        return _lines(written)
    return written


def revision_steps(
    fleet: Fleet, target: Target, bundle: Bundle, schedule: Schedule | None, author: Author
) -> list[PutDeployment]:
    """Return what publishes a new schedule for a target; None: compiled rows and default lines.

    The last step is of the new deployment, those before it are of the ones that are kept.

    Args:
        fleet: what is known.
        target: what the schedule is for.
        bundle: that is deployed there.
        schedule: its version follows from the cascade's earlier ones.
        author: with a nonce for the new deployment and each of `kept(fleet, target)`.

    Raises:
        ControllerError: the schedule's rows are not the bundle's, or a rollout is under way there.
    """
    old = target.deployment
    _check_settled(fleet, target)
    new = create_deployment(
        fleet,
        old.bundle,
        bundle,
        nonce=author.nonces[0],
        now_s=author.now_s,
        devices=old.devices if target.device is None else (target.device,),
        selector=old.selector if target.device is None else None,
        variants=old.variants,
        schedule=schedule,
        wishes=old.wishes,
        sources=old.sources,
        by=author.by,
    )
    again = [
        one.with_(id=deployment_id(one.bundle, nonce), order=new.order + place, **_AT_ONCE)
        for place, (one, nonce) in enumerate(
            zip(kept(fleet, target), author.nonces[1:], strict=True), 1
        )
    ]
    # The kept ones first: the device must not see the wide one rule for a moment.
    return [*map(PutDeployment, reversed(again)), PutDeployment(new)]


def _check_settled(fleet: Fleet, target: Target) -> None:
    """Check that nothing of the cascade is on its way there.

    What succeeds it would be everywhere at once, or would take its devices away from it.
    """
    for one in fleet.deployments.values():
        if one.bundle.name != target.cascade or not goes_on(one, fleet):
            continue
        coming = {device.name for device in eligible(one, fleet)}
        if one == target.deployment or any(d.name in coming for d in target.devices):
            raise ControllerError(
                f"cannot change the schedule of {one.id}: its rollout is under way; wait for its "
                f"end, or ctl rollout abort {one.id}"
            )


def kept(fleet: Fleet, target: Target) -> tuple[Deployment, ...]:
    """Return the later deployments of the cascade that go on ruling on their devices, in order."""
    if target.device is not None:
        return ()
    old = target.deployment
    later = [
        one
        for one in fleet.deployments.values()
        if not is_over(one, fleet.rollouts)
        and one.bundle.name == target.cascade
        and (one.order, one.id) > (old.order, old.id)
        and (_ruled(fleet, one) or not fleet.selected(one.devices, one.selector))
    ]
    return tuple(sorted(later, key=lambda d: (d.order, d.id)))


def is_told(device: Device, fleet: Fleet, bundles: Mapping[str, Bundle]) -> bool:
    """Whether a device's desired document has the schedule that its deployments give it now."""
    there = outlook(device, ruling(fleet, device), bundles).schedule
    return device.desired is not None and device.desired.schedule == there


def has_taken(device: Device, fleet: Fleet, bundles: Mapping[str, Bundle]) -> bool:
    """Whether a device has accepted the schedule that its deployments give it now."""
    desired, reported = device.desired, device.reported
    if desired is None or reported is None or reported.generation < desired.generation:
        return False
    return is_told(device, fleet, bundles)


def history(fleet: Fleet, cascade: str) -> tuple[Deployment, ...]:
    """Return all deployments of a cascade that the broker has, the latest first.

    Raises:
        ControllerError: there is none.
    """
    found = [d for d in fleet.deployments.values() if d.bundle.name == cascade]
    if not found:
        raise ControllerError(f"cannot show the history of {cascade}: {_known(fleet)}")
    return tuple(sorted(found, key=lambda d: (d.order, d.id), reverse=True))


def version_of(fleet: Fleet, cascade: str, version: int) -> Schedule:
    """Return a version of a cascade's schedules.

    Raises:
        ControllerError: the broker has none of that version.
    """
    found = {d.schedule.version: d.schedule for d in history(fleet, cascade) if d.schedule}
    if version not in found:
        known = ", ".join(map(str, sorted(found))) or "none"
        raise ControllerError(f"cannot find version {version} of {cascade}: there is {known}")
    return found[version]


def rows_of(schedule: Schedule | None, cascade: str) -> CascadeSchedule | None:
    """Return a cascade's rows in a schedule; None: it has none."""
    return None if schedule is None else schedule.cascades.get(cascade)


def without_rows(deployment: Deployment) -> Deployment:
    """Return a deployment whose rows are left to the compiler; its lines stay."""
    schedule = deployment.schedule
    return deployment.with_(schedule=schedule and schedule.with_(cascades={}))


def _lines(schedule: Schedule) -> Schedule:
    return schedule.with_(version=0, cascades={})


def _of_device(fleet: Fleet, device: Device, cascade: str | None) -> Target:
    there = {d.bundle.name: d for d in ruling(fleet, device)}
    names = ", ".join(there) or "nothing"
    if cascade is None and len(there) > 1:
        raise ControllerError(
            f"cannot tell which cascade of {device.name} is meant: {names} are deployed there; "
            "write its name after the device's"
        )
    if not there or (cascade is not None and cascade not in there):
        raise ControllerError(
            f"cannot find {cascade or 'a cascade'} on {device.name}: {names} is deployed there"
        )
    return Target(there[cascade or next(iter(there))], (device,), device.name)


def _of_cascade(fleet: Fleet, name: str) -> Target:
    active = [
        d
        for d in fleet.deployments.values()
        if d.bundle.name == name and not is_over(d, fleet.rollouts)
    ]
    if not active:
        raise ControllerError(f"cannot find {name}: {_known(fleet)}")
    found = [d for d in active if _ruled(fleet, d)] or [max(active, key=lambda d: (d.order, d.id))]
    # What is for devices by name is an exception from what is for all of them.
    wide = [d for d in found if not d.devices] or found
    if len(wide) > 1:
        ids = ", ".join(sorted(d.id for d in wide))
        raise ControllerError(
            f"cannot tell which deployment of {name} is meant: {ids}; name it, or a device"
        )
    return Target(wide[0], _ruled(fleet, wide[0]))


def _ruled(fleet: Fleet, deployment: Deployment) -> tuple[Device, ...]:
    return tuple(
        device
        for _, device in sorted(fleet.devices.items())
        if means(deployment, device) and rules(deployment, device, fleet)
    )


def _known(fleet: Fleet) -> str:
    cascades = sorted({d.bundle.name for d in fleet.deployments.values() if not d.aborted})
    devices = sorted(fleet.devices)
    more = f" and {len(devices) - _KNOWN} more" if len(devices) > _KNOWN else ""
    return (
        f"{', '.join(cascades) or 'nothing'} is deployed, and the devices are "
        f"{', '.join(devices[:_KNOWN]) or 'none'}{more}"
    )
