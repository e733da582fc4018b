"""What the global options say, and what they lead to: the home folder, a session."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from controller.cli.output import note

if TYPE_CHECKING:
    from controller.home import Home
    from controller.presence import Mode
    from controller.session import Session
    from protocols.link import Broker

_KNOCK_S = 5.0


@dataclass(frozen=True, slots=True)
class Globals:
    """The options before the command. None: what the home folder's config says."""

    home: Path | None = None
    broker: str | None = None
    fleet: str | None = None
    keys: tuple[Path, ...] = ()
    debug: bool = False


class _Notes(logging.Handler):
    """Shows log records as notes: on stderr as it is now, and nothing that steers a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        note(self.format(record))


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
    home = Home.open(options.home, broker=options.broker, fleet=options.fleet)
    return replace(home, more_keys=options.keys)


def open_session(ctx: typer.Context, mode: "Mode" = "watch") -> "Session":
    """Return a session with the fleet, to be used as a context manager.

    Raises:
        HomeError, TopicError: as `open_home`.
        LinkError: nobody listens at the broker's address. A session itself would wait for it.
    """
    from controller.session import Session  # noqa: PLC0415 - MQTT, when a command needs it

    show_log()
    home = open_home(ctx)
    _knock(home.broker)
    return Session(home, mode)


def _knock(broker: "Broker") -> None:
    import socket  # noqa: PLC0415

    from protocols.errors import LinkError  # noqa: PLC0415

    try:
        socket.create_connection((broker.host, broker.port), timeout=_KNOCK_S).close()
    except OSError as error:
        raise LinkError(
            f"cannot reach broker {broker.url}: {error.strerror or error}; is it running? "
            "(`ctl broker` starts one)"
        ) from error


def show_log(level: int = logging.WARNING, form: str = "%(message)s") -> None:
    """Show what the controller logs, from this level on."""
    handler = _Notes()
    handler.setFormatter(logging.Formatter(form, "%Y-%m-%d %H:%M:%S"))
    log = logging.getLogger("sluice")
    log.handlers = [handler]
    log.setLevel(level)
