"""`ctl device`: which devices there are, and what each of them is and does."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.context import open_session
from controller.cli.options import Devices, Labels, duration_option, parse_selector
from controller.cli.output import Format, Output, note, out, print_facts, print_rows, table
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
    duration_option("--wait", "How long to wait for telemetry, which is not retained.", "3s"),
]


@app.command("ls")
def list_devices(
    ctx: typer.Context,
    names: Devices = None,
    labels: Labels = None,
    wait_s: Wait = 3.0,
    output: Output = Format.TABLE,
) -> None:
    """List devices: online or not, what they run, their rungs and their load.

    Example: ctl device ls -l room=hall
    """
    selector = parse_selector(labels)
    with open_session(ctx) as session:
        devices = hear(session, lambda fleet: fleet.selected(names or (), selector), wait_s)
        print_rows(
            devices,
            device_columns(time.time()),
            output,
            empty="No devices found.",
            document=device_document,
        )
    silent = [d.name for d in devices if d.online and d.telemetry is None]
    if silent and output is Format.TABLE:
        note(f"No telemetry from {len(silent)} of them in {wait_s:g} s; --wait listens longer.")


@app.command("show")
def show_device(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="DEVICE")],
    wait_s: Wait = 3.0,
    output: Output = Format.TABLE,
) -> None:
    """Show all that is known of one device, and every stage on it.

    Example: ctl device show pi-1
    """
    with open_session(ctx) as session:
        if name not in session.fleet.devices:
            known = ", ".join(list(session.fleet.devices)[:10]) or "none"
            raise ControllerError(f"cannot show {name}: no such device; there are {known}")
        (device,) = hear(session, lambda fleet: [fleet.device(name)], wait_s)
    print_facts(device_facts(device, time.time()), output, device_document(device))
    if output is Format.TABLE and (rows := stage_rows(device)):
        out().print()
        out().print(table(rows, STAGE_COLUMNS))


def hear(
    session: "Session", select: "Callable[[Fleet], list[Device]]", timeout_s: float
) -> "list[Device]":
    """Return devices once each of them that is online has sent telemetry, or the time is over."""

    def all_heard(fleet: "Fleet") -> bool:
        return not any(d.online and d.telemetry is None for d in select(fleet))

    session.wait(all_heard, timeout_s)
    return select(session.fleet)
