"""`ctl device`: which devices there are, and what each of them is and does."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.context import open_session
from controller.cli.options import Devices, Labels, duration_option, parse_selector
from controller.cli.output import (
    Format,
    Output,
    note,
    out,
    print_facts,
    print_rows,
    print_table,
)
from controller.cli.running import Running
from controller.cli.views import (
    STAGE_COLUMNS,
    device_columns,
    device_document,
    device_facts,
    stage_rows,
)
from controller.errors import ControllerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.fleet import Device, Fleet
    from controller.session import Session

app = typer.Typer(no_args_is_help=True, help="Which devices there are, and how they are.")

Wait = Annotated[
    float,
    duration_option("--wait", "How long to wait for telemetry, which is not retained.", "6s"),
]
WAIT_S = 6.0
"""A little more than the time between two telemetry messages of an agent left at its default."""


@app.command("ls")
def list_devices(
    ctx: typer.Context,
    names: Devices = None,
    labels: Labels = None,
    wait_s: Wait = WAIT_S,
    output: Output = Format.TABLE,
) -> None:
    """List devices: online or not, what they run, their rungs and their load.

    Example: ctl device ls -l room=hall
    """
    from controller.roster import unseen  # noqa: PLC0415

    selector = parse_selector(labels)
    with open_session(ctx) as session:
        devices = hear(session, lambda fleet: fleet.selected(names or (), selector), wait_s)
        added = [] if selector else unseen(session.fleet)
        added = [device for device in added if not names or device.name in names]
        print_rows(
            [*devices, *added],
            device_columns(time.time(), roster=session.fleet.closed),
            output,
            empty=_nobody(session, names, selector),
            document=device_document,
        )
    silent = [d.name for d in devices if d.online and d.telemetry is None]
    if silent and output is Format.TABLE:
        heard = f"No telemetry from {words.count(len(silent), 'online device')} in {wait_s:g} s"
        note(f"{heard}; --wait listens longer.")


def _nobody(session: "Session", names: list[str] | None, selector: dict[str, str]) -> str:
    """Say that there are no such devices, and what to do."""
    fleet = session.home.fleet
    if names or selector:
        return f"No such devices in fleet {fleet}."
    return f"No devices in fleet {fleet} yet; start one: sluice-agent run --broker URL --id NAME."


@app.command("show")
def show_device(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="DEVICE")],
    wait_s: Wait = WAIT_S,
    output: Output = Format.TABLE,
) -> None:
    """Show all that is known of one device, and every stage on it.

    Example: ctl device show pi-1
    """
    with open_session(ctx) as session:
        if name not in session.fleet.devices:
            known = words.listed(sorted(session.fleet.devices)) or "none"
            raise ControllerError(f"cannot show {name}: no such device; the fleet has {known}")
        (device,) = hear(session, lambda fleet: [fleet.device(name)], wait_s)
    print_facts(device_facts(device, time.time()), output, device_document(device))
    if output is Format.TABLE and (rows := stage_rows(device)):
        out().print()
        said = any(row.message for row in rows)
        print_table(rows, STAGE_COLUMNS if said else STAGE_COLUMNS[:-1])


def hear(
    session: "Session", select: "Callable[[Fleet], list[Device]]", timeout_s: float
) -> "list[Device]":
    """Return devices once each of them that is online has sent telemetry, or the time is over."""

    def all_heard(fleet: "Fleet") -> bool:
        return not any(d.online and d.telemetry is None for d in select(fleet))

    with Running("waiting for telemetry"):
        session.wait(all_heard, timeout_s)
    return select(session.fleet)
