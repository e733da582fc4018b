"""Pulling an artifact out of the broker: retained chunks, in a window, on a session of its own.

Never by a wildcard: of 1,920 chunks behind one filter only 1,020 arrived, silently. A chunk that
does not come is silence, so it is asked for again.
"""

import queue
import time
import uuid
from collections.abc import Callable
from typing import Self

from protocols.bundle import ArtifactRef
from protocols.chunks import Window, artifact_ref, check
from protocols.errors import LinkError, TopicError
from protocols.link import Broker, Link
from protocols.topics import Topics

ASK_AGAIN_S = 3.0
GIVE_UP_S = 20.0

Sink = Callable[[int, bytes], None]


class Puller:
    """A session that pulls artifacts, one after the other. Use it as a context manager.

    Args:
        broker: where the chunks are.
        topics: of the fleet.
        who: prefix of the session's client id, to recognise it in the broker's log.
        cancelled: asked while waiting; true ends the pull with a LinkError.
    """

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        who: str,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._topics = topics
        self._cancelled = cancelled
        self._inbox: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._link = Link(
            broker,
            f"{who}-pull-{uuid.uuid4().hex[:8]}",
            lambda topic, payload, _retained: self._inbox.put((topic, payload)),
        )

    def __enter__(self) -> Self:
        self._link.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._link.stop()

    def pull(
        self,
        ref: ArtifactRef,
        sink: Sink,
        have: frozenset[int] = frozenset(),
        give_up_s: float = GIVE_UP_S,
    ) -> None:
        """Hand every chunk that is not in `have` to the sink, in any order, each once.

        The caller checks the whole against the artifact's SHA-256.

        Raises:
            LinkError: no chunk came for `give_up_s`, or the pull was cancelled.
            ArtifactError: a chunk has the wrong length.
        """
        window = Window(ref, have)
        try:
            self._fill(window, ref, sink, give_up_s)
        finally:
            self._link.unsubscribe(*(self._topics.chunk(ref.sha256, n) for n in window.waiting))

    def _fill(self, window: Window, ref: ArtifactRef, sink: Sink, give_up_s: float) -> None:
        last_chunk = last_ask = time.monotonic()
        while not window.done:
            if new := window.ask():
                self._ask(ref, new)
                last_ask = time.monotonic()
            if self._take(window, ref, sink):
                last_chunk = time.monotonic()
            elif self._cancelled():
                raise LinkError(f"cannot fetch artifact {ref.sha256[:12]}: cancelled")
            elif time.monotonic() - last_chunk > give_up_s:
                raise LinkError(
                    f"cannot fetch artifact {ref.sha256[:12]}: no chunk came for {give_up_s:g} s, "
                    f"{len(window.waiting)} asked for"
                )
            elif time.monotonic() - last_ask > ASK_AGAIN_S:
                self._ask(ref, tuple(window.waiting))
                last_ask = time.monotonic()

    def _ask(self, ref: ArtifactRef, numbers: tuple[int, ...]) -> None:
        self._link.subscribe(*(self._topics.chunk(ref.sha256, n) for n in numbers))

    def _take(self, window: Window, ref: ArtifactRef, sink: Sink) -> bool:
        """Take one message from the inbox; return whether it was a chunk we wait for."""
        try:
            topic, payload = self._inbox.get(timeout=0.1)
            name = self._topics.parse(topic)
        except (queue.Empty, TopicError):
            return False
        if name.name != ref.sha256 or name.chunk is None or not payload:
            return False
        if not window.take(name.chunk, payload):
            return False
        self._link.unsubscribe(topic)
        sink(name.chunk, payload)
        return True


def pull_bytes(puller: Puller, ref: ArtifactRef, give_up_s: float = GIVE_UP_S) -> bytes:
    """Pull a small artifact whole into memory and check it.

    Raises:
        LinkError: it did not come.
        ArtifactError: its bytes are not those that its name promises.
    """
    chunks: dict[int, bytes] = {}
    puller.pull(ref, chunks.__setitem__, give_up_s=give_up_s)
    content = b"".join(chunks[n] for n in sorted(chunks))
    found = artifact_ref(content)
    check(ref, found.sha256, found.size_bytes)
    return content
