"""`ctl schedule`: the thread schedule of a device, as it holds, and a person's own."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.context import open_session
from controller.cli.output import (
    Column,
    Format,
    Output,
    note,
    out,
    print_facts,
    print_json,
    print_rows,
    print_table,
    text,
)
from controller.cli.schedule_edit import edit, reset

if TYPE_CHECKING:
    from controller.cli.schedule_views import View
    from controller.fleet import Device, Fleet
    from controller.session import Session
    from protocols.desired import Deployment, Desired
    from protocols.schedule import Schedule

app = typer.Typer(no_args_is_help=True, help="How devices run: rungs, threads, lines, hours.")
app.command("edit")(edit)
app.command("reset")(reset)


class Shape(StrEnum):
    """How `show` prints a schedule."""

    TABLE = "table"
    JSON = "json"
    TOML = "toml"


DeviceName = Annotated[str, typer.Argument(metavar="DEVICE")]
CascadeName = Annotated[
    str | None, typer.Argument(metavar="CASCADE", help="None: all of the device's.")
]


@app.command("show")
def show(
    ctx: typer.Context,
    device: DeviceName,
    cascade: CascadeName = None,
    output: Annotated[
        Shape,
        typer.Option("--output", "-o", metavar="FORMAT", help="table, json, or toml for --file."),
    ] = Shape.TABLE,
) -> None:
    """Show the schedule that holds on a device, and where its figures come from.

    Example: ctl schedule show pi-1 digits
    """
    from controller.cli.schedule_views import document, view_of  # noqa: PLC0415
    from controller.schedules.revision import ruling  # noqa: PLC0415
    from controller.schedules.text import as_toml  # noqa: PLC0415

    with open_session(ctx) as session:
        found, desired = _told(session.fleet, device, cascade, "show")
        view = view_of(found, desired, ruling(session.fleet, found), session.bundles, cascade)
    match output:
        case Shape.JSON:
            print_json(document(view))
        case Shape.TOML:
            title = f"The schedule of {device}, generation {desired.generation}."
            sys.stdout.write(as_toml(view.schedule, [title]))
        case Shape.TABLE:
            _print(view)


def _print(view: "View") -> None:
    from controller.cli import schedule_views as views  # noqa: PLC0415

    print_facts(views.facts(view), Format.TABLE, None)
    for one in view.cascades:
        out().print()
        out().print(text(views.head_of(one), "bold"), soft_wrap=True)
        print_table(views.compute_lines(one), views.COMPUTE_COLUMNS)
        out().print()
        print_table(views.residency_lines(one), views.RESIDENCY_COLUMNS)
        out().print()
        print_facts(views.origins(one, view.device), Format.TABLE, None)
    out().print()
    print_table(views.signal_lines(view.schedule), views.SIGNAL_COLUMNS)


@app.command("diff")
def diff(
    ctx: typer.Context,
    first: Annotated[str, typer.Argument(metavar="DEVICE|FILE")],
    second: Annotated[
        str | None,
        typer.Argument(metavar="DEVICE|FILE", help="None: what the compiler would write now."),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what differs: a device against the compiler, or two devices or files.

    Example: ctl schedule diff pi-1 pi-2
    """
    from controller.cli.schedule_views import difference_columns  # noqa: PLC0415
    from controller.schedules.difference import differences  # noqa: PLC0415

    if second is not None and _is_file(first) and _is_file(second):
        before, after = _read(first), _read(second)
    else:
        with open_session(ctx) as session:
            before = _either(session, first)
            after = _either(session, second) if second else _compiled(session, first)
    found = differences(before, after)
    heads = ("IN FORCE", "COMPILER") if second is None else (first, second)
    same = "The compiler would write the same." if second is None else "They are the same."
    print_rows(found, difference_columns(*heads), output, empty=same)


def _is_file(name: str) -> bool:
    """Whether a word is a file rather than a device: names of devices have no slash."""
    return "/" in name or name.endswith((".toml", ".json")) or Path(name).is_file()


def _read(name: str) -> "Schedule":
    from controller.cli.schedules import read_schedule  # noqa: PLC0415

    return read_schedule(Path(name))


def _either(session: "Session", name: str) -> "Schedule":
    """Return the schedule of a device, or a file's."""
    if name not in session.fleet.devices and _is_file(name):
        return _read(name)
    return _told(session.fleet, name, None, "compare")[1].schedule


def _compiled(session: "Session", name: str) -> "Schedule":
    """Return what the compiler would write for a device now; say where a person's rows hold."""
    from controller.planner import outlook  # noqa: PLC0415
    from controller.schedules.origin import words_of_person  # noqa: PLC0415
    from controller.schedules.revision import rows_of, ruling, without_rows  # noqa: PLC0415

    fleet, bundles = session.fleet, session.bundles
    found = fleet.device(name)
    there = ruling(fleet, found)
    for deployment in there:
        if rows_of(deployment.schedule, deployment.bundle.name) is not None:
            whose = f"a person's rows, {words_of_person(deployment)}"
            note(f"{deployment.bundle.name} has {whose}: no compiler changes them.")
        if deployment.bundle.artifact.sha256 not in bundles:
            note(f"{words.ref(deployment.bundle)} is not in the catalog here: left as it is.")
    return outlook(found, list(map(without_rows, there)), bundles).schedule


def _told(fleet: "Fleet", name: str, cascade: str | None, verb: str) -> "tuple[Device, Desired]":
    """Return a device and what it should be.

    Raises:
        ControllerError: there is no such device, nothing was told to it, or not that cascade.
    """
    from controller.errors import ControllerError  # noqa: PLC0415

    why = f"cannot {verb} the schedule of {name}"
    if name not in fleet.devices:
        known = words.listed(sorted(fleet.devices)) or "none"
        raise ControllerError(f"{why}: no such device; the fleet has {known}")
    desired = fleet.devices[name].desired
    if desired is None:
        raise ControllerError(f"{why}: nothing was deployed to it yet")
    names = [one.bundle.name for one in desired.cascades]
    if cascade is not None and cascade not in names:
        runs = ", ".join(names) or "nothing"
        raise ControllerError(f"{why}: it runs {runs}, no cascade {cascade!r}")
    return fleet.devices[name], desired


@app.command("history")
def history(
    ctx: typer.Context,
    cascade: Annotated[str, typer.Argument(metavar="CASCADE")],
    output: Output = Format.TABLE,
) -> None:
    """List the schedules that were deployed for a cascade, the latest first.

    Version 0 is the compiler's alone. An earlier one comes back with ctl schedule edit --version.

    Example: ctl schedule history digits
    """
    import time  # noqa: PLC0415

    from controller.schedules.revision import history as all_of  # noqa: PLC0415

    with open_session(ctx) as session:
        fleet = session.fleet
    now_s = time.time()
    print_rows(
        all_of(fleet, cascade),
        [
            Column("VERSION", _version, right=True),
            Column("WHAT", _what, wrap=True),
            Column("STATE", lambda d: _state(d, fleet), wrap=True),
            Column("AGE", lambda d: words.age(now_s - d.created_ts), right=True),
            Column("BY", lambda d: d.by or None, wrap=True),
            Column("DEPLOYMENT", lambda d: d.id),
        ],
        output,
        document=lambda d: {
            "version": _version(d),
            "deployment": d.id,
            "what": _what(d),
            "state": _state(d, fleet),
            "created_ts": d.created_ts,
            "by": d.by,
            "schedule": d.schedule,
            "wishes": d.wishes,
        },
    )


def _version(deployment: "Deployment") -> int:
    return deployment.schedule.version if deployment.schedule is not None else 0


def _what(deployment: "Deployment") -> str:
    """Say what a deployment brings of a schedule."""
    from controller.schedules.text import window_words  # noqa: PLC0415

    schedule, wishes = deployment.schedule, deployment.wishes
    said = ["compiled"]
    if schedule is not None:
        said = ["rows and lines" if schedule.cascades else "lines"]
    if wishes is not None:
        said += [wishes.goal]
        said += [f"p95 {wishes.latency_ms:g} ms"] if wishes.latency_ms is not None else []
        said += [f"{wishes.joules:g} J"] if wishes.joules is not None else []
        said += map(window_words, wishes.quiet)
    return ", ".join(said)


def _state(deployment: "Deployment", fleet: "Fleet") -> str:
    from controller.progress import means, rules  # noqa: PLC0415

    if deployment.aborted:
        return "aborted"
    ruled = sum(
        means(deployment, d) and rules(deployment, d, fleet) for d in fleet.devices.values()
    )
    return f"holds on {words.count(ruled, 'device')}" if ruled else "replaced"
