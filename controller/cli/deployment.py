"""`ctl deployment` and `ctl undeploy`: what was deployed, how it stands, and its end."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.complete import complete_bundle
from controller.cli.context import open_session
from controller.cli.exits import ExitCode
from controller.cli.options import duration_option
from controller.cli.output import (
    Column,
    Format,
    Output,
    note,
    out,
    print_facts,
    print_json,
    print_rows,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from controller.fleet import Device, Fleet
    from controller.progress import DeviceProgress
    from controller.session import Session
    from controller.steps import Step
    from protocols.desired import Deployment

app = typer.Typer(no_args_is_help=True, help="What was deployed, and how it stands.")

Id = Annotated[str, typer.Argument(metavar="ID", help="As ctl deployment ls shows it.")]
_LONG_S, _SHORT_S = 600.0, 30.0


@app.command("ls")
def list_deployments(
    ctx: typer.Context,
    *,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Aborted and superseded ones, too.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """List deployments, the latest first.

    Example: ctl deployment ls --all
    """
    from controller.cli.watching import document  # noqa: PLC0415
    from controller.progress import progress  # noqa: PLC0415

    with open_session(ctx) as session:
        fleet = session.fleet
    found = [
        (deployment, progress(deployment, fleet))
        for deployment in sorted(fleet.deployments.values(), key=lambda d: -d.order)
    ]
    if not everything:
        found = [row for row in found if not _is_past(*row)]
    now_s = time.time()
    print_rows(
        found,
        [
            Column("ID", lambda r: r[0].id),
            Column("CASCADE", lambda r: words.ref(r[0].bundle)),
            Column("FOR", lambda r: target(r[0]), wrap=True),
            Column("STATE", lambda r: _state(r[0], r[1], fleet), wrap=True),
            Column("AGE", lambda r: words.age(now_s - r[0].created_ts), right=True),
            Column("BY", lambda r: r[0].by),
        ],
        output,
        empty="No deployments found.",
        document=lambda r: document(r[0], r[1], ExitCode.DONE),
    )


@app.command("show")
def show_deployment(ctx: typer.Context, name: Id, output: Output = Format.TABLE) -> None:
    """Show a deployment, and how far each device is with it.

    Example: ctl deployment show digits-v2-1a2b3c
    """
    from controller.cli.watching import PROGRESS_COLUMNS, document  # noqa: PLC0415
    from controller.progress import progress  # noqa: PLC0415
    from controller.rollouts.overview import outcome_of  # noqa: PLC0415

    with open_session(ctx) as session:
        fleet = session.fleet
        deployment = _find(fleet, name)
        bundle = session.bundles.get(deployment.bundle.artifact.sha256)
    devices = progress(deployment, fleet, bundle)
    code = ExitCode(outcome_of(deployment, fleet, devices).exit_code)
    print_facts(_facts(deployment), output, document(deployment, devices, code))
    if output is Format.TABLE and devices:
        out().print()
        out().print(table(devices, PROGRESS_COLUMNS))


@app.command("watch")
def watch_deployment(
    ctx: typer.Context,
    name: Id,
    timeout_s: Annotated[
        float, duration_option("--timeout", "Stop watching after, with exit code 4.", "10m")
    ] = _LONG_S,
    output: Output = Format.TABLE,
) -> None:
    """Watch a deployment as ctl deploy does, with the same exit codes.

    Example: ctl deployment watch digits-v2-1a2b3c
    """
    from controller.cli.watching import watch_to_the_end  # noqa: PLC0415

    with open_session(ctx, "deploy") as session:
        deployment = _find(session.fleet, name)
        bundle = session.bundles.get(deployment.bundle.artifact.sha256)
        code = watch_to_the_end(session, deployment, bundle, timeout_s, output)
    raise typer.Exit(code)


Wait = Annotated[
    float, duration_option("--timeout", "Stop waiting for the devices after, with code 4.", "30s")
]


@app.command("abort")
def abort_deployment(
    ctx: typer.Context, name: Id, timeout_s: Wait = _SHORT_S, output: Output = Format.TABLE
) -> None:
    """Abort a deployment: the one before it rules again, or its devices give the cascade up.

    Example: ctl deployment abort digits-v2-1a2b3c
    """
    with open_session(ctx, "deploy") as session:
        code = abort_and_wait(session, _find(session.fleet, name), timeout_s, output)
    raise typer.Exit(code)


def abort_and_wait(
    session: "Session", deployment: "Deployment", timeout_s: float, output: Format
) -> ExitCode:
    """Abort a deployment and wait for its devices; return the exit code."""
    from controller.deployments import abort_steps  # noqa: PLC0415

    session.execute(abort_steps(session.fleet, deployment.id, session.bundles))
    note(f"Aborted deployment {deployment.id} of {words.ref(deployment.bundle)}.")
    return _wait_until_gone(session, [deployment], timeout_s, output)


def undeploy(
    ctx: typer.Context,
    cascade: Annotated[
        str, typer.Argument(metavar="NAME", autocompletion=complete_bundle, help="A cascade.")
    ],
    timeout_s: Wait = _SHORT_S,
    output: Output = Format.TABLE,
) -> None:
    """Take a cascade off the fleet: abort all of its deployments, and wait for the devices.

    Example: ctl undeploy digits
    """
    from controller.errors import ControllerError  # noqa: PLC0415

    with open_session(ctx, "deploy") as session:
        fleet = session.fleet
        active = [
            d for d in fleet.deployments.values() if d.bundle.name == cascade and not d.aborted
        ]
        if not active:
            known = sorted({d.bundle.name for d in fleet.deployments.values() if not d.aborted})
            raise ControllerError(
                f"cannot undeploy {cascade}: only {', '.join(known) or 'nothing'} is deployed"
            )
        session.execute(_abort_all(session, fleet, active))
        note(f"Aborted {words.count(len(active), 'deployment')} of {cascade}.")
        code = _wait_until_gone(session, active, timeout_s, output)
        offline = [d.name for d in session.fleet.devices.values() if _is_told_later(d, cascade)]
        if offline:
            note(f"Offline, and told when they come back: {words.listed(offline)}.")
    raise typer.Exit(code)


def _abort_all(session: "Session", fleet: "Fleet", active: "Sequence[Deployment]") -> "list[Step]":
    """Return the steps that abort deployments one after the other."""
    from controller.deployments import abort_steps  # noqa: PLC0415

    steps: list[Step] = []
    for deployment in active:
        steps += abort_steps(fleet, deployment.id, session.bundles)
        fleet.deployments[deployment.id] = deployment.with_(aborted=True)
    return steps


def _wait_until_gone(
    session: "Session", aborted: "Sequence[Deployment]", timeout_s: float, output: Format
) -> ExitCode:
    """Wait until no device that is online is told to run, or runs, what nobody wants there."""
    from controller.cli.watching import warn_without_controller  # noqa: PLC0415

    warn_without_controller(session)
    left: list[str] = []

    def gone(fleet: "Fleet") -> bool:
        left[:] = [d.name for d in fleet.devices.values() if d.online and _has(d, aborted, fleet)]
        return not left

    code = ExitCode.DONE if session.wait(gone, timeout_s) else ExitCode.PENDING
    if output is Format.JSON:
        aborted_ids = [d.id for d in aborted]
        print_json({"aborted": aborted_ids, "still_there": left, "exit_code": int(code)})
    elif left:
        note(f"Still there after {timeout_s:g} s: {', '.join(left)}.", style="yellow")
    return code


def _has(device: "Device", aborted: "Sequence[Deployment]", fleet: "Fleet") -> bool:
    """Whether a device has the bundle of an aborted deployment and no other one wants it there."""
    from controller.progress import means, reaches  # noqa: PLC0415

    ids = {d.id for d in aborted}
    refs = {d.bundle for d in aborted if means(d, device)}
    refs -= {
        d.bundle
        for d in fleet.deployments.values()
        if d.id not in ids and reaches(d, device, fleet.rollouts)
    }
    told = device.desired.cascades if device.desired is not None else ()
    has = device.reported.cascades if device.reported is not None else ()
    return any(c.bundle in refs for c in told) or any(c.running in refs for c in has)


def _is_told_later(device: "Device", cascade: str) -> bool:
    """Whether a device that is not connected still has a cascade."""
    has = device.reported.cascades if device.reported is not None else ()
    return not device.online and any(c.bundle.name == cascade for c in has)


def _is_past(deployment: "Deployment", devices: "Sequence[DeviceProgress]") -> bool:
    """Whether a deployment means nothing any more: aborted, or replaced on all of its devices."""
    replaced = bool(devices) and all(one.phase == "superseded" for one in devices)
    return deployment.aborted or replaced


def target(deployment: "Deployment") -> str:
    """Say which devices a deployment is for."""
    labels = [f"{key}={value}" for key, value in sorted(deployment.selector.items())]
    return ", ".join([*deployment.devices, *labels]) or "all devices"


def _find(fleet: "Fleet", name: str) -> "Deployment":
    from controller.errors import ControllerError  # noqa: PLC0415

    if name not in fleet.deployments:
        known = ", ".join(sorted(fleet.deployments)[-5:]) or "none"
        raise ControllerError(f"cannot find deployment {name}: the fleet has {known}")
    return fleet.deployments[name]


def _state(deployment: "Deployment", devices: "Sequence[DeviceProgress]", fleet: "Fleet") -> str:
    from controller.progress import outcome  # noqa: PLC0415

    if deployment.aborted:
        return "aborted"
    rollout = fleet.rollouts.get(deployment.id)
    how = f"{rollout.phase}: " if rollout is not None and rollout.phase != "completed" else ""
    return how + outcome(devices).message


def _facts(deployment: "Deployment") -> "Iterator[tuple[str, object]]":
    from controller.cli.rollout_views import gate_words, strategy_words  # noqa: PLC0415

    yield "Deployment", deployment.id
    yield "Cascade", words.ref(deployment.bundle)
    yield "For", target(deployment)
    yield "Variants", ", ".join(f"{s}={v}" for s, v in sorted(deployment.variants.items()))
    yield "Waves", strategy_words(deployment.strategy)
    if deployment.strategy is not None:
        yield "Gates", gate_words(deployment.strategy.gates)
    yield "Schedule", "its own" if deployment.schedule is not None else "the bundle's"
    yield "State", "aborted" if deployment.aborted else "active"
    yield "Age", words.age(time.time() - deployment.created_ts)
    yield "By", deployment.by
