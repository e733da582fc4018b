"""Pulling an artifact out of the broker: retained chunks, in a window, on a session of its own.

Never by a wildcard: of 1,920 chunks behind one filter only 1,020 arrived, silently. A chunk that
does not come is silence, so it is asked for again.

The window is of topics, not of memory: paho's thread hands over one chunk and waits until it has
been checked and written, so that the others wait in the broker and in the kernel's buffer. At most
four chunks are in this process: paho's last read, the packet, its payload, what that unpacks to.
"""

import contextlib
import logging
import queue
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from protocols.bundle import ArtifactRef
from protocols.chunks import WINDOW_CHUNKS, Digests, Window, artifact_ref, check, chunk_length
from protocols.errors import ArtifactError, LinkError, TopicError
from protocols.link import Broker, Link
from protocols.packing import unpack
from protocols.topics import Topics

log = logging.getLogger("sluice.pull")

ASK_AGAIN_S = 3.0
GIVE_UP_S = 20.0
WRONG_CHUNKS = 3
"""So often a chunk may come with wrong bytes before the artifact is given up."""

_WRONG_AGAIN_S = 0.2
_REFILL = WINDOW_CHUNKS // 2
"""With so many left of the window it is filled again: half as many packets, and still no pause."""
_LOOK_S = 0.1
_CONNECTED_LOOK_S = 0.01

Sink = Callable[[int, bytes], None]


class Meter(Protocol):
    """Counts bytes against a limit; see `agent.storage.ration`."""

    def may_take(self, count: int) -> bool:
        """Whether so many bytes may be asked for now; if so, they are counted.

        Raises:
            SluiceError: not for long; what was granted before may still come.
        """

    def correct(self, count: int) -> None:
        """Count so many bytes more, or fewer, than were asked for."""


class _Unmetered:
    def may_take(self, _count: int) -> bool:
        return True

    def correct(self, _count: int) -> None:
        pass


UNMETERED = _Unmetered()


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
        self._inbox = _Inbox()
        link = Link(broker, f"{who}-pull-{uuid.uuid4().hex[:8]}", self._inbox.hand_over)
        self._session = _Session(link, topics, self._inbox, cancelled)

    def __enter__(self) -> Self:
        self._session.link.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._inbox.close()
        self._session.link.stop()

    def pull(
        self,
        ref: ArtifactRef,
        sink: Sink,
        have: frozenset[int] = frozenset(),
        give_up_s: float = GIVE_UP_S,
        digests: Digests | None = None,
        meter: Meter = UNMETERED,
    ) -> None:
        """Hand every chunk that is not in `have` to the sink, in any order, each once.

        A chunk that is not what its digest says is asked for again, a few times. Without digests
        the caller checks the whole against the artifact's SHA-256.

        Raises:
            LinkError: no chunk came for `give_up_s`, or the pull was cancelled.
            ArtifactError: a chunk has wrong bytes, again and again.
        """
        _Pull(self._session, ref, sink, digests, meter).run(Window(ref, have), give_up_s)

    def look(self, places: Sequence[tuple[str, int]], quiet_s: float) -> dict[str, bytes]:
        """Return what is there of some chunks, by the digest of their artifacts.

        Args:
            places: digest and number of each, one of an artifact.
            quiet_s: silence after which those that have not come are not there.
        """
        connected_by_s = time.monotonic() + GIVE_UP_S
        while not self._session.link.connected and time.monotonic() < connected_by_s:
            time.sleep(_CONNECTED_LOOK_S)
        found: dict[str, bytes] = {}
        for start in range(0, len(places), WINDOW_CHUNKS):
            self._look(places[start : start + WINDOW_CHUNKS], quiet_s, found)
        return found

    def _look(
        self, places: Sequence[tuple[str, int]], quiet_s: float, found: dict[str, bytes]
    ) -> None:
        link, topics = self._session.link, self._session.topics
        asked = {topics.chunk(sha256, number): sha256 for sha256, number in places}
        link.subscribe(*asked)
        while asked:
            with self._inbox.next(quiet_s) as message:
                if message is None:
                    break
                topic, payload = message
                if payload and topic in asked:
                    found[asked.pop(topic)] = payload
                    link.unsubscribe(topic)
        link.unsubscribe(*asked)


class _Inbox:
    """Hands messages from paho's thread to the pulling one, which it waits for."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._open = True

    def hand_over(self, topic: str, payload: bytes, _retained: bool) -> None:  # noqa: FBT001
        """Give a message, and wait until it has been dealt with."""
        self._messages.put((topic, payload))
        while self._open:
            with contextlib.suppress(queue.Empty):
                self._done.get(timeout=_LOOK_S)
                return

    @contextlib.contextmanager
    def next(self, within_s: float) -> Iterator[tuple[str, bytes] | None]:
        """Deal with the next message inside; None: none has come in time."""
        try:
            message = self._messages.get(timeout=within_s)
        except queue.Empty:
            yield None
            return
        try:
            yield message
        finally:
            self._done.put(None)

    def close(self) -> None:
        """Let paho's thread go."""
        self._open = False


@dataclass(frozen=True, slots=True)
class _Session:
    """What all pulls of a session share."""

    link: Link
    topics: Topics
    inbox: _Inbox
    cancelled: Callable[[], bool]


class _Pull:
    """One artifact on its way."""

    def __init__(
        self,
        session: _Session,
        ref: ArtifactRef,
        sink: Sink,
        digests: Digests | None,
        meter: Meter,
    ) -> None:
        self._session, self._ref, self._sink, self._digests = session, ref, sink, digests
        self._link, self._meter = session.link, meter
        self._wrong: dict[int, int] = {}
        self._again: dict[int, float] = {}
        self._over: list[str] = []

    def run(self, window: Window, give_up_s: float) -> None:
        try:
            self._fill(window, give_up_s)
        finally:
            self._over += map(self._topic, window.waiting)
            self._leave()
            self._meter.correct(-sum(chunk_length(self._ref, n) for n in window.waiting))

    def _fill(self, window: Window, give_up_s: float) -> None:
        last_chunk = last_ask = time.monotonic()
        while not window.done:
            if len(window.waiting) <= _REFILL and (new := window.ask(self._meter.may_take)):
                self._leave()
                self._ask(new)
                last_ask = time.monotonic()
            if self._take(window) or not window.waiting:
                last_chunk = time.monotonic()
            elif time.monotonic() - last_chunk > give_up_s:
                raise LinkError(
                    f"cannot fetch artifact {self._ref.sha256[:12]}: no chunk came for "
                    f"{give_up_s:g} s, {len(window.waiting)} asked for"
                )
            elif time.monotonic() - last_ask > ASK_AGAIN_S:
                self._ask(tuple(window.waiting))
                last_ask = time.monotonic()
            if self._session.cancelled():
                raise LinkError(f"cannot fetch artifact {self._ref.sha256[:12]}: cancelled")
            self._ask_again()

    def _ask(self, numbers: tuple[int, ...]) -> None:
        """Subscribe. QoS 0: what is lost is asked for again, and an answer costs a packet less."""
        self._link.subscribe(*map(self._topic, numbers), qos=0)

    def _leave(self) -> None:
        """Give up the topics of what has come: one packet for several."""
        self._link.unsubscribe(*self._over)
        self._over.clear()

    def _ask_again(self) -> None:
        now_s = time.monotonic()
        if due := tuple(n for n, at_s in self._again.items() if at_s <= now_s):
            self._again = {n: at_s for n, at_s in self._again.items() if n not in due}
            self._ask(due)

    def _take(self, window: Window) -> bool:
        """Take one message from the inbox; return whether it was one we wait for, right or not."""
        with self._session.inbox.next(_LOOK_S) as message:
            return message is not None and self._take_chunk(window, *message)

    def _take_chunk(self, window: Window, topic: str, payload: bytes) -> bool:
        try:
            name = self._session.topics.parse(topic)
        except TopicError:
            return False
        number = name.chunk
        if name.name != self._ref.sha256 or number not in window.waiting or not payload:
            return False
        self._over.append(topic)
        try:
            chunk = unpack(payload, self._ref, number)
            if self._digests is not None:
                self._digests.check(number, chunk)
        except ArtifactError as error:
            self._drop(number, len(payload), error)
            return True
        window.take(number)
        self._meter.correct(len(payload) - len(chunk))
        self._sink(number, chunk)
        return True

    def _drop(self, number: int, length: int, error: ArtifactError) -> None:
        """Take note of wrong bytes; the chunk is still waited for."""
        self._meter.correct(length)
        times = self._wrong[number] = self._wrong.get(number, 0) + 1
        if times == WRONG_CHUNKS:
            raise ArtifactError(f"{error}; it was asked for {times} times") from error
        log.warning("%s; it is dropped and asked for again", error)
        self._again[number] = time.monotonic() + _WRONG_AGAIN_S

    def _topic(self, number: int) -> str:
        return self._session.topics.chunk(self._ref.sha256, number)


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
