"""`ctl simulate`: what governor and planner would do with a trace, and traces to try it with."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.complete import complete_bundle
from controller.cli.context import open_home, open_session
from controller.cli.device_record import Force, TraceOut
from controller.cli.options import duration_option
from controller.cli.output import Format, Output, note, out, print_facts, print_json, print_table
from controller.cli.running import Running
from controller.cli.schedules import ScheduleFile, read_schedule

if TYPE_CHECKING:
    from controller.simulate.loops import Subject
    from controller.simulate.replay import Course
    from controller.simulate.trace import Trace
    from protocols.schedule import Schedule

app = typer.Typer(no_args_is_help=True, help="What both loops would do, on a trace.")


class Made(StrEnum):
    """Traces that can be made."""

    SQUARE = "square"
    RAMP = "ramp"
    DAY = "day"


@app.command("governor")
def governor(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    trace_file: Annotated[Path, typer.Argument(metavar="TRACE.jsonl", help="JSON Lines.")],
    *,
    schedule_file: ScheduleFile = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="On a device of the fleet, with what it runs."),
    ] = None,
    cascade: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[@VERSION]",
            help="A cascade of the catalog, on a device that is all assumed.",
            autocompletion=complete_bundle,
        ),
    ] = None,
    cpus: Annotated[
        int, typer.Option(min=1, max=256, help="Of the assumed device, all alike.")
    ] = 4,
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.svg|FILE.png", help="Draw it there.")
    ] = None,
    force: Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Replay a trace through the governor and the planner, and draw what they would have done.

    Traces come from ctl device record or ctl simulate trace. The clock is the trace's: a day takes
    seconds. Nothing is sent anywhere.

    Example: ctl simulate governor pi-1.jsonl --cascade digits --out pi-1.svg
    """
    from controller.cli import simulate_views as views  # noqa: PLC0415
    from controller.planner import PlannerPolicy  # noqa: PLC0415
    from controller.simulate.files import read_trace  # noqa: PLC0415
    from controller.simulate.replay import replay  # noqa: PLC0415

    if device is not None and cascade is not None:
        raise typer.BadParameter("a device runs what is deployed to it; use --device or --cascade")
    program = _check_drawing(out_file, force=force)
    trace = read_trace(trace_file)
    schedule = None if schedule_file is None else read_schedule(schedule_file)
    if device is not None:
        subject, what = _on_device(ctx, device, schedule)
    else:
        subject, what = _assumed(ctx, cascade, cpus, trace, schedule)
    with Running("Replaying"):
        course = replay(trace, subject, PlannerPolicy())
    if out_file is not None:
        _draw(course, (trace_file.name, what), out_file, program)
    if output is Format.JSON:
        print_json(views.document(course, trace, what))
    else:
        _print(course, trace, what)


def _on_device(ctx: typer.Context, name: str, schedule: "Schedule | None") -> "tuple[Subject, str]":
    """Return a device of the fleet as the trace should find it, and what it is in words."""
    from controller.errors import ControllerError  # noqa: PLC0415
    from controller.schedules.revision import ruling  # noqa: PLC0415
    from controller.simulate.subject import of_device  # noqa: PLC0415

    with open_session(ctx) as session:
        fleet, bundles = session.fleet, session.bundles
    if name not in fleet.devices:
        known = words.listed(sorted(fleet.devices)) or "none"
        raise ControllerError(f"cannot simulate {name}: no such device; the fleet has {known}")
    there = ruling(fleet, fleet.devices[name])
    subject = of_device(fleet.devices[name], there, bundles, schedule)
    runs = ", ".join(f"{one.bundle.name}@{one.bundle.version}" for one in there)
    return subject, f"{name} with {runs}"


def _assumed(
    ctx: typer.Context,
    cascade: str | None,
    cpus: int,
    trace: "Trace",
    schedule: "Schedule | None",
) -> "tuple[Subject, str]":
    """Return an assumed device with one cascade, and what it is in words."""
    from controller.catalog import Catalog  # noqa: PLC0415
    from controller.simulate.subject import EXAMPLE_WORDS, example, of_bundle  # noqa: PLC0415

    if cascade is None:
        ref, bundle = example()
        what = EXAMPLE_WORDS
    else:
        home = open_home(ctx)
        stored = Catalog(home).find_bundle(cascade, home.trust())
        ref, bundle, what = stored.ref, stored.bundle, f"{stored.ref.name}@{stored.ref.version}"
    memory_mib = trace.memory_total_mib
    subject = of_bundle(ref, bundle, cpus=cpus, memory_mib=memory_mib, schedule=schedule)
    return subject, f"{what}; {words.count(cpus, 'CPU')}"


def _check_drawing(out_file: Path | None, *, force: bool) -> str | None:
    """Check before any work that a drawing can be made; return the program that a PNG takes."""
    from controller.compress.sources import check_free  # noqa: PLC0415
    from controller.simulate.png import find_program  # noqa: PLC0415

    if out_file is None:
        return None
    if out_file.suffix.lower() not in {".svg", ".png"}:
        raise typer.BadParameter(f"{out_file} must end in .svg or .png", param_hint="--out")
    check_free([out_file], force=force)
    return find_program() if out_file.suffix.lower() == ".png" else None


def _draw(course: "Course", heads: tuple[str, str], out_file: Path, program: str | None) -> None:
    from controller.compress.sources import write_all  # noqa: PLC0415
    from controller.simulate.chart import draw  # noqa: PLC0415
    from controller.simulate.png import as_png  # noqa: PLC0415

    svg = draw(course, *heads)
    content = svg.encode() if program is None else as_png(svg, program)
    write_all({out_file: content})
    note(f"Wrote {out_file} ({words.size(len(content))}).")


def _print(course: "Course", trace: "Trace", what: str) -> None:
    from controller.cli import simulate_views as views  # noqa: PLC0415

    print_facts(views.facts(course, trace, what), Format.TABLE, None)
    for title, rows, columns in views.tables(course):
        out().print()
        out().print(title, style="bold")
        print_table(rows, columns)


@app.command("trace")
def make_trace(
    kind: Annotated[Made, typer.Argument(help="square, ramp or day.", metavar="KIND")],
    *,
    for_s: Annotated[
        float | None,
        duration_option("--for", "How long.", "square 1h, ramp 30m, day 24h"),
    ] = None,
    every_s: Annotated[
        float | None,
        duration_option("--every", "Between two samples.", "1s, as devices sample; day 5s"),
    ] = None,
    out_file: TraceOut = None,
    force: Force = False,
) -> None:
    """Make a trace, to try ctl simulate governor without a device.

    square: calm and pressure, five minutes each. ramp: pressure that rises and falls again.
    day: from midnight, with busy hours, one of them too much for the memory.

    Example: ctl simulate trace day --out day.jsonl
    """
    from controller.compress.sources import check_free  # noqa: PLC0415
    from controller.simulate.files import TraceWriter  # noqa: PLC0415
    from controller.simulate.made import EVERY_S, LENGTH_S, make  # noqa: PLC0415

    length_s = LENGTH_S[kind.value] if for_s is None else for_s
    apart_s = EVERY_S[kind.value] if every_s is None else every_s
    if apart_s <= 0:
        raise typer.BadParameter("samples must lie some time apart", param_hint="--every")
    if out_file is not None:
        check_free([out_file], force=force)
    with TraceWriter(out_file) as writer:
        for line in make(kind.value, length_s, apart_s):
            writer.write(line)
    if out_file is not None:
        note(f"Wrote {out_file}.")
