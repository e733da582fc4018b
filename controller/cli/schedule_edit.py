"""`ctl schedule edit` and `reset`: a person's own schedule for what is deployed already."""

import shlex
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.context import open_home, open_session
from controller.cli.exits import ExitCode
from controller.cli.options import duration_option
from controller.cli.output import Format, Output, err, note, print_json, table
from controller.identity import whoami

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from controller.fleet import Fleet
    from controller.schedules.difference import Difference
    from controller.schedules.revision import Target
    from controller.session import Session
    from protocols.bundle import Bundle
    from protocols.desired import Deployment
    from protocols.schedule import Schedule

_BUNDLE_S = 10.0
_SHORT_S = 30.0
_NONCE_CHARACTERS = 6
Name = Annotated[
    str,
    typer.Argument(
        metavar="CASCADE|DEVICE",
        help="A cascade on all of its devices, one device alone, or a deployment by its id.",
    ),
]
OfDevice = Annotated[
    str | None,
    typer.Argument(metavar="CASCADE", help="Which one, where a device runs more than one."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Wait = Annotated[
    float, duration_option("--timeout", "Stop waiting for the devices after, with code 4.", "30s")
]


@dataclass(frozen=True, slots=True)
class _Revision:
    """A schedule to publish, and what it changes."""

    target: "Target"
    bundle: "Bundle"
    schedule: "Schedule | None"
    """None: compiled rows, default lines."""
    changes: "tuple[Difference, ...]"
    cautions: "tuple[str, ...]" = ()


def edit(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    name: Name,
    cascade: OfDevice = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", exists=True, dir_okay=False, help="Instead of the editor."),
    ] = None,
    version: Annotated[
        int | None,
        typer.Option("--version", min=1, help="An earlier one again, instead of the editor."),
    ] = None,
    yes: Yes = False,
    timeout_s: Wait = _SHORT_S,
    output: Output = Format.TABLE,
) -> None:
    """Change a schedule in $VISUAL or $EDITOR, look at the difference, and deploy it.

    Publishes a new signed deployment of the same bundle. Rows that you leave as they are stay the
    compiler's, device by device; one that you change fixes all of the cascade's.

    Example: ctl schedule edit digits
    """
    if file is not None and version is not None:
        raise typer.BadParameter("--file and --version are two schedules; give one")
    from controller.schedules.revision import start_of, version_of  # noqa: PLC0415

    _check_key(ctx)
    with open_session(ctx, "deploy") as session:
        target, bundle = _find(session, name, cascade)
        fleet = session.fleet
        start = start_of(target, fleet, session.bundles)
        earlier = version_of(fleet, target.cascade, version) if version is not None else None

    def again(path: Path) -> str:
        of = f" {cascade}" if cascade is not None else ""
        return f"ctl schedule edit {name}{of} --file {shlex.quote(str(path))}"

    kept: Path | None = None
    if file is not None:
        found = _from_file(file, start, target, bundle)
    elif earlier is not None:
        found = _revised(earlier, start, target, bundle)
    else:
        found, kept = _from_editor(start, target, bundle, again)
    if found is None:
        note("Nothing has changed.")
        if kept is not None:
            kept.unlink(missing_ok=True)
        return
    try:
        code = _publish(ctx, (name, cascade), found, output, timeout_s, yes=yes)
    except BaseException:
        if kept is not None:
            note(f"Your text is kept: {again(kept)}")
        raise
    if kept is not None:
        kept.unlink(missing_ok=True)
    raise typer.Exit(code)


def reset(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    name: Name,
    cascade: OfDevice = None,
    *,
    rows_only: Annotated[
        bool, typer.Option("--rows", help="The rows alone; lines, dwell and windows stay.")
    ] = False,
    yes: Yes = False,
    timeout_s: Wait = _SHORT_S,
    output: Output = Format.TABLE,
) -> None:
    """Take a person's schedule back: the compiler's rows again, and the default lines.

    Example: ctl schedule reset digits
    """
    from controller.schedules.difference import differences  # noqa: PLC0415
    from controller.schedules.revision import start_of  # noqa: PLC0415

    _check_key(ctx)
    with open_session(ctx, "deploy") as session:
        target, bundle = _find(session, name, cascade)
        fleet, bundles = session.fleet, session.bundles
        old = target.deployment.schedule
        left = old.with_(cascades={}) if old is not None and rows_only else None
        bare = replace(target, deployment=target.deployment.with_(schedule=left))
        start, end = start_of(target, fleet, bundles), start_of(bare, fleet, bundles)
    if old is None or left == old:
        whose = "it is" if old is None else "its rows are"
        note(f"Nothing to take back of {target.cascade}: {whose} the compiler's.")
        return
    found = _Revision(target, bundle, left, differences(start, end))
    raise typer.Exit(_publish(ctx, (name, cascade), found, output, timeout_s, yes=yes))


def _check_key(ctx: typer.Context) -> None:
    """Fail before a person has written anything, where it could not be signed."""
    from controller.signing import load_signer  # noqa: PLC0415

    load_signer(open_home(ctx), "release").check_enough("a deployment")


def _find(session: "Session", name: str, cascade: str | None) -> "tuple[Target, Bundle]":
    from controller.errors import CatalogError  # noqa: PLC0415
    from controller.schedules.revision import find_target  # noqa: PLC0415

    target = find_target(session.fleet, name, cascade)
    ref = target.deployment.bundle
    bundle = session.wait(lambda _: session.bundles.get(ref.artifact.sha256), _BUNDLE_S)
    if bundle is None:
        raise CatalogError(
            f"cannot edit the schedule of {name}: the manifest of {words.ref(ref)} is neither in "
            "the catalog nor on the broker"
        )
    return target, bundle


def _from_file(
    file: Path, start: "Schedule", target: "Target", bundle: "Bundle"
) -> _Revision | None:
    from controller.cli.schedules import read_schedule  # noqa: PLC0415

    return _revised(read_schedule(file), start, target, bundle)


def _from_editor(
    start: "Schedule", target: "Target", bundle: "Bundle", again: "Callable[[Path], str]"
) -> tuple[_Revision | None, Path]:
    """Let a person write until it is valid; return what it changes, and where the text is."""
    from controller.cli.editor import edit_text  # noqa: PLC0415
    from controller.cli.schedules import parse_schedule  # noqa: PLC0415
    from controller.schedules.text import as_toml  # noqa: PLC0415

    def read(written: str) -> _Revision | None:
        return _revised(parse_schedule(written, "in the editor"), start, target, bundle)

    return edit_text(as_toml(start, _notes(target)), target.cascade, read, again)


def _notes(target: "Target") -> "Sequence[str]":
    """Return what a person should know before the first line."""
    from controller.cli.deployment import target as devices_of  # noqa: PLC0415
    from controller.schedules.revision import rows_of  # noqa: PLC0415

    deployment, count = target.deployment, len(target.devices)
    where = target.device or f"{devices_of(deployment)} ({words.count(count, 'device')} now)"
    said = [f"The schedule of {words.ref(deployment.bundle)} on {where}.", ""]
    if rows_of(deployment.schedule, target.cascade) is not None:
        return [
            *said,
            f"The rows are a person's. Without [cascades.{target.cascade}] they are",
            "the compiler's again.",
        ]
    whose = f"as it writes them for {target.devices[0].name} now" if count else "of the bundle"
    return [
        *said,
        f"The rows are the compiler's, {whose}. Left as they are, they stay",
        "the compiler's on each device; change one, and all of them are fixed as they stand here.",
    ]


def _revised(
    written: "Schedule", start: "Schedule", target: "Target", bundle: "Bundle"
) -> _Revision | None:
    """Return what a person's schedule changes; None: nothing.

    Raises:
        ControllerError: its rows are not the bundle's.
    """
    from controller.schedules.check import cautions, check_schedule  # noqa: PLC0415
    from controller.schedules.difference import differences  # noqa: PLC0415
    from controller.schedules.revision import edited, rows_of  # noqa: PLC0415

    check_schedule(written, bundle)
    schedule = edited(start, written, target)
    if schedule is None:
        return None
    rows, given = (rows_of(one, target.cascade) for one in (schedule, target.deployment.schedule))
    seen = schedule if rows or given else schedule.with_(cascades=start.cascades)
    said: list[str] = []
    if rows is not None:
        for device in target.devices:
            said += cautions(rows, bundle, device.inventory) if device.inventory else ()
        said += _of_new_rows(target) if given is None else []
    return _Revision(target, bundle, schedule, differences(start, seen), tuple(said))


def _of_new_rows(target: "Target") -> list[str]:
    said = []
    if len(target.devices) > 1:
        many = words.count(len(target.devices), "device")
        said.append(f"these rows hold on {many} alike; a schedule of its own: edit a DEVICE")
    wishes = target.deployment.wishes
    if wishes is not None and (wishes.latency_ms or wishes.joules or wishes.goal != "latency"):
        said.append("no compiler looks after the goal that was deployed while these rows hold")
    return said


def _publish(
    ctx: typer.Context,
    name: tuple[str, str | None],
    found: _Revision,
    output: Format,
    timeout_s: float,
    *,
    yes: bool,
) -> ExitCode:
    """Show what changes, ask, publish, and wait until the devices have it."""
    from controller.cli.schedule_views import difference_columns  # noqa: PLC0415
    from controller.schedules.revision import Author, kept, revision_steps  # noqa: PLC0415

    err().print(table(found.changes, difference_columns("NOW", "NEW")))
    for caution in found.cautions:
        note(f"Note: {caution}.", style="yellow")
    if not yes and not _agreed(found.target):
        note("Nothing was changed.")
        raise typer.Exit(ExitCode.ERROR)
    with open_session(ctx, "deploy") as session:
        target, bundle = _find(session, *name)
        _check_same(found.target, target)
        fleet = session.fleet
        stay = kept(fleet, target)
        nonces = [uuid.uuid4().hex[:_NONCE_CHARACTERS] for _ in range(1 + len(stay))]
        author = Author(whoami(), time.time(), nonces)
        steps = revision_steps(fleet, target, bundle, found.schedule, author)
        session.execute(steps)
        new = steps[-1].deployment
        try:
            return _wait(session, new, found, stay, timeout_s, output)
        except KeyboardInterrupt:
            note(f"Stopped waiting; deployment {new.id} goes on.")
            return ExitCode.PENDING


def _agreed(target: "Target") -> bool:
    where = target.device or words.count(len(target.devices), "device")
    try:
        return typer.confirm(f"Deploy this to {where}?", err=True)
    except typer.Abort:
        return False


def _check_same(before: "Target", now: "Target") -> None:
    from controller.errors import ControllerError  # noqa: PLC0415

    if before.deployment.id != now.deployment.id:
        by = f" by {now.deployment.by}" if now.deployment.by else ""
        raise ControllerError(
            f"cannot deploy the schedule of {now.cascade}: {now.deployment.id}{by} came meanwhile; "
            "look at it and edit again"
        )


def _wait(
    session: "Session",
    new: "Deployment",
    found: _Revision,
    stay: "Sequence[Deployment]",
    timeout_s: float,
    output: Format,
) -> ExitCode:
    """Wait until the devices have accepted it, and say how it stands."""
    from controller.cli.watching import warn_without_controller  # noqa: PLC0415
    from controller.schedules.revision import find_target, has_taken  # noqa: PLC0415

    left: list[str] = []

    def taken(fleet: "Fleet") -> bool:
        there = find_target(fleet, new.id).devices if new.id in fleet.deployments else ()
        left[:] = [d.name for d in there if not has_taken(d, fleet, session.bundles)]
        awaited = [name for name in left if fleet.device(name).online]
        return new.id in fleet.deployments and not awaited

    warn_without_controller(session)
    nobody = not session.acting and not session.fleet.alive("serve")
    session.wait(taken, 0.0 if nobody else timeout_s)
    taken(session.fleet)
    code = ExitCode.PENDING if left else ExitCode.DONE
    if output is Format.JSON:
        print_json(
            {
                "deployment": new,
                "version": new.schedule.version if new.schedule is not None else 0,
                "differences": found.changes,
                "kept": [one.id for one in stay],
                "left": left,
                "exit_code": int(code),
            }
        )
        return code
    _say(session, new, stay, left)
    return code


def _say(
    session: "Session", new: "Deployment", stay: "Sequence[Deployment]", left: "Sequence[str]"
) -> None:
    version = new.schedule.version if new.schedule is not None else 0
    what = f"version {version} of" if version else "the compiler's schedule for"
    note(f"Deployed as {new.id}: {what} {new.bundle.name}.", style="green")
    for one in stay:
        by_name = ", ".join(one.devices) or "the devices of its labels"
        note(f"{by_name}: the schedule of {one.id} stays.")
    if left:
        offline = [name for name in left if not session.fleet.device(name).online]
        slow = [name for name in left if name not in offline]
        said = [f"offline: {words.listed(offline)}"] if offline else []
        said += [f"not there yet: {words.listed(slow)}"] if slow else []
        note(f"It goes on by itself; {'; '.join(said)}.", style="yellow")
