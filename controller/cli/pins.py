"""`ctl load`, `unload`, `threads`, `unpin`: what a person fixes on a device, against the planner.

A pin overrides schedule, planner and governor, but no hard limit of the device.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.context import open_session
from controller.cli.exits import ExitCode
from controller.cli.options import duration_option
from controller.cli.output import Format, Output, note, print_json
from controller.identity import whoami

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.fleet import Device, Fleet
    from controller.session import Session
    from protocols.desired import Pins, StagePin
    from protocols.device import ReportedStage

DeviceName = Annotated[str, typer.Argument(metavar="DEVICE")]
Place = Annotated[str, typer.Argument(metavar="CASCADE/STAGE", help="For example digits/large.")]
Wait = Annotated[
    float, duration_option("--timeout", "Stop waiting for the device after, with code 4.", "30s")
]
_SHORT_S = 30.0


@dataclass(frozen=True, slots=True)
class _Job:
    """Pins to publish, what they do in words, and whether a device has done it."""

    pins: "Pins"
    said: str
    done: "Callable[[Device], bool]"


def load(
    ctx: typer.Context,
    device: DeviceName,
    place: Place,
    timeout_s: Wait = _SHORT_S,
    output: Output = Format.TABLE,
) -> None:
    """Pin a stage as loaded: it stays in memory, whatever the rung below R4.

    Example: ctl load pi-1 digits/large
    """
    from protocols.desired import StagePin  # noqa: PLC0415

    cascade, stage = _split(place)
    _pin(ctx, device, StagePin(cascade=cascade, stage=stage, loaded=True), timeout_s, output)


def unload(
    ctx: typer.Context,
    device: DeviceName,
    place: Place,
    timeout_s: Wait = _SHORT_S,
    output: Output = Format.TABLE,
) -> None:
    """Pin a stage as unloaded: its memory goes back, earlier stages answer alone.

    Example: ctl unload pi-1 digits/large
    """
    from protocols.desired import StagePin  # noqa: PLC0415

    cascade, stage = _split(place)
    _pin(ctx, device, StagePin(cascade=cascade, stage=stage, loaded=False), timeout_s, output)


def threads(
    ctx: typer.Context,
    device: DeviceName,
    place: Place,
    count: Annotated[int, typer.Argument(metavar="N", min=1, max=256, help="Threads.")],
    timeout_s: Wait = _SHORT_S,
    output: Output = Format.TABLE,
) -> None:
    """Pin the threads of a stage; the device takes at most one for each of its CPUs.

    Example: ctl threads pi-1 digits/large 2
    """
    from protocols.desired import StagePin  # noqa: PLC0415

    cascade, stage = _split(place)
    _pin(ctx, device, StagePin(cascade=cascade, stage=stage, threads=count), timeout_s, output)


def unpin(
    ctx: typer.Context,
    device: DeviceName,
    place: Annotated[
        str | None,
        typer.Argument(metavar="CASCADE/STAGE", help="None: every pin of the device."),
    ] = None,
    timeout_s: Wait = _SHORT_S,
    output: Output = Format.TABLE,
) -> None:
    """Take pins back: planner and governor decide again.

    Example: ctl unpin pi-1 digits/large
    """
    from controller.deployments import unpinned  # noqa: PLC0415

    cascade, stage = _split(place) if place is not None else (None, None)
    with open_session(ctx, "deploy") as session:
        pins = unpinned(session.fleet, device, cascade, stage, whoami(), time.time())
        job = _Job(pins, f"{place or 'Every stage'} of {device} unpinned", _is_told(pins))
        code = _publish(session, job, timeout_s, output)
    raise typer.Exit(code)


def _pin(
    ctx: typer.Context, device: str, pin: "StagePin", timeout_s: float, output: Format
) -> None:
    from controller.deployments import pinned  # noqa: PLC0415

    with open_session(ctx, "deploy") as session:
        pins = pinned(session.fleet, device, [pin], whoami(), time.time())
        told = _is_told(pins)

        def done(found: "Device") -> bool:
            return told(found) and has_taken(found, pin)

        code = _publish(
            session, _Job(pins, _said(session.fleet, pin, device), done), timeout_s, output
        )
    raise typer.Exit(code)


def _said(fleet: "Fleet", pin: "StagePin", device: str) -> str:
    """Say what a pin does: `digits/large of pi-1 pinned: 2 threads`."""
    what = []
    if pin.loaded is not None:
        what.append("loaded" if pin.loaded else "unloaded")
    if pin.threads is not None:
        most = _cpus(fleet.device(device)) or pin.threads
        limit = f", and it has {words.count(most, 'CPU')}" if pin.threads > most else ""
        what.append(words.count(pin.threads, "thread") + limit)
    return f"{pin.cascade}/{pin.stage} of {device} pinned: {', '.join(what)}"


def _publish(session: "Session", job: _Job, timeout_s: float, output: Format) -> ExitCode:
    """Publish a device's pins, wait until it reports them, and say how it ended."""
    from controller.steps import PutPins  # noqa: PLC0415

    pins = job.pins

    def reported(fleet: "Fleet") -> bool:
        return job.done(fleet.device(pins.device))

    session.execute([PutPins(pins)])
    obstacle = _obstacle(session, pins.device)
    code = ExitCode.PENDING
    if obstacle is None and session.wait(reported, timeout_s):
        code = ExitCode.DONE
    device = session.fleet.device(pins.device)
    if output is Format.JSON:
        print_json({"pins": pins, "reported": device.reported, "exit_code": int(code)})
    elif code is ExitCode.DONE:
        note(f"{job.said}.", style="green")
    else:
        why = obstacle or f"not in {timeout_s:g} s{_last_words(device)}"
        note(f"{job.said}, but the device has not done it yet: {why}.", style="yellow")
    return code


def _obstacle(session: "Session", device: str) -> str | None:
    """Return why there is nothing to wait for."""
    if not session.fleet.device(device).online:
        return "it is offline"
    if not session.acting and not session.fleet.alive("serve"):
        return "no controller is alive; start ctl serve"
    return None


def _last_words(device: "Device") -> str:
    if device.reported is not None and device.reported.refusal is not None:
        return f"; it says: {device.reported.refusal.message}"
    rungs = device.reported.rungs if device.reported is not None else None
    causes = [c for c in (rungs.residency_cause, rungs.compute_cause) if c] if rungs else []
    return f"; its rungs: {'; '.join(causes)}" if causes else ""


def _is_told(pins: "Pins") -> "Callable[[Device], bool]":
    """Return whether a device has accepted a desired document with just these pins."""

    def told(device: "Device") -> bool:
        desired, reported = device.desired, device.reported
        if desired is None:
            return not pins.pins
        return (
            reported is not None
            and desired.pins == pins.pins
            and reported.generation >= desired.generation
        )

    return told


def has_taken(device: "Device", pin: "StagePin") -> bool:
    """Whether a device reports a stage as a pin wants it."""
    stage = _stage(device, pin)
    if stage is None:
        return pin.loaded is False
    if pin.loaded is not None and (stage.state == "loaded") != pin.loaded:
        return False
    if pin.threads is None or stage.threads is None:
        return True
    return stage.threads == min(pin.threads, _cpus(device) or pin.threads)


def _cpus(device: "Device") -> int:
    """Return how many CPUs a device has; 0: it has not said."""
    cores = device.inventory.cores if device.inventory is not None else ()
    return sum(len(group.cpus) for group in cores)


def _stage(device: "Device", pin: "StagePin") -> "ReportedStage | None":
    for cascade in device.reported.cascades if device.reported is not None else ():
        for stage in cascade.stages:
            if (cascade.bundle.name, stage.name) == (pin.cascade, pin.stage):
                return stage
    return None


def _split(place: str) -> tuple[str, str]:
    cascade, slash, stage = place.partition("/")
    if not (cascade and slash and stage) or "/" in stage:
        raise typer.BadParameter(f"{place!r} is no stage; write CASCADE/STAGE, as digits/large")
    return cascade, stage
