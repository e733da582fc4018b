"""A controller among the others: it stands for election, leaves, and has a last will."""

import logging
import time
import uuid
from importlib.metadata import version
from typing import Literal

from controller.errors import HomeError
from controller.execute import Executor
from controller.fleet import Fleet
from controller.home import Home
from controller.signing import has_key
from protocols.desired import ControllerMode, ControllerStatus
from protocols.errors import LinkError
from protocols.link import Link, Will

log = logging.getLogger("sluice.presence")

Mode = Literal["watch", "deploy", "serve"]
"""`watch` reads. `deploy` publishes too, and plans while no `serve` is alive. `serve` plans."""

AGAIN_S = 2.0
"""Our own word comes back within this, or is said once more."""

LEAVE_TIMEOUT_S = 2.0
_RIVALS_TOLD = 64


def controller_name(home: Home, mode: Mode) -> str:
    """Return the name of a session: a server's is stable, of the others there may be many."""
    return home.controller if mode == "serve" else f"{home.controller[:50]}-{uuid.uuid4().hex[:6]}"


def last_will(home: Home, mode: Mode, name: str) -> Will | None:
    """Return what the broker says when we die; a `serve` stays known, a `deploy` does not."""
    topic = home.topics.controller(name)
    match mode:
        case "watch":
            return None
        case "deploy":
            return Will(topic, b"")
        case "serve":
            return Will(topic, _status(name, "serve", online=False).encode())


class Presence:
    """Says that this controller is here, while it may plan.

    Args:
        home: keys and topics.
        link: the session.
        executor: holds the controller key.
        mode: of the session.
        name: of this controller.
    """

    def __init__(self, home: Home, link: Link, executor: Executor, mode: Mode, name: str) -> None:
        self._link, self._executor, self._mode, self._name = link, executor, mode, name
        self._topic = home.topics.controller(name)
        self._may_control = mode == "serve" or (mode == "deploy" and has_key(home, "controller"))
        self._said = False
        self._said_s = float("-inf")
        self._key_id = ""

    def check_key(self) -> None:
        """Read the key. Who serves must have it; who deploys only goes without its powers.

        Raises:
            HomeError: this is a `serve`, and the key cannot be used.
        """
        if not self._may_control:
            return
        try:
            self._executor.signer("controller")
        except HomeError as error:
            if self._mode == "serve":
                raise
            log.warning("%s; only a `ctl serve` can carry deployments out", error)
            self._may_control = False

    def keys_changed(self) -> None:
        """Step down if the fleet trusts our key no more, and stand again if it trusts it."""
        if self._mode == "watch":
            return
        try:
            self._executor.signer("controller")
        except HomeError as error:
            if self._may_control:
                log.error("%s; this controller steps down", error)  # noqa: TRY400 - it says all
                self.leave()
            self._may_control = False
        else:
            self._may_control = True

    def stands_as(self, fleet: Fleet) -> ControllerMode | None:
        """Return as what this session stands for election; None: it does not."""
        if self._mode == "serve" and self._may_control:
            return "serve"
        if self._mode == "deploy" and self._may_control and not fleet.alive("serve"):
            return "deploy"
        return None

    def forget(self) -> None:
        """The broker has come back: what we said before may not have reached it."""
        self._said_s = float("-inf")

    def announce(self, fleet: Fleet) -> None:
        """Say that we are here, unless the broker says so already.

        It may say otherwise: the last will of our own former session comes after us.
        """
        mode, now_s = self.stands_as(fleet), time.monotonic()
        if mode is None or now_s - self._said_s < AGAIN_S:
            return
        self._key_id = self._executor.signer("controller").key_id
        status = _status(self._name, mode, online=True, key_id=self._key_id)
        status = status.with_(rivals=tuple(sorted(fleet.rivals)[:_RIVALS_TOLD]))
        if fleet.controllers.get(self._name) != status:
            self._said, self._said_s = True, now_s
            self._link.publish(self._topic, status.encode(), retain=True)

    def leave(self) -> None:
        """Say that we are gone, so that others take over at once."""
        if not self._said:
            return
        gone = b""
        if self._mode == "serve":
            gone = _status(self._name, "serve", online=False, key_id=self._key_id).encode()
        try:
            self._link.publish_and_wait(self._topic, gone, retain=True, timeout_s=LEAVE_TIMEOUT_S)
        except LinkError as error:
            log.warning("%s", error)


def _status(name: str, mode: ControllerMode, *, online: bool, key_id: str = "") -> ControllerStatus:
    return ControllerStatus(
        controller=name, online=online, mode=mode, version=version("sluice"), public_key_id=key_id
    )
