"""Artifacts on the wire: cut into chunks of 64 KiB, put together and checked. No I/O.

64 KiB because AWS IoT takes at most 128 KiB a payload and some stacks drop the connection above
64 KiB; a window of 8 because AWS IoT takes 8 filters in one SUBSCRIBE.
"""

import hashlib
from collections.abc import Iterator
from itertools import islice

from protocols.bundle import ArtifactRef
from protocols.errors import ArtifactError

CHUNK_BYTES = 64 * 1024
WINDOW_CHUNKS = 8


def artifact_ref(content: bytes) -> ArtifactRef:
    """Return the name and size of some bytes."""
    return ArtifactRef(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


def chunk_count(size_bytes: int) -> int:
    """Return how many chunks an artifact of that size has."""
    return -(-size_bytes // CHUNK_BYTES)


def chunk_length(ref: ArtifactRef, number: int) -> int:
    """Return how many bytes chunk `number` (from 0) must have."""
    return min(CHUNK_BYTES, ref.size_bytes - number * CHUNK_BYTES)


def cut(content: bytes) -> Iterator[bytes]:
    """Yield an artifact's chunks, in order."""
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


class Window:
    """Which chunks of one artifact to ask for next: at most 8 at a time, each until it is there."""

    def __init__(self, ref: ArtifactRef, have: frozenset[int] = frozenset()) -> None:
        self._ref = ref
        wanted = [n for n in range(chunk_count(ref.size_bytes)) if n not in have]
        self._missing = iter(wanted)
        self._waiting: set[int] = set()
        self._left = len(wanted)

    @property
    def waiting(self) -> frozenset[int]:
        """The chunks asked for that have not come."""
        return frozenset(self._waiting)

    def ask(self) -> tuple[int, ...]:
        """Return the chunks to ask for now, so that the window is full again."""
        new = tuple(islice(self._missing, WINDOW_CHUNKS - len(self._waiting)))
        self._waiting.update(new)
        return new

    def take(self, number: int, chunk: bytes) -> bool:
        """Take a chunk that came; return whether it was one we wait for.

        Raises:
            ArtifactError: its length is not the one that it must have.
        """
        if number not in self._waiting:
            return False
        expected = chunk_length(self._ref, number)
        if len(chunk) != expected:
            raise ArtifactError(
                f"cannot take chunk {number} of {self._ref.sha256[:12]}: "
                f"{len(chunk)} bytes, {expected} expected"
            )
        self._waiting.discard(number)
        self._left -= 1
        return True

    @property
    def done(self) -> bool:
        """Whether every chunk has come."""
        return not self._left


def check(ref: ArtifactRef, digest: str, size_bytes: int) -> None:
    """Check that some bytes, of which digest and size are known, are an artifact's.

    Raises:
        ArtifactError: they are not.
    """
    if size_bytes != ref.size_bytes or digest != ref.sha256:
        raise ArtifactError(
            f"cannot accept artifact {ref.sha256[:12]}: its bytes have SHA-256 {digest[:12]} and "
            f"size {size_bytes}, the signed bundle says {ref.size_bytes}; fetched bytes are dropped"
        )
