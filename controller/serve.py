"""`ctl serve`: the outer loop as a process of its own, until it is told to stop."""

import contextlib
import fcntl
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator

from controller.errors import HomeError
from controller.home import Home
from controller.planner import PlannerPolicy
from controller.session import DEFAULT_POLICY, Session
from protocols.errors import LinkError

log = logging.getLogger("sluice.serve")

TRY_S = 3.0
"""How long one attempt to reach the broker lasts, and so how long a stop may take meanwhile."""


def serve(
    home: Home,
    policy: PlannerPolicy = DEFAULT_POLICY,
    stop: threading.Event | None = None,
    *,
    name: str | None = None,
    ready: Callable[[Session], None] = lambda _: None,
) -> None:
    """Plan for the fleet until `stop` is set.

    It waits for a broker that is not there yet, as at boot; a connection that breaks later comes
    back by itself; whatever is malformed is logged.

    Args:
        home: broker, fleet, controller key and catalog.
        policy: how patient the planner is.
        stop: None: for ever. A signal handler may set it.
        name: of this controller, None: the home's; each one that serves needs its own.
        ready: called once the fleet is known and this controller acts.

    Raises:
        HomeError: the controller key or trust.json cannot be used, or this name serves already.
    """
    stop = stop or threading.Event()
    with _alone(home, name or home.controller):
        while not stop.is_set():
            session = Session(home, "serve", name=name, policy=policy, connect_timeout_s=TRY_S)
            try:
                session.open()
            except LinkError as error:
                log.warning("%s", error)
                continue
            with contextlib.closing(session):
                log.info("%s serves fleet %s on %s", session.name, home.fleet, home.broker.url)
                ready(session)
                stop.wait()
                log.info("%s stops", session.name)


def stop_on_signal() -> threading.Event:
    """Return an event that SIGTERM or SIGINT sets from now on. Call it on the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


@contextlib.contextmanager
def _alone(home: Home, name: str) -> Iterator[None]:
    """Hold the name: two sessions of one name would throw each other off the broker for ever."""
    path = home.folder / f"serve-{name}.lock"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise HomeError(f"cannot serve: cannot write {path}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise HomeError(
            f"cannot serve as {name}: another `ctl serve` of {home.folder} does; stop it, or use "
            "--name"
        ) from error
    else:
        yield
    finally:
        os.close(file)
