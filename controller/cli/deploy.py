"""`ctl deploy`: a cascade onto devices, watched until it runs there."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.complete import complete_bundle
from controller.cli.context import open_home, open_session
from controller.cli.exits import ExitCode
from controller.cli.options import (
    Devices,
    Labels,
    Variants,
    duration_option,
    parse_pairs,
    parse_selector,
)
from controller.cli.output import Format, Output, err, note, print_json
from controller.cli.schedules import ScheduleFile
from controller.cli.strategy import (
    CanaryOption,
    GateOption,
    PerMinuteOption,
    SoakOption,
    WavesOption,
    strategy_of,
)
from controller.cli.urls import UrlOption, parse_urls
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

    from controller.cli.deploying import Prepared
    from controller.cli.intent import Intent
    from controller.fleet import Fleet
    from controller.session import Session
    from controller.steps import Step
    from protocols.desired import Deployment

BundleOrPlan = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME[@VERSION]",
        help="A cascade of the catalog; the latest version where none is given.",
        autocompletion=complete_bundle,
    ),
]

_PLANNER_S = 2.0
"""A planner writes a fifth of a second after a deployment has come."""


def deploy(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    bundle: BundleOrPlan = None,
    names: Devices = None,
    *,
    labels: Labels = None,
    variants: Variants = None,
    schedule: ScheduleFile = None,
    goal: GoalOption = None,
    latency_ms: LatencyOption = None,
    joules: JoulesOption = None,
    quiet: QuietOption = None,
    urls: UrlOption = None,
    canary: CanaryOption = None,
    waves: WavesOption = None,
    per_minute: PerMinuteOption = None,
    soak: SoakOption = None,
    gates: GateOption = None,
    plan_id: Annotated[
        str | None, typer.Option("--plan", metavar="ID", help="What ctl plan has shown, as it was.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")
    ] = False,
    sign_only: Annotated[
        Path | None,
        typer.Option(
            "--sign-only",
            metavar="FILE",
            help="Publish nothing: write it signed, for others to add theirs with ctl sign.",
        ),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Publish it and end, do not watch.")
    ] = False,
    timeout_s: Annotated[
        float | None,
        duration_option(
            "--timeout", "Stop watching after, with exit code 4.", "10m, in waves never"
        ),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Deploy a cascade to devices, by name and label (none: all), and watch until it runs.

    Checks signature and artifacts first, and refuses what cannot fit. With --canary, --waves,
    --per-minute, --soak or --gate it goes out in waves, and stops and goes back by itself where
    devices do badly with it. Without a ctl serve, this command is the controller while it watches.
    Ctrl-C stops watching, never the deployment.

    Exit codes: 0 runs everywhere, or its waves are completed; 2 invalid or cannot fit; 3 refused,
    rejected, quarantined, aborted, stopped by a gate, or the fleet has moved since the plan; 4
    timed out, stopped watching, or devices are offline.

    Example: ctl deploy digits@2 -l room=hall --canary ring=canary --waves 10%,50% --soak 30m
    """
    from controller.cli.deploying import prepare, say_dry_run  # noqa: PLC0415
    from controller.cli.intent import Intent  # noqa: PLC0415
    from controller.cli.signing import sign_partly  # noqa: PLC0415
    from controller.cli.watching import watch_to_the_end  # noqa: PLC0415

    intent = Intent(
        bundle or "",
        names or (),
        parse_selector(labels),
        parse_pairs(variants, "stage=variant"),
        schedule,
        wishes_of(goal, latency_ms, joules, quiet),
        strategy_of(canary, waves, per_minute, soak, gates),
        parse_urls(urls),
    )
    _check_one(intent, plan_id)
    home = open_home(ctx)
    with open_session(ctx, "watch" if dry_run or sign_only else "deploy") as session:
        found = prepare(home, session, intent, plan_id)
        if dry_run:
            say_dry_run(found, session.fleet, output)
            return
        if sign_only is not None:
            sign_partly(home, found.deployment, sign_only, output)
            return
        try:
            _publish(session, found)
        except KeyboardInterrupt:
            note("Stopped while it was sent; `ctl deployment ls` shows whether all of it was.")
            raise
        if detach:
            code = _detached(found.deployment, output)
        else:
            code = watch_to_the_end(
                session, found.deployment, found.stored.bundle, timeout_s, output
            )
    raise typer.Exit(code)


def _check_one(intent: "Intent", plan_id: str | None) -> None:
    """Check that either a plan is named or an intent is said."""
    from controller.cli.intent import Intent  # noqa: PLC0415

    if plan_id is None and not intent.bundle:
        raise typer.BadParameter("name a cascade, or a plan with --plan ID")
    if plan_id is not None and intent != Intent("", selector={}, variants={}):
        raise typer.BadParameter("--plan says all that is wanted: no cascade, devices or options")


def _publish(session: "Session", found: "Prepared") -> None:
    """Publish a deployment that fits everywhere."""
    from controller.deployments import deployment_steps  # noqa: PLC0415

    deployment, stored = found.deployment, found.stored
    say_missed(found.prospects)
    _say_left_behind(deployment, session.fleet)
    session.add_bundle(stored.ref, stored.bundle)
    _send(session, deployment_steps(deployment, stored.bundle))
    if deployment.strategy is None:
        _await_schedule(session, deployment)


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
