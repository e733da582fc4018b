"""Reads what the broker retains on some topics, once: documents as they came, nothing decided."""

import threading
import time
from collections.abc import Sequence
from uuid import uuid4

from controller.home import Home
from controller.sync import MARKER_TIMEOUT_S, QUIET_S, marker_topic
from protocols.errors import LinkError
from protocols.link import Link

_CONNECT_TIMEOUT_S = 10.0
_LOOK_S = 0.02


class _Hearing:
    """What has come, and when the last of it did."""

    def __init__(self, marker: str) -> None:
        self.found: dict[str, bytes] = {}
        self.connected = threading.Event()
        self.reason = ""
        self._marker = marker
        self._heard_s = time.monotonic()
        self._returned = False

    def hear(self, topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - a callback
        self._returned = self._returned or topic == self._marker
        if retained and payload:
            self.found[topic] = payload
            self._heard_s = time.monotonic()

    def is_done(self) -> bool:
        quiet_s = QUIET_S if self._returned else MARKER_TIMEOUT_S
        return time.monotonic() - self._heard_s >= quiet_s


def read_retained(home: Home, filters: Sequence[str]) -> dict[str, bytes]:
    """Return the retained payloads of some topics, by topic.

    Raises:
        LinkError: the broker cannot be reached in time, or refuses.
    """
    marker = marker_topic(home.topics)
    hearing = _Hearing(marker)

    def lost(reason: str) -> None:
        hearing.reason = reason

    link = Link(
        home.broker,
        f"{home.fleet}-ctl-{uuid4().hex[:8]}",
        hearing.hear,
        on_connected=hearing.connected.set,
        on_disconnected=lost,
    )
    link.subscribe(marker, *filters)
    link.start()
    try:
        if not hearing.connected.wait(_CONNECT_TIMEOUT_S):
            raise LinkError(hearing.reason or f"cannot reach broker {home.broker.url}")
        link.publish(marker, b"")
        deadline_s = time.monotonic() + _CONNECT_TIMEOUT_S
        while not hearing.is_done() and time.monotonic() < deadline_s:
            time.sleep(_LOOK_S)
    finally:
        link.stop()
    return hearing.found
