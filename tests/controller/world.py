"""Fleets in memory for the pure modules: devices that say this and that, at given times."""

from collections.abc import Sequence

from controller.fleet import Device, Fleet, RungHistory
from controller.signing import Signer
from controller.steps import PutDesired, Step
from protocols.bundle import BundleRef
from protocols.desired import ControllerStatus, Deployment, Desired, Pins
from protocols.device import CoreClass, Inventory, Rungs, Sample, Status, Telemetry
from protocols.envelope import KeySet, generate_key, public_key
from protocols.schedule import Schedule
from protocols.topics import Topics

FLEET = "test"
TOPICS = Topics(FLEET)
RELEASE_KEY, CONTROLLER_KEY = generate_key(), generate_key()
RELEASE = Signer(public_key(RELEASE_KEY, "release"), RELEASE_KEY)
CONTROLLER = Signer(public_key(CONTROLLER_KEY, "controller"), CONTROLLER_KEY)
KEYS = KeySet(fleet=FLEET, keys=(RELEASE.public, CONTROLLER.public))
ME = "me"
FOUR_ALIKE = (CoreClass(cpus=(0, 1, 2, 3), capacity=1024),)
NOW_S = 1_000_000.0


def status(name: str = "pi", *, online: bool = True, boot_id: str = "b1") -> Status:
    return Status(device=name, online=online, boot_id=boot_id, version="0.1.0")


def inventory(
    name: str = "pi",
    *,
    memory_mib: float | None = 4096.0,
    cores: Sequence[CoreClass] = FOUR_ALIKE,
    labels: dict[str, str] | None = None,
    runtime: str | None = "ai-edge-litert 2.3.0",
) -> Inventory:
    return Inventory(
        device=name,
        labels=labels or {},
        agent_version="0.1.0",
        runtime=runtime,
        machine="aarch64",
        cores=tuple(cores),
        memory_mib=memory_mib,
    )


def telemetry(
    name: str = "pi",
    *,
    seq: int = 1,
    residency: int = 0,
    compute: int = 0,
    boot_id: str = "b1",
    available_mib: float | None = 3000.0,
) -> Telemetry:
    return Telemetry(
        device=name,
        boot_id=boot_id,
        seq=seq,
        ts=NOW_S,
        uptime_s=1.0,
        sample=Sample(time_s=1.0, memory_total_mib=4096.0, memory_available_mib=available_mib),
        rungs=Rungs(residency=residency, compute=compute),
    )


def controller(name: str = ME, *, mode: str = "serve", online: bool = True) -> ControllerStatus:
    return ControllerStatus.model_validate(
        {"controller": name, "online": online, "mode": mode, "version": "0.1.0"}
    )


def deployment(ref: BundleRef, order: int = 1, **more: object) -> Deployment:
    return Deployment.model_validate(
        {
            "id": f"{ref.name}-v{ref.version}-{order}",
            "fleet": FLEET,
            "bundle": ref,
            "order": order,
            "created_ts": 1.0,
            **more,
        }
    )


def pins(name: str = "pi", *found: object) -> Pins:
    return Pins.model_validate({"fleet": FLEET, "device": name, "pins": found})


def desired(name: str = "pi", generation: int = 1, **more: object) -> Desired:
    return Desired.model_validate(
        {
            "fleet": FLEET,
            "device": name,
            "generation": generation,
            "schedule": Schedule(),
            **more,
        }
    )


def fleet(*devices: Device, deployments: Sequence[Deployment] = ()) -> Fleet:
    """Return a fleet that `ME` serves alone."""
    return Fleet(
        TOPICS,
        KEYS,
        {device.name: device for device in devices},
        {d.id: d for d in deployments},
        {ME: controller()},
    )


def device(name: str = "pi", **more: object) -> Device:
    """Return a device that is online and has described itself."""
    return Device(name, **{"status": status(name), "inventory": inventory(name), **more})  # type: ignore[arg-type]


def history(rung: int, since_s: float) -> RungHistory:
    """Return a ladder's history: at this rung since then, at none before."""
    return RungHistory(rung, (since_s,) * 4)


def apply(found: Fleet, steps: Sequence[Step]) -> list[Desired]:
    """Let the devices' desired documents be what the steps say; return the documents."""
    written = [step.desired for step in steps if isinstance(step, PutDesired)]
    for document in written:
        topic = TOPICS.device(document.device, "desired")
        found.fold(topic, CONTROLLER.sign_desired(document), NOW_S)
    return written
