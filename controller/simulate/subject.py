"""What a trace is replayed on: a cascade of the catalog, a device as it is, or an example. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from controller.errors import ControllerError
from controller.fleet import Device
from controller.schedules.check import check_schedule
from controller.simulate.loops import Subject
from protocols.bundle import (
    Bundle,
    BundleRef,
    Certificate,
    CertifiedThreshold,
    Golden,
    Needs,
    SampleSpec,
    Stage,
    TensorSpec,
    Variant,
)
from protocols.chunks import artifact_ref
from protocols.desired import Deployment
from protocols.device import CoreClass, Inventory, Status
from protocols.schedule import Schedule, default_cascade_schedule

EXAMPLE = "example"
EXAMPLE_WORDS = (
    "example (assumed: small 8 MiB; large 120 MiB, or 40 MiB as int8; --cascade takes a real one)"
)
_DEVICE, _FLEET = "simulated", "simulation"
_RUNTIME = "ai-edge-litert"
_LADDER = ((0.005, 0.45), (0.01, 0.40), (0.02, 0.30), (0.05, 0.20))
"""(eps, share that goes on) of the example's gate: assumed."""


def of_bundle(
    ref: BundleRef,
    bundle: Bundle,
    *,
    cpus: int,
    memory_mib: float | None,
    schedule: Schedule | None = None,
) -> Subject:
    """Return a device that is all assumed, with one cascade deployed to it.

    Args:
        ref: of the bundle.
        bundle: the cascade.
        cpus: how many it has, all alike.
        memory_mib: how much it has; None: not known, then every form fits.
        schedule: the deployment's; None: compiled, with the default lines.

    Raises:
        ControllerError: the schedule's rows are not this cascade's.
    """
    if schedule is not None:
        check_schedule(schedule, bundle)
    inventory = Inventory(
        device=_DEVICE,
        agent_version="",
        runtime=_RUNTIME,
        machine="",
        cores=(CoreClass(cpus=tuple(range(cpus)), capacity=1024),),
        memory_mib=memory_mib,
    )
    deployment = Deployment(
        id=f"{ref.name}-v{ref.version}"[:63],
        fleet=_FLEET,
        bundle=ref,
        schedule=schedule,
        order=1,
        created_ts=0.0,
    )
    status = Status(device=_DEVICE, online=True, boot_id="", version="")
    device = Device(_DEVICE, status=status, inventory=inventory)
    return Subject(device, (deployment,), {ref.artifact.sha256: bundle})


def of_device(
    device: Device,
    ruling: Iterable[Deployment],
    bundles: Mapping[str, Bundle],
    schedule: Schedule | None = None,
) -> Subject:
    """Return a device of the fleet as if all that rules there had just been deployed.

    Without its pins: they are a person's word of the moment.

    Args:
        device: as the fleet knows it.
        ruling: its deployments, oldest first.
        bundles: those that are in the catalog.
        schedule: takes the place of what its deployments bring; None: theirs.

    Raises:
        ControllerError: it has not described itself, runs nothing, or a bundle is not known here.
    """
    why = f"cannot simulate {device.name}"
    found = tuple(ruling)
    if device.inventory is None:
        raise ControllerError(f"{why}: it has not said what it is yet")
    if not found:
        raise ControllerError(f"{why}: nothing is deployed to it; name a cascade by --cascade")
    for deployment in found:
        if deployment.bundle.artifact.sha256 not in bundles:
            name = f"{deployment.bundle.name}@{deployment.bundle.version}"
            raise ControllerError(f"{why}: {name} is not in the catalog here")
    if schedule is not None:
        found = tuple(_scheduled(found, bundles, schedule))
    status = Status(device=device.name, online=True, boot_id="", version="")
    bare = Device(device.name, status=status, inventory=device.inventory)
    return Subject(bare, found, bundles)


def _scheduled(
    ruling: Sequence[Deployment], bundles: Mapping[str, Bundle], schedule: Schedule
) -> Iterator[Deployment]:
    """Give each deployment the schedule, with its own rows alone.

    Raises:
        ControllerError: a row is for no cascade of the device, or for other stages.
    """
    names = {deployment.bundle.name for deployment in ruling}
    for deployment in ruling:
        name, sha256 = deployment.bundle.name, deployment.bundle.artifact.sha256
        others = names - {name}
        rows = {n: row for n, row in schedule.cascades.items() if n not in others}
        own = schedule.with_(cascades=rows)
        check_schedule(own, bundles[sha256])
        yield deployment.with_(schedule=own)


def example() -> tuple[BundleRef, Bundle]:
    """Return a plain cascade of two stages, all its figures assumed, for who has none at hand."""
    small = _variant("small", "int8", Needs(load_mib=8, load_ms=10, answer_ms=4))
    large = (
        _variant("large", "fp32", Needs(load_mib=120, load_ms=200, answer_ms=80)),
        _variant("large", "int8", Needs(load_mib=40, load_ms=60, answer_ms=30)),
    )
    steps = tuple(
        CertifiedThreshold(eps=eps, delta=0.05, threshold=1 - eps, n=1000, harms=0, escalated=on)
        for eps, on in _LADDER
    )
    bundle = Bundle(
        name=EXAMPLE,
        version=1,
        created_ts=0.0,
        input=SampleSpec(name="x", shape=(1,), dtype="float32"),
        output=SampleSpec(name="scores", shape=(2,), dtype="float32"),
        classes=2,
        stages=(
            Stage(name="small", variants=(small,), metric="max_prob"),
            Stage(name="large", variants=large),
        ),
        certificates=tuple(
            Certificate(
                variants={"small": small.name, "large": variant.name},
                gates={"small": steps},
                data_sha256="0" * 64,
                accuracy=1.0,
                last_stage_accuracy=1.0,
            )
            for variant in large
        ),
        golden=Golden(artifact=artifact_ref(b"example golden samples"), count=1),
        schedule=default_cascade_schedule(("small", "large"), threads=1),
    )
    return BundleRef(name=EXAMPLE, version=1, artifact=artifact_ref(bundle.encode())), bundle


def _variant(stage: str, name: str, needs: Needs) -> Variant:
    return Variant(
        name=name,
        artifact=artifact_ref(f"example {stage} {name}".encode()),
        inputs=(TensorSpec(name="x", shape=(1, 1), dtype="float32"),),
        outputs=(TensorSpec(name="y", shape=(1, 2), dtype="float32"),),
        score_kind="logits",
        needs=needs,
    )
