"""`ctl serve`: the controller as a service."""

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.context import open_home, show_log
from controller.cli.options import duration_option
from controller.cli.output import Format, Output, note, print_json_line

if TYPE_CHECKING:
    from controller.session import Session


def serve(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this controller; default: the host's.")
    ] = None,
    revise_after_s: Annotated[
        float,
        duration_option(
            "--revise-after", "Pressure must last so long before a device gets less.", "5m"
        ),
    ] = 300.0,
    restore_after_s: Annotated[
        float,
        duration_option(
            "--restore-after", "Memory must be calm so long before it gets a model back.", "30m"
        ),
    ] = 1800.0,
    restore_threads_after_s: Annotated[
        float,
        duration_option(
            "--restore-threads-after",
            "The CPU must be calm so long before it gets threads back.",
            "10m",
        ),
    ] = 600.0,
    output: Output = Format.TABLE,
) -> None:
    """Plan for the fleet until stopped: tell devices what to run, and revise it with their load.

    Any number may run; each device is told by one of them. JSON is one line, once it serves.

    Example: ctl serve --revise-after 2m
    """
    from controller.planner import PlannerPolicy  # noqa: PLC0415
    from controller.serve import serve as run  # noqa: PLC0415
    from controller.serve import stop_on_signal  # noqa: PLC0415

    show_log(logging.INFO, "%(asctime)s %(levelname)-7s %(message)s")
    policy = PlannerPolicy(
        revise_after_s=revise_after_s,
        restore_after_s=restore_after_s,
        restore_threads_after_s=restore_threads_after_s,
    )
    home = open_home(ctx)
    note(f"Serving fleet {home.fleet} on {home.broker.url}; Ctrl-C stops.")

    def ready(session: "Session") -> None:
        if output is Format.JSON:
            facts = {"controller": session.name, "fleet": home.fleet, "broker": home.broker.url}
            print_json_line(facts)

    run(home, policy, stop_on_signal(), name=name, ready=ready)
