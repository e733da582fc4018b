"""`ctl events`: what happens on the devices, and why."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.context import open_session
from controller.cli.options import Devices, Labels, duration_option, parse_selector
from controller.cli.output import Format, Output, note, out, print_json, print_json_line, text
from controller.cli.views import event_line, event_style

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.session import Session
    from protocols.device import Event


def events(
    ctx: typer.Context,
    names: Devices = None,
    labels: Labels = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until Ctrl-C.")] = False,
    for_s: Annotated[
        float,
        duration_option("--for", "How long to listen.", "5s"),
    ] = 5.0,
    output: Output = Format.TABLE,
) -> None:
    """Show loads, unloads, rungs, refusals and what else happens, as it happens.

    The broker keeps no events: those before this command began are gone. JSON is an array, with -f
    one object a line.

    Example: ctl events -f pi-1
    """
    selector = parse_selector(labels)
    with open_session(ctx) as session:

        def wanted(event: "Event") -> bool:
            fleet = session.fleet
            return (not names or event.device in names) and fleet.device(event.device).matches(
                selector
            )

        if follow:
            _follow(session, wanted, output)
        else:
            _listen(session, wanted, output, for_s)


def _follow(session: "Session", wanted: "Callable[[Event], bool]", output: Format) -> None:
    seen = 0
    try:
        while True:
            new, seen = session.wait_events(seen)
            for event in filter(wanted, new):
                _print(event, output)
    except KeyboardInterrupt:
        return


def _listen(
    session: "Session", wanted: "Callable[[Event], bool]", output: Format, for_s: float
) -> None:
    found: list[Event] = []
    deadline, seen = time.monotonic() + for_s, 0
    while (left_s := deadline - time.monotonic()) > 0:
        new, seen = session.wait_events(seen, left_s)
        found += filter(wanted, new)
        if output is Format.TABLE:
            for event in filter(wanted, new):
                _print(event, output)
    if output is Format.JSON:
        print_json(found)
    elif not found:
        note(f"Nothing happened in {for_s:g} s. Follow with -f.")


def _print(event: "Event", output: Format) -> None:
    if output is Format.JSON:
        print_json_line(event)
    else:
        out().print(text(event_line(event), event_style(event)), soft_wrap=True)
