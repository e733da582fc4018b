"""`ctl deploy`: a cascade onto devices, watched until it runs there."""

from typing import TYPE_CHECKING, Annotated

import typer

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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.catalog import StoredBundle
    from controller.cli.intent import Intent
    from controller.session import Session
    from controller.steps import Step
    from protocols.desired import Deployment


def deploy(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    bundle: Bundle,
    names: Devices = None,
    *,
    labels: Labels = None,
    variants: Variants = None,
    schedule: ScheduleFile = None,
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

    Example: ctl deploy digits@2 -l room=hall --timeout 2m
    """
    from controller.cli.intent import Intent, find_bundle  # noqa: PLC0415

    intent = Intent(
        bundle,
        names or (),
        parse_selector(labels),
        parse_pairs(variants, "stage=variant"),
        schedule,
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
    unfit = [
        p.unfit for p in prospects(deployment, stored.bundle, fleet, session.bundles) if p.unfit
    ]
    if unfit:
        for line in unfit[:-1]:
            note(line, style="red")
        raise FitError(unfit[-1])
    session.add_bundle(stored.ref, stored.bundle)
    _send(session, deployment_steps(deployment, stored.bundle))
    return deployment


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
