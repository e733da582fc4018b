"""What a deployment would mean for each device: for `ctl plan`, and before `ctl deploy`. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.errors import FitError
from controller.fit import (
    CascadePreview,
    Form,
    chosen,
    forms,
    model_budget_mib,
    preview,
    row_of,
)
from controller.fleet import Device, Fleet
from controller.planner import ruling_deployments
from controller.schedules.compile import Compiled, compile_cascade
from controller.schedules.origin import origin_of_stage
from protocols.bundle import Bundle
from protocols.desired import Deployment
from protocols.schedule import CascadeSchedule, StageCompute, Wishes

_HELD = frozenset({"verified", "starting", "running"})


@dataclass(frozen=True, slots=True)
class StageRun:
    """How one stage would run at C0."""

    device: str
    stage: str
    compute: StageCompute
    p95_ms: float | None
    """Of its model, as it was measured there; None: it was not, or what was measured is shed."""
    source: str
    """Where the figures come from, in words."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a deployment would mean for one device."""

    device: str
    online: bool
    left_bytes: int = 0
    """What the device has still to fetch."""
    preview: CascadePreview | None = None
    """None: it cannot fit."""
    unfit: str = ""
    """"cannot ..." where it cannot."""
    runs: tuple[StageRun, ...] = ()
    """How the stages that are there would run."""
    p95_ms: float | None = None
    """Of an answer at C0, at most, where every stage was measured."""
    joules: tuple[float, str] | None = None
    """Of an answer at C0, mean, and the method."""
    missed: tuple[str, ...] = ()
    """Wishes that cannot be met, and why."""


def prospects(
    deployment: Deployment, bundle: Bundle, fleet: Fleet, bundles: Mapping[str, Bundle]
) -> list[Prospect]:
    """Return what a deployment would mean for each device that it is for and that is known.

    Args:
        deployment: not yet published.
        bundle: of the deployment.
        fleet: what is known.
        bundles: of the deployments before it, by the SHA-256 of their envelopes; one that is not
            among them is taken to need nothing.
    """
    return [
        _prospect(deployment, bundle, device, fleet, bundles)
        for device in fleet.selected(deployment.devices, deployment.selector)
        if device.member or device.name in deployment.devices
    ]


def _prospect(
    deployment: Deployment,
    bundle: Bundle,
    device: Device,
    fleet: Fleet,
    bundles: Mapping[str, Bundle],
) -> Prospect:
    if not device.member:
        why = f"cannot plan for {device.name}: it is {device.standing}, see ctl device ls"
        return Prospect(device.name, device.online, unfit=why)
    room_mib = _room_mib(deployment, device, fleet, bundles)
    try:
        found = preview(deployment, bundle, device, room_mib)
    except FitError as error:
        return Prospect(device.name, device.online, unfit=str(error))
    held = _held(device, bundles)
    wanted = {v.artifact.sha256: v.artifact for v in chosen(bundle, found.form).values()}
    for ref in (bundle.golden.artifact, deployment.bundle.artifact):
        wanted[ref.sha256] = ref
    left = sum(ref.size_bytes for sha256, ref in wanted.items() if sha256 not in held)
    compiled = _compiled(deployment, bundle, found.form, device)
    row = compiled.rows if compiled is not None else row_of(deployment, bundle)
    return Prospect(
        device.name,
        device.online,
        left,
        found,
        runs=tuple(
            _run(device.name, stage.name, row, compiled)
            for stage in bundle.stages
            if stage.name not in found.form.dropped
        ),
        p95_ms=compiled.p95_ms if compiled is not None else None,
        joules=compiled.joules if compiled is not None else None,
        missed=compiled.missed if compiled is not None else (),
    )


def _compiled(
    deployment: Deployment, bundle: Bundle, form: Form, device: Device
) -> Compiled | None:
    """Return what the compiler would write, with what the planner sheds; None: a person has."""
    if deployment.schedule is not None and bundle.name in deployment.schedule.cascades:
        return None
    shed = device.desired.shed if device.desired is not None else 0
    wishes = deployment.wishes or Wishes()
    row = row_of(deployment, bundle)
    return compile_cascade(bundle, form, device.inventory, row, wishes, shed)


def _run(device: str, stage: str, row: CascadeSchedule, compiled: Compiled | None) -> StageRun:
    compute = row.compute[0].stages[stage]
    choice = compiled.choices.get(stage) if compiled is not None else None
    run = choice.run if choice is not None else None
    holds = run is not None and (run.layout, run.threads) == (compute.layout, compute.threads)
    return StageRun(
        device,
        stage,
        compute,
        run.p95_ms if run is not None and holds else None,
        origin_of_stage(stage, row, compiled),
    )


def _room_mib(
    deployment: Deployment, device: Device, fleet: Fleet, bundles: Mapping[str, Bundle]
) -> float | None:
    """Return what the cascades that rule there, and stay, leave of a device's memory for models."""
    room = model_budget_mib(device)
    active = sorted(
        (d for d in fleet.deployments.values() if not d.aborted), key=lambda d: (d.order, d.id)
    )
    for other in ruling_deployments(active, device, fleet.rollouts):
        bundle = bundles.get(other.bundle.artifact.sha256)
        if room is None or bundle is None or other.bundle.name == deployment.bundle.name:
            continue
        room -= _need_mib(other, bundle, device, room)
    return room


def _need_mib(deployment: Deployment, bundle: Bundle, device: Device, room_mib: float) -> float:
    try:
        return forms(deployment, bundle, device, room_mib)[0].resident_mib
    except FitError:  # it is not there
        return 0.0


def _held(device: Device, bundles: Mapping[str, Bundle]) -> set[str]:
    """Return the artifacts that a device has, by what it reports."""
    held: set[str] = set()
    for cascade in device.reported.cascades if device.reported is not None else ():
        bundle = bundles.get(cascade.bundle.artifact.sha256)
        if bundle is None or cascade.phase not in _HELD:
            continue
        variants = {stage.name: stage.variant for stage in cascade.stages}
        held |= {cascade.bundle.artifact.sha256, bundle.golden.artifact.sha256}
        held |= set(_models(bundle, variants))
    return held


def _models(bundle: Bundle, variants: Mapping[str, str]) -> Iterable[str]:
    for stage in bundle.stages:
        for variant in stage.variants:
            if variants.get(stage.name) == variant.name:
                yield variant.artifact.sha256
