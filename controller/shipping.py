"""Puts artifacts on the broker as retained chunks, once, and takes them off again.

The last chunk of an artifact goes out last and leaves first: where it is, all of them are. The
first one goes out first and leaves last: where it is not, none are. So what is interrupted, sending
or clearing, is sent again by who needs it and cleared by who does not.
"""

import contextlib
from collections.abc import Callable, Sequence

from controller.home import Home
from controller.library import read_artifact
from controller.steps import PutArtifact
from protocols.bundle import ArtifactRef
from protocols.chunks import chunk_count, cut
from protocols.errors import ArtifactError, LinkError
from protocols.link import Link
from protocols.packing import payload_of, unpack
from protocols.pull import Puller

WINDOW_CHUNKS = 16
"""Chunks sent before the broker's word is waited for: 1 MiB, below paho's 20 in flight."""

WINDOW_TIMEOUT_S = 60.0
LOOK_S = 0.5
"""A retained chunk that is there comes at once."""

_CLEARED_WITHIN_S = 5.0
"""A person who has pressed Ctrl-C does not wait longer."""

OnBytes = Callable[[int], None]
"""Called with the bytes, unpacked, that the broker has taken since the last call."""


class Shipper:
    """Artifacts of the catalog, on their way to the broker and off it.

    Args:
        home: the catalog, and where the broker is.
        link: the session that publishes.
    """

    def __init__(self, home: Home, link: Link) -> None:
        self._home, self._link, self._topics = home, link, home.topics

    def put(self, steps: Sequence[PutArtifact], on_bytes: OnBytes = lambda _: None) -> int:
        """Put artifacts out, those that are not on the broker already.

        The last of them, the manifest, goes out last: where it is, all that it names was, too.

        Returns:
            How many bytes were sent.

        Raises:
            CatalogError, ArtifactError: an artifact is not in the catalog, or damaged there.
            LinkError: the broker does not confirm.
        """
        there = self._there([step.ref for step in steps])
        on_bytes(sum(step.ref.size_bytes for step in steps if step.ref.sha256 in there))
        missing = (step.ref for step in steps if step.ref.sha256 not in there)
        return sum(self._send_whole(ref, on_bytes) for ref in missing)

    def send(self, ref: ArtifactRef, on_bytes: OnBytes = lambda _: None) -> int:
        """Send all chunks, whatever the broker has; return how many bytes that were.

        The broker takes them in order, so its last word stands for a window.

        Raises:
            CatalogError, ArtifactError, LinkError: as `put`.
        """
        last, unconfirmed, sent = chunk_count(ref.size_bytes) - 1, 0, 0
        for number, chunk in enumerate(cut(read_artifact(self._home, ref))):
            topic, payload = self._topics.chunk(ref.sha256, number), payload_of(ref, chunk)
            unconfirmed += len(chunk)
            sent += len(payload)
            if number == last or number % WINDOW_CHUNKS == WINDOW_CHUNKS - 1:
                self._link.publish_and_wait(topic, payload, retain=True, timeout_s=WINDOW_TIMEOUT_S)
                on_bytes(unconfirmed)
                unconfirmed = 0
            else:
                self._link.publish(topic, payload, retain=True)
        return sent

    def clear(self, ref: ArtifactRef, timeout_s: float = WINDOW_TIMEOUT_S) -> None:
        """Take every chunk off the broker, the last one first and the first one last.

        Raises:
            LinkError: the broker does not confirm.
        """
        for number in range(chunk_count(ref.size_bytes) - 1, 0, -1):
            self._link.publish(self._topics.chunk(ref.sha256, number), b"", retain=True)
        first = self._topics.chunk(ref.sha256, 0)
        self._link.publish_and_wait(first, b"", retain=True, timeout_s=timeout_s)

    def clear_what_is_there(self, refs: Sequence[ArtifactRef]) -> tuple[ArtifactRef, ...]:
        """Take artifacts off the broker; return those that were there.

        Raises:
            LinkError: as `clear`.
        """
        found = self._look([(ref.sha256, 0) for ref in refs])
        there = tuple(ref for ref in refs if ref.sha256 in found)
        for ref in there:
            self.clear(ref)
        return there

    def _send_whole(self, ref: ArtifactRef, on_bytes: OnBytes) -> int:
        """Send what nobody has sent before: all of it or, after Ctrl-C, nothing.

        No deployment names it yet, so nobody would ever clear a part of it.
        """
        try:
            return self.send(ref, on_bytes)
        except KeyboardInterrupt:
            with contextlib.suppress(LinkError):
                self.clear(ref, _CLEARED_WITHIN_S)
            raise

    def _there(self, refs: Sequence[ArtifactRef]) -> set[str]:
        """Return the digests of those whose last chunk is on the broker."""
        found = self._look([(ref.sha256, chunk_count(ref.size_bytes) - 1) for ref in refs])
        return {ref.sha256 for ref in refs if self._is_ours(ref, found.get(ref.sha256, b""))}

    def _look(self, places: Sequence[tuple[str, int]]) -> dict[str, bytes]:
        """Return what the broker has of some chunks, given by digest and number."""
        if not places:
            return {}
        with Puller(self._home.broker, self._topics, f"{self._home.fleet}-ctl") as puller:
            return puller.look(list(dict(places).items()), LOOK_S)

    def _is_ours(self, ref: ArtifactRef, payload: bytes) -> bool:
        number = chunk_count(ref.size_bytes) - 1
        try:
            content = read_artifact(self._home, ref)
            return bool(payload) and content.endswith(unpack(payload, ref, number))
        except ArtifactError:
            return False
