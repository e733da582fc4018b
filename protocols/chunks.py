"""Artifacts on the wire: cut into chunks of 64 KiB, put together and checked. No I/O.

64 KiB because AWS IoT takes at most 128 KiB a payload and some stacks drop the connection above
64 KiB; a window of 8 because AWS IoT takes 8 filters in one SUBSCRIBE.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator

from protocols.bundle import ArtifactRef
from protocols.device import WRONG_BYTES
from protocols.errors import ArtifactError, SluiceError

CHUNK_BYTES = 64 * 1024
WINDOW_CHUNKS = 8
DIGEST_BYTES = 32


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


def chunk_list(content: bytes) -> bytes:
    """Return the chunk list of some bytes: the SHA-256 of each chunk, in order."""
    return b"".join(hashlib.sha256(chunk).digest() for chunk in cut(content))


def listed_ref(content: bytes) -> ArtifactRef:
    """Return the name and size of some bytes, and the name of their chunk list."""
    chunks = hashlib.sha256(chunk_list(content)).hexdigest()
    return artifact_ref(content).with_(chunks=chunks)


def list_ref(ref: ArtifactRef) -> ArtifactRef | None:
    """Return the chunk list that must be fetched before an artifact; None: there is none to fetch.

    The list of an artifact of one chunk is known: it is the artifact's own digest.
    """
    count = chunk_count(ref.size_bytes)
    if ref.chunks is None or count == 1:
        return None
    return ArtifactRef(sha256=ref.chunks, size_bytes=DIGEST_BYTES * count)


def with_lists(refs: Iterable[ArtifactRef]) -> tuple[ArtifactRef, ...]:
    """Return artifacts and their chunk lists, each once, a list before what it lists."""
    both = (one for ref in refs for one in (list_ref(ref), ref) if one is not None)
    return tuple({one.sha256: one for one in both}.values())


class Digests:
    """The digests of an artifact's chunks, as its chunk list has them.

    Args:
        ref: the artifact.
        content: of the list; of an artifact of one chunk it is not asked for.

    Raises:
        ArtifactError: these bytes are not the list that the artifact names.
    """

    def __init__(self, ref: ArtifactRef, content: bytes = b"") -> None:
        self._ref = ref
        count = chunk_count(ref.size_bytes)
        self._content = content if count > 1 else bytes.fromhex(ref.sha256)
        if count > 1 and hashlib.sha256(content).hexdigest() != ref.chunks:
            raise ArtifactError(
                f"cannot use the chunk list of {ref.sha256[:12]}: it is not the one that the "
                "signed bundle names"
            )
        if len(self._content) != DIGEST_BYTES * count:
            raise ArtifactError(
                f"cannot use the chunk list of {ref.sha256[:12]}: {len(content)} bytes, "
                f"{DIGEST_BYTES * count} expected for {count} chunks"
            )

    def __len__(self) -> int:
        return len(self._content) // DIGEST_BYTES

    def __getitem__(self, number: int) -> bytes:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self._content[DIGEST_BYTES * number : DIGEST_BYTES * (number + 1)]

    def __iter__(self) -> Iterator[bytes]:
        return (self[number] for number in range(len(self)))

    def check(self, number: int, chunk: bytes) -> None:
        """Check a chunk against its digest.

        Raises:
            ArtifactError: it is another.
        """
        if hashlib.sha256(chunk).digest() != self[number]:
            raise ArtifactError(
                f"{WRONG_BYTES}chunk {number} of {self._ref.sha256[:12]}: its bytes are not those "
                "of the signed chunk list"
            )


class Window:
    """Which chunks of one artifact to ask for next: at most 8 at a time, each until it is there."""

    def __init__(self, ref: ArtifactRef, have: frozenset[int] = frozenset()) -> None:
        self._ref = ref
        self._missing = [n for n in range(chunk_count(ref.size_bytes)) if n not in have]
        self._missing.reverse()
        self._waiting: set[int] = set()

    @property
    def waiting(self) -> frozenset[int]:
        """The chunks asked for that have not come."""
        return frozenset(self._waiting)

    def ask(self, may: Callable[[int], bool] = lambda _: True) -> tuple[int, ...]:
        """Return the chunks to ask for now, so that the window is full again.

        Args:
            may: asked with the bytes of each; false ends it here for now. So does an error while
                something is waited for: that comes first, and the error another time.
        """
        new = []
        while self._missing and len(self._waiting) < WINDOW_CHUNKS:
            try:
                if not may(chunk_length(self._ref, self._missing[-1])):
                    break
            except SluiceError:
                if not self._waiting:
                    raise
                break
            new.append(self._missing.pop())
            self._waiting.add(new[-1])
        return tuple(new)

    def take(self, number: int) -> None:
        """Take note that a chunk has come that is waited for."""
        self._waiting.remove(number)

    @property
    def done(self) -> bool:
        """Whether every chunk has come."""
        return not self._missing and not self._waiting


def check(ref: ArtifactRef, digest: str, size_bytes: int) -> None:
    """Check that some bytes, of which digest and size are known, are an artifact's.

    Raises:
        ArtifactError: they are not.
    """
    if size_bytes != ref.size_bytes or digest != ref.sha256:
        raise ArtifactError(
            f"{WRONG_BYTES}artifact {ref.sha256[:12]}: its bytes have SHA-256 {digest[:12]} and "
            f"size {size_bytes}, the signed bundle says {ref.size_bytes}; fetched bytes are dropped"
        )
