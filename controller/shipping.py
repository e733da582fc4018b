"""Puts artifacts on the broker as retained chunks, once, and takes them off again."""

from collections.abc import Callable, Sequence

from controller.home import Home
from controller.library import read_artifact
from controller.steps import PutArtifact
from protocols.bundle import ArtifactRef
from protocols.chunks import chunk_count, cut
from protocols.errors import ArtifactError
from protocols.link import Link
from protocols.packing import payload_of, unpack
from protocols.pull import Puller

WINDOW_CHUNKS = 16
"""Chunks sent before the broker's word is waited for: 1 MiB, below paho's 20 in flight."""

WINDOW_TIMEOUT_S = 60.0
LOOK_S = 0.5
"""A retained chunk that is there comes at once."""

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
        return sum(self.send(ref, on_bytes) for ref in missing)

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

    def clear(self, ref: ArtifactRef) -> None:
        """Take every chunk off the broker, the last one first: it stands for all of them."""
        for number in range(chunk_count(ref.size_bytes) - 1, -1, -1):
            self._link.publish(self._topics.chunk(ref.sha256, number), b"", retain=True)

    def clear_what_is_there(self, refs: Sequence[ArtifactRef]) -> tuple[ArtifactRef, ...]:
        """Take artifacts off the broker; return those that were there."""
        found = self._last_chunks(refs)
        there = tuple(ref for ref in refs if ref.sha256 in found)
        for ref in there:
            self.clear(ref)
        return there

    def _there(self, refs: Sequence[ArtifactRef]) -> set[str]:
        """Return the digests of those whose last chunk is on the broker."""
        found = self._last_chunks(refs)
        return {ref.sha256 for ref in refs if self._is_ours(ref, found.get(ref.sha256, b""))}

    def _last_chunks(self, refs: Sequence[ArtifactRef]) -> dict[str, bytes]:
        """Return the last chunks that the broker has: they go out last, and leave first."""
        last = {ref.sha256: chunk_count(ref.size_bytes) - 1 for ref in refs}
        if not last:
            return {}
        with Puller(self._home.broker, self._topics, f"{self._home.fleet}-ctl") as puller:
            return puller.look(list(last.items()), LOOK_S)

    def _is_ours(self, ref: ArtifactRef, payload: bytes) -> bool:
        number = chunk_count(ref.size_bytes) - 1
        try:
            content = read_artifact(self._home, ref)
            return bool(payload) and content.endswith(unpack(payload, ref, number))
        except ArtifactError:
            return False
