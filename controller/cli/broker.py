"""`ctl broker`: a broker for a laptop, a demo or a first try; below it, a fleet's own broker."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.context import open_home
from controller.cli.output import Format, Output, note, print_json_line

if TYPE_CHECKING:
    from controller.broker import EmbeddedBroker


app = typer.Typer()


@app.callback(invoke_without_command=True)
def broker(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 1883,
    data: Annotated[
        Path | None, typer.Option(help="Folder of what it retains; default: in the home folder.")
    ] = None,
    *,
    everywhere: Annotated[
        bool, typer.Option("--insecure", help="Allow an address that others can reach.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Run the embedded broker until stopped: mosquitto where it is installed, else amqtt.

    It lets everybody in: `ctl broker config` sets up one for real networks.

    Example: ctl broker --port 0
    """
    if ctx.invoked_subcommand is not None:
        return
    from controller.broker import run_broker  # noqa: PLC0415

    def started(running: "EmbeddedBroker") -> None:
        if output is Format.JSON:
            print_json_line({"url": running.url, "kind": running.kind, "data": folder})
            return
        kept = f"keeps its documents in {folder}" if running.persistent else "keeps nothing on disk"
        note(f"{running.kind} on {running.url}, {kept}; Ctrl-C stops.")

    folder = data or open_home(ctx).folder / "broker"
    run_broker(folder, host=host, port=port, everywhere=everywhere, started=started)
