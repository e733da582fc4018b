"""New deployments, their end, and pins: what a person decides, as documents and steps. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from controller.errors import ControllerError, FitError
from controller.fit import variant_of
from controller.fleet import Device, Fleet
from controller.schedules.check import check_schedule
from controller.steps import ClearArtifact, PutArtifact, PutDeployment, Step
from protocols.bundle import ArtifactRef, Bundle, BundleRef
from protocols.chunks import list_ref
from protocols.desired import Deployment, Pins, StagePin
from protocols.rollout import Selector, Strategy
from protocols.schedule import Schedule, Wishes

_ID_CHARACTERS = 40
_TICK_S = 0.001


def create_deployment(  # noqa: PLR0913 - what a person may say of one
    fleet: Fleet,
    ref: BundleRef,
    bundle: Bundle,
    *,
    nonce: str,
    now_s: float,
    devices: Sequence[str] = (),
    selector: Selector | None = None,
    variants: Mapping[str, str] | None = None,
    schedule: Schedule | None = None,
    wishes: Wishes | None = None,
    sources: Sequence[str] = (),
    strategy: Strategy | None = None,
    by: str = "",
) -> Deployment:
    """Return a deployment that rules over all those before it.

    Args:
        fleet: the deployments before it.
        ref: the bundle's envelope.
        bundle: what is in it.
        nonce: a few random letters and digits, so that two people never make the same id.
        now_s: Unix time in seconds.
        devices: by name; none: by selector alone.
        selector: labels that a device must have.
        variants: stage -> variant that a person insists on.
        schedule: thresholds, dwell and windows, and rows of the cascade where a person wrote them;
            it gets the next version of the cascade's schedules.
        wishes: for the schedule compiler.
        sources: URLs where devices can have its artifacts, besides the broker.
        strategy: how it reaches its devices; None: all at once.
        by: who deploys.

    Raises:
        FitError: a variant is insisted on that the bundle does not have.
        ControllerError: the schedule's rows are not this cascade's, or nobody is a canary.
    """
    if strategy is not None:
        meant = [d for d in fleet.selected(devices, selector) if d.member]
        _check_canary(fleet, ref, strategy, meant)
    if schedule is not None:
        check_schedule(schedule, bundle)
        schedule = schedule.with_(version=next_version(fleet, ref.name))
    stages = {stage.name: stage for stage in bundle.stages}
    for stage, variant in (variants or {}).items():
        if stage not in stages:
            raise FitError(
                f"cannot deploy {ref.name}@{ref.version}: no stage {stage!r}, only "
                f"{', '.join(stages)}"
            )
        variant_of(stages[stage], variant)
    return Deployment(
        id=deployment_id(ref, nonce),
        fleet=fleet.topics.fleet,
        bundle=ref,
        devices=tuple(devices),
        selector=selector or {},
        variants=dict(variants or {}),
        schedule=schedule,
        wishes=wishes,
        sources=tuple(sources),
        strategy=strategy,
        order=max((d.order for d in fleet.deployments.values()), default=0) + 1,
        by=by[:128],
        created_ts=now_s,
    )


def _check_canary(
    fleet: Fleet, ref: BundleRef, strategy: Strategy, devices: Sequence[Device]
) -> None:
    """Check that there is a first wave: a rollout without one would wait for ever."""
    canary = strategy.canary
    if canary is None or any(device.matches(canary) for device in devices):
        return
    labels = ",".join(f"{key}={value}" for key, value in canary.items())
    raise ControllerError(
        f"cannot deploy {ref.name}@{ref.version}: none of its {len(devices)} devices of fleet "
        f"{fleet.topics.fleet} is a canary ({labels})"
    )


def renewed(deployment: Deployment, fleet: Fleet, *, by: str, now_s: float) -> Deployment:
    """Return a deployment that was planned earlier, so that it rules over all those before it."""
    order = max((d.order for d in fleet.deployments.values()), default=0) + 1
    return deployment.with_(order=order, by=by[:128], created_ts=now_s)


def check_current(deployment: Deployment, fleet: Fleet) -> None:
    """Check that a deployment which others have signed meanwhile would still do what it says.

    Raises:
        ControllerError: it was aborted, changed or superseded since it was made.
    """
    there = fleet.deployments.get(deployment.id)
    if deployment.aborted or there == deployment:
        return
    newer = sorted(
        d.id
        for d in fleet.deployments.values()
        if d.bundle.name == deployment.bundle.name
        and d.order >= deployment.order
        and d.id != deployment.id
        and not d.aborted
    )
    if there is not None and there.aborted:
        why = "it was aborted meanwhile"
    elif there is not None:
        why = "the fleet has it already, and it was changed there meanwhile"
    elif newer:
        why = f"it was superseded meanwhile, by {', '.join(newer)}"
    else:
        return
    raise ControllerError(f"cannot publish {deployment.id}: {why}; deploy anew")


def deployment_id(ref: BundleRef, nonce: str) -> str:
    """Return the id of a deployment of a bundle."""
    return f"{ref.name[:_ID_CHARACTERS]}-v{ref.version}-{nonce}"


def next_version(fleet: Fleet, cascade: str) -> int:
    """Return the version of a cascade's next schedule: one more than any that was deployed."""
    said = [
        d.schedule.version
        for d in fleet.deployments.values()
        if d.bundle.name == cascade and d.schedule is not None
    ]
    return max(said, default=0) + 1


def deployment_steps(deployment: Deployment, bundle: Bundle) -> list[Step]:
    """Return what publishes a deployment: its artifacts first, so that nobody waits for them."""
    return [
        *(PutArtifact(ref, what) for ref, what in named_artifacts(deployment.bundle, bundle)),
        PutDeployment(deployment),
    ]


def abort_steps(fleet: Fleet, deployment_id: str, bundles: Mapping[str, Bundle]) -> list[Step]:
    """Return what aborts a deployment: the one before it rules again on its devices.

    Artifacts that only aborted deployments name leave the broker.

    Args:
        fleet: all deployments.
        deployment_id: which one.
        bundles: the bundles that are known, by the SHA-256 of their envelopes.

    Raises:
        ControllerError: there is no such deployment.
    """
    found = fleet.deployments.get(deployment_id)
    if found is None:
        known = ", ".join(sorted(fleet.deployments)) or "none"
        raise ControllerError(
            f"cannot abort {deployment_id}: no such deployment; there are {known}"
        )
    others = [d for d in fleet.deployments.values() if not d.aborted and d.id != deployment_id]
    bundle = bundles.get(found.bundle.artifact.sha256)
    unknown = any(d.bundle.artifact.sha256 not in bundles for d in others)
    named = [] if bundle is None or unknown else named_artifacts(found.bundle, bundle)
    needed = {
        ref.sha256
        for other in others
        if (theirs := bundles.get(other.bundle.artifact.sha256)) is not None
        for ref, _ in named_artifacts(other.bundle, theirs)
    }
    return [
        PutDeployment(found.with_(aborted=True), "aborted"),
        *(ClearArtifact(ref, what) for ref, what in named if ref.sha256 not in needed),
    ]


def named_artifacts(ref: BundleRef, bundle: Bundle) -> list[tuple[ArtifactRef, str]]:
    """Return every artifact of a bundle, each once, with words for it; its envelope comes last."""
    name = f"{ref.name}@{ref.version}"
    named: dict[str, tuple[ArtifactRef, str]] = {}
    for stage in bundle.stages:
        for variant in stage.variants:
            _name(named, variant.artifact, f"{name} {stage.name} {variant.name}")
    _name(named, bundle.golden.artifact, f"{name} golden samples")
    _name(named, ref.artifact, f"{name} manifest")
    return list(named.values())


def _name(named: dict[str, tuple[ArtifactRef, str]], ref: ArtifactRef, words: str) -> None:
    """Add an artifact, after its chunk list."""
    if (listed := list_ref(ref)) is not None:
        named.setdefault(listed.sha256, (listed, f"{words}, its chunk list"))
    named.setdefault(ref.sha256, (ref, words))


def pinned(
    fleet: Fleet, device: str, pins: Iterable[StagePin], by: str = "", now_s: float = 0.0
) -> Pins:
    """Return a device's pins with these added; what they leave open stays as it was pinned.

    Raises:
        ControllerError: the device is not known, or has no such cascade or stage.
    """
    merged = {(p.cascade, p.stage): p for p in _pins_of(fleet, device)}
    for pin in pins:
        _check_stage(fleet, device, pin)
        old = merged.get((pin.cascade, pin.stage), pin)
        merged[pin.cascade, pin.stage] = StagePin(
            cascade=pin.cascade,
            stage=pin.stage,
            loaded=old.loaded if pin.loaded is None else pin.loaded,
            threads=old.threads if pin.threads is None else pin.threads,
        )
    return _pins(fleet, device, tuple(merged.values()), by, now_s)


def unpinned(
    fleet: Fleet,
    device: str,
    cascade: str | None = None,
    stage: str | None = None,
    by: str = "",
    now_s: float = 0.0,
) -> Pins:
    """Return a device's pins without those of a cascade and a stage (None: of all).

    Raises:
        ControllerError: the device is not known, or a stage is named that is not pinned there.
    """
    there = _pins_of(fleet, device)
    kept = tuple(
        pin
        for pin in there
        if (cascade is not None and pin.cascade != cascade)
        or (stage is not None and pin.stage != stage)
    )
    if cascade is not None and there == kept:
        place = cascade if stage is None else f"{cascade}/{stage}"
        known = ", ".join(f"{pin.cascade}/{pin.stage}" for pin in there) or "nothing"
        raise ControllerError(f"cannot unpin {place} on {device}: {known} is pinned there")
    return _pins(fleet, device, kept, by, now_s)


def _pins_of(fleet: Fleet, device: str) -> tuple[StagePin, ...]:
    if device not in fleet.devices:
        known = ", ".join(sorted(fleet.devices)[:10]) or "none"
        raise ControllerError(f"cannot pin on {device}: no such device; the fleet has {known}")
    pins = fleet.devices[device].pins
    return pins.pins if pins is not None else ()


def _check_stage(fleet: Fleet, device: str, pin: StagePin) -> None:
    desired = fleet.devices[device].desired
    cascades = {c.bundle.name: c for c in desired.cascades} if desired is not None else {}
    if pin.cascade not in cascades:
        raise ControllerError(
            f"cannot pin on {device}: it runs {', '.join(cascades) or 'nothing'}, no "
            f"cascade {pin.cascade!r}"
        )
    stages = cascades[pin.cascade].variants
    if pin.stage not in stages:
        raise ControllerError(
            f"cannot pin on {device}: {pin.cascade} has no stage {pin.stage!r}, only "
            f"{', '.join(stages)}"
        )


def _pins(fleet: Fleet, device: str, pins: tuple[StagePin, ...], by: str, now_s: float) -> Pins:
    known = fleet.devices[device]
    before_ts = max(
        known.pins.ts if known.pins is not None else 0.0,
        known.desired.pins_ts if known.desired is not None else 0.0,
    )
    # The later word counts, also where two laptops' clocks differ.
    ts = max(now_s, before_ts + _TICK_S) if before_ts else now_s
    return Pins(fleet=fleet.topics.fleet, device=device, pins=pins, by=by[:128], ts=ts)
