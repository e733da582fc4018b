"""`ctl demo`: the whole product on one machine, in under two minutes."""

from typing import Annotated

import typer


def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running until Ctrl-C.")] = False,
) -> None:
    """Show everything on this machine: a broker, a controller and three scripted boards.

    Needs nothing that is running, leaves nothing behind. Example: ctl demo --keep
    """
    from rich.console import Console  # noqa: PLC0415 - not for `ctl --help`

    from controller.demo.play import play  # noqa: PLC0415

    raise typer.Exit(play(Console(), keep=keep))
