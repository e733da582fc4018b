"""Reads what the broker retains on some topics, once: documents as they came, nothing decided."""

import threading
import time
from collections.abc import Sequence
from uuid import uuid4

from controller.home import Home
from controller.sync import QUIET_S, marker_topic
from protocols.errors import LinkError
from protocols.link import Link

_CONNECT_TIMEOUT_S = 10.0
SILENCE_S = 10.0
"""A broker that sends nothing for so long has not sent all, unless it has said so."""
_LOOK_S = 0.02


class _Hearing:
    """What has come, and when the last of it did."""

    def __init__(self, marker: str) -> None:
        self.found: dict[str, bytes] = {}
        self.connected = threading.Event()
        self.refused = ""
        self.lost = ""
        self._marker = marker
        self._heard_s = time.monotonic()
        self._returned = False

    def hear(self, topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - a callback
        if topic == self._marker:
            self._returned = True
        elif payload:
            self.found[topic] = payload
        else:
            self.found.pop(topic, None)
        if retained or topic == self._marker:
            self._heard_s = time.monotonic()

    def lose(self, reason: str) -> None:
        """Remember why there is no connection; where there was one, a part is missing."""
        if self.connected.is_set():
            self.lost = reason
        else:
            self.refused = reason

    def begin(self) -> None:
        """Count the silence from now on."""
        self._heard_s = time.monotonic()

    @property
    def silent_s(self) -> float:
        return time.monotonic() - self._heard_s

    def is_done(self) -> bool:
        return self._returned and self.silent_s >= QUIET_S


def read_retained(home: Home, filters: Sequence[str]) -> dict[str, bytes]:
    """Return the retained payloads of some topics, by topic.

    What is published while it reads counts, too. It is all of them: a part is none.

    Raises:
        LinkError: the broker cannot be reached in time or refuses, the connection is lost, or it
            falls silent before it has sent all of them.
    """
    marker = marker_topic(home.topics)
    hearing = _Hearing(marker)
    link = Link(
        home.broker,
        f"{home.fleet}-ctl-{uuid4().hex[:8]}",
        hearing.hear,
        on_connected=hearing.connected.set,
        on_disconnected=hearing.lose,
    )
    link.subscribe(marker, *filters)
    link.start()
    try:
        if not hearing.connected.wait(_CONNECT_TIMEOUT_S):
            raise LinkError(hearing.refused or f"cannot reach broker {home.broker.url}")
        hearing.begin()
        link.publish(marker, b"")
        while not hearing.is_done():
            _check_coming(hearing, home.broker.url)
            time.sleep(_LOOK_S)
    finally:
        link.stop()
    return hearing.found


def _check_coming(hearing: _Hearing, url: str) -> None:
    why = hearing.lost
    if not why and hearing.silent_s >= SILENCE_S:
        why = f"it sent nothing for {SILENCE_S:g} s, and does not say that this was all"
    if why:
        raise LinkError(f"cannot read what broker {url} retains: {why}")
