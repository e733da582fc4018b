"""What the global options say, and the home folder that they lead to."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from controller.home import Home


@dataclass(frozen=True, slots=True)
class Globals:
    """The options before the command. None: what the home folder's config says."""

    home: Path | None = None
    broker: str | None = None
    fleet: str | None = None
    debug: bool = False


def globals_of(ctx: typer.Context) -> Globals:
    """Return the global options of this run."""
    found = ctx.find_object(Globals)
    return found if found is not None else Globals()


def open_home(ctx: typer.Context) -> "Home":
    """Return the home folder that the global options and its configuration name.

    Raises:
        HomeError: its configuration cannot be read or is wrong.
        LinkError: the broker's URL is none.
        TopicError: the fleet's name is none.
    """
    from controller.home import Home  # noqa: PLC0415 - pydantic, when a command runs

    options = globals_of(ctx)
    return Home.open(options.home, broker=options.broker, fleet=options.fleet)
