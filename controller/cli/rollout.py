"""`ctl rollout`: how far a deployment has come, and what a person does to it on its way."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.complete import complete_bundle
from controller.cli.context import open_home, open_session
from controller.cli.exits import ExitCode
from controller.cli.options import duration_option
from controller.cli.output import Column, Format, Output, note, print_json, print_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.fleet import Fleet
    from controller.session import Session
    from controller.steps import PutDeployment
    from protocols.desired import Deployment

app = typer.Typer(no_args_is_help=True, help="Waves of a deployment: watch, hold, open, undo.")

Which = Annotated[
    str | None,
    typer.Argument(
        metavar="[CASCADE|ID]",
        help="The latest deployment of a cascade, or one by its id; none: the latest of all.",
        autocompletion=complete_bundle,
    ),
]
Target = Annotated[
    str,
    typer.Argument(
        metavar="CASCADE|ID",
        help="A cascade: the rollout under way, else its latest; or one by its id.",
        autocompletion=complete_bundle,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Timeout = Annotated[
    float | None,
    duration_option("--timeout", "Stop watching after, with exit code 4.", "never"),
]


@app.command("status")
def status(ctx: typer.Context, name: Which = None, output: Output = Format.TABLE) -> None:
    """Show a rollout at a glance: its waves, who runs it, what the gates say.

    Exit codes: 0 completed; 3 stopped or aborted; 4 under way.

    Example: ctl rollout status digits
    """
    from controller.cli.rollout_views import document  # noqa: PLC0415
    from controller.cli.rollout_watch import code_of, look, show  # noqa: PLC0415
    from controller.rollouts.acts import find  # noqa: PLC0415

    with open_session(ctx) as session:
        found = look(session, find(session.fleet, name))
    code = code_of(found)
    if output is Format.JSON:
        print_json(document(found, code))
    else:
        show(found)
    raise typer.Exit(code)


@app.command("watch")
def watch(
    ctx: typer.Context,
    name: Which = None,
    timeout_s: Timeout = None,
    output: Output = Format.TABLE,
) -> None:
    """Watch a rollout until it has ended. Without a ctl serve this carries it on meanwhile.

    Exit codes: 0 completed; 3 stopped or aborted; 4 stopped watching.

    Example: ctl rollout watch digits
    """
    from controller.rollouts.acts import find  # noqa: PLC0415

    with open_session(ctx, "deploy") as session:
        code = _watch(session, find(session.fleet, name), timeout_s, output)
    raise typer.Exit(code)


@app.command("history")
def history(ctx: typer.Context, cascade: Which = None, output: Output = Format.TABLE) -> None:
    """List what was rolled out, the latest first.

    Example: ctl rollout history digits
    """
    from controller.cli.deployment import target  # noqa: PLC0415
    from controller.cli.rollout_views import strategy_words  # noqa: PLC0415
    from controller.rollouts.acts import history as found_in  # noqa: PLC0415

    with open_session(ctx) as session:
        fleet = session.fleet
    now_s = time.time()
    print_rows(
        found_in(fleet, cascade),
        [
            Column("ORDER", lambda d: d.order, right=True),
            Column("BUNDLE", lambda d: words.ref(d.bundle)),
            Column("FOR", target, wrap=True),
            Column("WAVES", lambda d: strategy_words(d.strategy), wrap=True),
            Column("STATE", lambda d: _state(d, fleet), style=lambda d: _style(d, fleet)),
            Column("AGE", lambda d: words.age(now_s - d.created_ts), right=True),
            Column("BY", lambda d: d.by, spare=True),
            Column("ID", lambda d: d.id),
        ],
        output,
        empty="Nothing was deployed.",
        document=lambda d: {"deployment": d, "rollout": fleet.rollouts.get(d.id)},
    )


@app.command("pause")
def pause(ctx: typer.Context, name: Target, *, dry_run: DryRun = False) -> None:
    """Hold a rollout where it is. The gates go on watching, and can still stop it.

    Example: ctl rollout pause digits
    """
    from controller.rollouts.acts import pause as act  # noqa: PLC0415

    _act(ctx, act, name, dry_run=dry_run)


@app.command("resume")
def resume(ctx: typer.Context, name: Target, *, dry_run: DryRun = False) -> None:
    """Let a held rollout go on.

    Example: ctl rollout resume digits
    """
    from controller.rollouts.acts import resume as act  # noqa: PLC0415

    _act(ctx, act, name, dry_run=dry_run)


@app.command("promote")
def promote(ctx: typer.Context, name: Target, *, dry_run: DryRun = False) -> None:
    """Open the next wave now, without the rest of the soak. A held rollout goes on.

    Example: ctl rollout promote digits
    """
    from controller.rollouts.acts import promote as act  # noqa: PLC0415

    _act(ctx, act, name, dry_run=dry_run)


@app.command("abort")
def abort(
    ctx: typer.Context,
    name: Target,
    *,
    dry_run: DryRun = False,
    timeout_s: Annotated[
        float, duration_option("--timeout", "Stop waiting for the devices after.", "30s")
    ] = 30.0,
    output: Output = Format.TABLE,
) -> None:
    """End a rollout: what was there before comes back on the devices that it has reached.

    Example: ctl rollout abort digits
    """
    from controller.cli.deployment import abort_and_wait  # noqa: PLC0415
    from controller.rollouts.acts import meant  # noqa: PLC0415

    with open_session(ctx, "watch" if dry_run else "deploy") as session:
        deployment = meant(session.fleet, name)
        if dry_run:
            _say_abort(session, deployment)
            return
        code = abort_and_wait(session, deployment, timeout_s, output)
    raise typer.Exit(code)


@app.command("undo")
def undo(
    ctx: typer.Context,
    cascade: Target,
    *,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="[NAME@]VERSION", help="An earlier bundle; the one before."),
    ] = None,
    dry_run: DryRun = False,
    timeout_s: Annotated[
        float, duration_option("--timeout", "Stop watching after, with exit code 4.", "10m")
    ] = 600.0,
    output: Output = Format.TABLE,
) -> None:
    """Deploy an earlier bundle of a cascade again, everywhere at once, and watch until it runs.

    It goes where the present one is deployed, with the variants, schedule and wishes it had. All
    deployments of the present bundle are aborted.

    Example: ctl rollout undo digits --to digits@3
    """
    from controller.cli.rollout_undo import publish, say_dry_run, version_of  # noqa: PLC0415
    from controller.cli.rollout_undo import undone as prepared  # noqa: PLC0415
    from controller.cli.watching import watch_to_the_end  # noqa: PLC0415

    home = open_home(ctx)
    with open_session(ctx, "watch" if dry_run else "deploy") as session:
        back = prepared(home, session, cascade, version_of(cascade, to))
        if dry_run:
            say_dry_run(back)
            return
        publish(session, back)
        codes = [
            watch_to_the_end(session, deployment, back.stored.bundle, timeout_s, output)
            for deployment in back.deployments
        ]
        code = next((code for code in codes if code is not ExitCode.DONE), ExitCode.DONE)
    raise typer.Exit(code)


def _act(
    ctx: typer.Context,
    act: "Callable[[Fleet, str], PutDeployment]",
    name: str,
    *,
    dry_run: bool,
) -> None:
    from controller.cli.rollout_views import headline  # noqa: PLC0415
    from controller.cli.rollout_watch import look  # noqa: PLC0415

    with open_session(ctx, "watch" if dry_run else "deploy") as session:
        step = act(session.fleet, name)
        if dry_run:
            note(f"Would {step.describe()}.")
            note(f"Now: {headline(look(session, step.deployment))}.")
            return
        session.execute([step])
        note(f"{_DONE[step.act]} {step.deployment.id}.", style="green")
        if not session.fleet.alive("serve"):
            note(
                "No ctl serve is alive: it goes on once one runs, or while somebody watches "
                f"(ctl rollout watch {step.deployment.id}).",
                style="yellow",
            )


_DONE = {
    "rollout-paused": "Paused",
    "rollout-resumed": "Resumed",
    "rollout-promoted": "Opened the next wave of",
}


def _watch(
    session: "Session", deployment: "Deployment", timeout_s: float | None, output: Format
) -> ExitCode:
    from controller.cli.watching import watch_to_the_end  # noqa: PLC0415

    bundle = session.bundles.get(deployment.bundle.artifact.sha256)
    return watch_to_the_end(session, deployment, bundle, timeout_s, output)


def _say_abort(session: "Session", deployment: "Deployment") -> None:
    from controller.cli.rollout_watch import look  # noqa: PLC0415

    found = look(session, deployment)
    has = [d.device for d in found.devices if d.phase not in {"waiting", "untouched", "superseded"}]
    note(f"Would abort deployment {deployment.id} of {words.ref(deployment.bundle)}.")
    note(f"It has reached {words.count(len(has), 'device')}: {words.listed(has) or 'none'}.")


def _state(deployment: "Deployment", fleet: "Fleet") -> str:
    from controller.progress import counted, progress  # noqa: PLC0415

    if deployment.aborted:
        return "aborted"
    rollout = fleet.rollouts.get(deployment.id)
    if deployment.strategy is None or (rollout is not None and rollout.phase == "completed"):
        devices = progress(deployment, fleet)
        if devices and all(one.phase == "superseded" for one in devices):
            return "superseded"
        return "completed" if rollout is not None else counted(devices)
    return rollout.phase if rollout is not None else "not begun"


def _style(deployment: "Deployment", fleet: "Fleet") -> str:
    state = _state(deployment, fleet)
    return {"completed": "green", "stopped": "red", "aborted": "red"}.get(state, "")
