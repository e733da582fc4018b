"""`ctl top`: what the devices do at this moment."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.context import open_session
from controller.cli.device import WAIT_S, Wait, hear
from controller.cli.options import Devices, Labels, parse_selector
from controller.cli.output import Format, Output, fitting, out, print_rows, table
from controller.cli.views import LOAD_COLUMNS, LoadRow, device_document, seen_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.fleet import Device, Fleet
    from controller.session import Session

REDRAW_S = 0.5


def top(
    ctx: typer.Context,
    names: Devices = None,
    labels: Labels = None,
    *,
    once: Annotated[bool, typer.Option("--once", help="Print it once and end.")] = False,
    wait_s: Wait = WAIT_S,
    output: Output = Format.TABLE,
) -> None:
    """Show the load, rungs and answers of online devices, live until Ctrl-C.

    Once only with --once, as JSON, or where the output is no terminal.

    Example: ctl top -l room=hall
    """
    selector = parse_selector(labels)

    def select(fleet: "Fleet") -> "list[Device]":
        return [device for device in fleet.selected(names or (), selector) if device.online]

    with open_session(ctx) as session:
        if not once and output is Format.TABLE and out().is_terminal:
            _live(session, select)
            return
        rows = _rows(hear(session, select, wait_s))
    print_rows(
        rows,
        LOAD_COLUMNS,
        output,
        empty="No devices are online.",
        document=lambda row: device_document(row.device),
    )


def _live(session: "Session", select: "Callable[[Fleet], list[Device]]") -> None:
    from rich.live import Live  # noqa: PLC0415

    with Live(console=out(), screen=True, auto_refresh=False) as live:
        try:
            while True:
                rows = _rows(select(session.fleet))
                columns = fitting(rows, LOAD_COLUMNS, live.console.width)
                live.update(table(rows, columns), refresh=True)
                time.sleep(REDRAW_S)
        except KeyboardInterrupt:
            return


def _rows(devices: "list[Device]") -> list[LoadRow]:
    now_s = time.time()
    return [LoadRow(device, seen_s(device, now_s)) for device in devices]
