"""How far a deployment is, device by device, and how it ended. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from controller.errors import FitError
from controller.fit import check_fit
from controller.fleet import Device, Fleet
from controller.rollouts.waves import ENDED, admits, place
from controller.rollouts.wording import stop_words
from protocols.bundle import Bundle
from protocols.desired import Deployment
from protocols.device import ReportedCascade
from protocols.rollout import Rollout
from protocols.schedule import Schedule

Phase = Literal[
    "pending",
    "waiting",
    "offline",
    "planned",
    "fetching",
    "verified",
    "starting",
    "running",
    "refused",
    "rejected",
    "quarantined",
    "cannot-fit",
    "aborted",
    "superseded",
    "reverting",
    "reverted",
    "untouched",
    "barred",
]
"""`pending`: no controller has told the device yet. `waiting`: its wave has not come.
`planned`: told, but not taken up yet. `offline`: the device is not connected, or was never seen,
and does not run it. `superseded`: a later deployment of the same cascade rules there. `reverting`
and `reverted`: the rollout has stopped, and what was there before comes back or is back;
`untouched`: it has stopped before it came so far. `barred`: the roster does not have the device
(`ctl device accept`), or has revoked it. The others as the device says."""

STOPPED: frozenset[Phase] = frozenset(
    {"refused", "rejected", "quarantined", "aborted", "superseded", "reverted", "untouched"}
)
MOVING: frozenset[Phase] = frozenset(
    {"pending", "waiting", "planned", "fetching", "verified", "starting", "reverting"}
)

_USUAL = Schedule()
_OF_CASCADES = frozenset({"cascades", "windows"})
"""Parts of a schedule that more than one deployment may say."""

DONE, INVALID, STOPPED_CODE, PENDING = 0, 2, 3, 4
"""Exit codes of `ctl deploy`."""


@dataclass(frozen=True, slots=True)
class DeviceProgress:
    """How far one device is with one deployment."""

    device: str
    phase: Phase
    fetched_bytes: int = 0
    total_bytes: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a deployment stands: `settled` when nothing is under way any more."""

    settled: bool
    exit_code: int
    """What a command that ends now ends with: 0 runs everywhere, 2 cannot fit somewhere,
    3 refused, rejected, quarantined, aborted or superseded somewhere, 4 not there yet."""
    message: str


def progress(
    deployment: Deployment, fleet: Fleet, bundle: Bundle | None = None
) -> tuple[DeviceProgress, ...]:
    """Return how far each device that the deployment means is, by name.

    Args:
        deployment: the deployment; the fleet's own copy of it, if there, says whether it was
            aborted since.
        fleet: what is known.
        bundle: of the deployment; without it, nothing is said of what cannot fit.
    """
    current = fleet.deployments.get(deployment.id, deployment)
    selected = fleet.selected(current.devices, current.selector)
    devices = {d.name: d for d in selected if d.member or d.name in current.devices}
    unseen = {name: Device(name) for name in current.devices if name not in fleet.devices}
    return tuple(
        _device_progress(current, device, fleet, bundle)
        for _, device in sorted({**unseen, **devices}.items())
    )


def outcome(devices: Sequence[DeviceProgress], rollout: Rollout | None = None) -> Outcome:
    """Return how a deployment stands when its devices stand so.

    Args:
        devices: as `progress` has them.
        rollout: of the deployment; None: it has none, or it has not begun.
    """
    settled = not any(device.phase in MOVING for device in devices)
    if rollout is not None and rollout.phase in ENDED:
        return _ended(rollout, devices, settled=settled)
    by_phase = {phase: [d for d in devices if d.phase == phase] for phase in _phases(devices)}
    said = counted(devices)
    if not devices:
        return Outcome(
            settled=True, exit_code=PENDING, message="no device of the fleet has these labels yet"
        )
    if any(device.phase in STOPPED for device in devices):
        return Outcome(settled, STOPPED_CODE, said)
    if by_phase.get("cannot-fit"):
        return Outcome(settled, INVALID, said)
    if len(by_phase.get("running", ())) == len(devices):
        return Outcome(settled, DONE, said)
    return Outcome(settled, PENDING, said)


def counted(devices: Sequence[DeviceProgress]) -> str:
    """Return how many devices are in which phase: `1 offline, 3 running`."""
    phases = [device.phase for device in devices]
    return ", ".join(f"{phases.count(phase)} {phase}" for phase in _phases(devices))


def _ended(rollout: Rollout, devices: Sequence[DeviceProgress], *, settled: bool) -> Outcome:
    """Return how a rollout has ended: what it tolerated, and who is away, does not matter to it."""
    said = counted(devices)
    if rollout.phase == "completed":
        return Outcome(settled=True, exit_code=DONE, message=said)
    return Outcome(settled, STOPPED_CODE, f"{stop_words(rollout)} ({said})")


def _phases(devices: Sequence[DeviceProgress]) -> list[Phase]:
    return sorted({device.phase for device in devices})


def rules(deployment: Deployment, device: Device, fleet: Fleet) -> bool:
    """Whether no later deployment of the same cascade has reached this device."""
    return not any(
        other.bundle.name == deployment.bundle.name
        and (other.order, other.id) > (deployment.order, deployment.id)
        and reaches(other, device, fleet.rollouts)
        for other in fleet.deployments.values()
    )


def reaches(deployment: Deployment, device: Device, rollouts: Mapping[str, Rollout]) -> bool:
    """Whether a deployment is for a device, still holds, and its rollout has come so far."""
    return (
        not deployment.aborted
        and means(deployment, device)
        and admits(deployment, device, rollouts)
    )


def means(deployment: Deployment, device: Device) -> bool:
    """Whether a deployment is for a device: one that is a member of the fleet."""
    return (
        device.member
        and (not deployment.devices or device.name in deployment.devices)
        and device.matches(deployment.selector)
    )


def _device_progress(
    deployment: Deployment, device: Device, fleet: Fleet, bundle: Bundle | None
) -> DeviceProgress:
    if deployment.aborted:
        return DeviceProgress(device.name, "aborted", message="the deployment was aborted")
    if not device.member:
        return DeviceProgress(device.name, "barred", message=f"it is {device.standing}")
    if not rules(deployment, device, fleet):
        return DeviceProgress(device.name, "superseded", message="a later deployment rules here")
    if not admits(deployment, device, fleet.rollouts):
        return _not_reached(deployment, device, fleet)
    return ruled_progress(deployment, device, fleet, bundle)


def ruled_progress(
    deployment: Deployment, device: Device, fleet: Fleet, bundle: Bundle | None
) -> DeviceProgress:
    """Return how far a device is with the deployment that rules there."""
    told = _told(deployment, device) and _has_schedule(deployment, device, fleet)
    return _on_its_way(deployment, device, bundle, told=told)


def _not_reached(deployment: Deployment, device: Device, fleet: Fleet) -> DeviceProgress:
    """Return how a device is that a rollout has not reached yet, or has given up."""
    rollout = fleet.rollouts.get(deployment.id)
    if rollout is None or rollout.phase != "stopped":
        why = "" if device.online else "not connected"
        return DeviceProgress(device.name, "waiting", message=why)
    if place(deployment, device) > rollout.admitted:
        return DeviceProgress(device.name, "untouched", message="the rollout stopped before")
    if not _is_rid_of(deployment, device, fleet):
        return DeviceProgress(device.name, "reverting")
    why = "" if device.online else "not connected: goes back when it returns"
    return DeviceProgress(device.name, "reverted", message=why)


def _is_rid_of(deployment: Deployment, device: Device, fleet: Fleet) -> bool:
    """Whether a device is told to run, and runs if it is connected, what was there before."""
    if any(
        other.bundle == deployment.bundle and reaches(other, device, fleet.rollouts)
        for other in fleet.deployments.values()
    ):
        return True
    has = device.reported.cascades if device.reported is not None and device.online else ()
    return not _told(deployment, device) and not any(
        deployment.bundle in (cascade.bundle, cascade.running) for cascade in has
    )


def _on_its_way(
    deployment: Deployment, device: Device, bundle: Bundle | None, *, told: bool
) -> DeviceProgress:
    if told and (refusal := _refusal(device)):
        return DeviceProgress(device.name, "refused", message=refusal)
    reported = _reported(deployment, device) if told else None
    if reported is not None and (device.online or reported.phase not in MOVING):
        return _as_reported(deployment, device, reported)
    if not told and (unfit := _unfit(deployment, device, bundle)):
        return DeviceProgress(device.name, "cannot-fit", message=unfit)
    if not device.online:
        why = "not connected" if device.known else "never seen; is the name right?"
        return DeviceProgress(device.name, "offline", message=why)
    return DeviceProgress(device.name, "planned" if told else "pending")


def _unfit(deployment: Deployment, device: Device, bundle: Bundle | None) -> str | None:
    """Return why the cascade cannot run on a device; None: it can, or nothing is known."""
    if bundle is None:
        return None
    try:
        check_fit(deployment, bundle, device)
    except FitError as error:
        return str(error)
    return None


def _told(deployment: Deployment, device: Device) -> bool:
    """Whether the device's desired document has the bundle, in the forms that are insisted on."""
    return device.desired is not None and any(
        cascade.bundle == deployment.bundle
        and deployment.variants.items() <= cascade.variants.items()
        for cascade in device.desired.cascades
    )


def _has_schedule(deployment: Deployment, device: Device, fleet: Fleet) -> bool:
    """Whether the device's desired document has the rows, the lines and the hours deployed."""
    if device.desired is None:
        return True
    there, given = device.desired.schedule, deployment.schedule
    rows = given.cascades.get(deployment.bundle.name) if given is not None else None
    if rows is not None and there.cascades.get(deployment.bundle.name) != rows:
        return False
    quiet = deployment.wishes.quiet if deployment.wishes is not None else ()
    lines = _lines(device, fleet)
    if not {*lines.windows, *quiet} <= set(there.windows):
        return False
    return all(value == getattr(there, name) for name, value in lines if name not in _OF_CASCADES)


def _lines(device: Device, fleet: Fleet) -> Schedule:
    """Return the lines, dwell times and windows that a device should have.

    It has one set of them: that of the latest deployment ruling there that brings one. The quiet
    hours that any of its deployments wishes for come to its windows.
    """
    there = sorted(
        (d for d in fleet.deployments.values() if reaches(d, device, fleet.rollouts)),
        key=lambda d: (d.order, d.id),
    )
    # The last of a cascade's rules.
    ruling = {d.bundle.name: d for d in there}.values()
    latest = sorted((d for d in ruling if d.schedule is not None), key=lambda d: (d.order, d.id))
    return (latest[-1].schedule if latest else None) or _USUAL


def _refusal(device: Device) -> str | None:
    """Return why the device did not act on the desired document that it has now."""
    desired, reported = device.desired, device.reported
    if desired is None or reported is None or reported.refusal is None:
        return None
    stale = reported.refusal.generation not in {None, desired.generation}
    if stale or reported.generation >= desired.generation:
        return None
    return reported.refusal.message


def _reported(deployment: Deployment, device: Device) -> ReportedCascade | None:
    """Return what the device says of the bundle, if it says it of the document it has now."""
    desired, reported = device.desired, device.reported
    if desired is None or reported is None or reported.generation < desired.generation:
        return None
    return next((c for c in reported.cascades if c.bundle == deployment.bundle), None)


def _as_reported(
    deployment: Deployment, device: Device, reported: ReportedCascade
) -> DeviceProgress:
    phase: Phase = reported.phase
    if phase == "running" and reported.running != deployment.bundle:
        phase = "starting"
    return DeviceProgress(
        device.name, phase, reported.fetched_bytes, reported.total_bytes, reported.message
    )
