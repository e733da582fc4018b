"""`ctl deploy`: a cascade onto devices, watched until it runs there."""

from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.context import open_home, open_session
from controller.cli.exits import ExitCode
from controller.cli.options import (
    Bundle,
    Devices,
    Labels,
    Variants,
    duration_option,
    parse_pairs,
    parse_selector,
)
from controller.cli.output import Format, Output, err, note, print_json
from controller.cli.schedules import ScheduleFile
from controller.cli.wishes import (
    GoalOption,
    JoulesOption,
    LatencyOption,
    QuietOption,
    say_missed,
    wishes_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.catalog import StoredBundle
    from controller.cli.intent import Intent
    from controller.fleet import Fleet
    from controller.session import Session
    from controller.steps import Step
    from protocols.desired import Deployment

_PLANNER_S = 2.0
"""A planner writes a fifth of a second after a deployment has come."""


def deploy(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    bundle: Bundle,
    names: Devices = None,
    *,
    labels: Labels = None,
    variants: Variants = None,
    schedule: ScheduleFile = None,
    goal: GoalOption = None,
    latency_ms: LatencyOption = None,
    joules: JoulesOption = None,
    quiet: QuietOption = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Publish it and end, do not watch.")
    ] = False,
    timeout_s: Annotated[
        float, duration_option("--timeout", "Stop watching after, with exit code 4.", "10m")
    ] = 600.0,
    output: Output = Format.TABLE,
) -> None:
    """Deploy a cascade to devices, by name and label (none: all), and watch until it runs.

    Checks signature and artifacts first, and refuses what cannot fit. Without a ctl serve, this
    command is the controller while it watches. Ctrl-C stops watching, never the deployment.

    Exit codes: 0 runs everywhere; 2 invalid or cannot fit; 3 refused, rejected, quarantined or
    aborted; 4 timed out, stopped watching, or devices are offline.

    Example: ctl deploy digits@2 -l room=hall --latency 50ms --goal energy --quiet 22:00-06:00
    """
    from controller.cli.intent import Intent, find_bundle  # noqa: PLC0415

    intent = Intent(
        bundle,
        names or (),
        parse_selector(labels),
        parse_pairs(variants, "stage=variant"),
        schedule,
        wishes_of(goal, latency_ms, joules, quiet),
    )
    stored = find_bundle(open_home(ctx), bundle)
    with open_session(ctx, "deploy") as session:
        try:
            deployment = _publish(session, intent, stored)
        except KeyboardInterrupt:
            note("Stopped while it was sent; `ctl deployment ls` shows whether all of it was.")
            raise
        if detach:
            code = _detached(deployment, output)
        else:
            code = _watched(session, deployment, stored, timeout_s, output)
    raise typer.Exit(code)


def _publish(session: "Session", intent: "Intent", stored: "StoredBundle") -> "Deployment":
    """Publish the deployment, unless it cannot fit somewhere."""
    from controller.cli.previews import prospects  # noqa: PLC0415
    from controller.deployments import deployment_steps  # noqa: PLC0415
    from controller.errors import FitError  # noqa: PLC0415

    fleet = session.fleet
    deployment = intent.deployment(fleet, stored)
    found = prospects(deployment, stored.bundle, fleet, session.bundles)
    unfit = [one.unfit for one in found if one.unfit]
    if unfit:
        for line in unfit[:-1]:
            note(line, style="red")
        raise FitError(unfit[-1])
    say_missed(found)
    _say_left_behind(deployment, fleet)
    session.add_bundle(stored.ref, stored.bundle)
    _send(session, deployment_steps(deployment, stored.bundle))
    _await_schedule(session, deployment)
    return deployment


def _await_schedule(session: "Session", deployment: "Deployment") -> None:
    """Give the planner a moment with devices that have this very bundle already.

    Nothing but its schedule may be new there, and who watches would take it for done.
    """
    from controller.schedules.revision import is_told, ruling  # noqa: PLC0415

    def told(fleet: "Fleet") -> bool:
        return deployment.id in fleet.deployments and all(
            is_told(device, fleet, session.bundles)
            for device in fleet.devices.values()
            if any(d.id == deployment.id for d in ruling(fleet, device))
            and device.desired is not None
            and any(c.bundle == deployment.bundle for c in device.desired.cascades)
        )

    if session.acting or session.fleet.alive("serve"):
        session.wait(told, _PLANNER_S)


def _say_left_behind(deployment: "Deployment", fleet: "Fleet") -> None:
    """Say where a person's schedule ends with this deployment, and how it would go along."""
    from controller.schedules.revision import ruling  # noqa: PLC0415

    if deployment.schedule is not None:
        return
    mine = [
        device.name
        for device in fleet.selected(deployment.devices, deployment.selector)
        for old in ruling(fleet, device)
        if old.bundle.name == deployment.bundle.name and old.schedule is not None
    ]
    if mine:
        note(
            f"A person's schedule ends on {words.listed(mine)}; to keep it: ctl schedule show "
            f"{mine[0]} {deployment.bundle.name} -o toml > FILE, then deploy with --schedule FILE.",
            style="yellow",
        )


def _send(session: "Session", steps: "Sequence[Step]") -> None:
    """Carry the steps out, with a bar for the bytes that go to the broker."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn  # noqa: PLC0415

    from controller.steps import PutArtifact  # noqa: PLC0415

    total = sum(step.ref.size_bytes for step in steps if isinstance(step, PutArtifact))
    console = err()
    bar = Progress(
        TextColumn("artifacts to the broker"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("artifacts", total=total)
        session.execute(steps, lambda count: bar.advance(task, count))


def _detached(deployment: "Deployment", output: Format) -> ExitCode:
    from controller.cli.watching import how_to_go_on  # noqa: PLC0415

    if output is Format.JSON:
        print_json({"deployment": deployment})
    else:
        note(f"Published deployment {deployment.id}. {how_to_go_on(deployment)}")
    return ExitCode.DONE


def _watched(
    session: "Session",
    deployment: "Deployment",
    stored: "StoredBundle",
    timeout_s: float,
    output: Format,
) -> ExitCode:
    from controller.cli.watching import (  # noqa: PLC0415
        finish,
        interrupted,
        warn_without_controller,
        watch,
    )

    warn_without_controller(session)
    try:
        watched = watch(session, deployment, stored.bundle, timeout_s)
    except KeyboardInterrupt:
        return interrupted(session, deployment)
    return finish(deployment, watched, output)
