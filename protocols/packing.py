"""A chunk as it travels: packed where that makes it smaller, as it is where it does not. No I/O.

A payload as long as its chunk must be is the chunk itself. A shorter one begins with a byte that
says how the rest is packed:

    1   deflated (RFC 1951)
    2   byte planes, deflated: every fourth byte from 0 on, then from 1, 2 and 3; for float32, whose
        high bytes are alike, 0.85 of the bytes where deflate alone leaves 0.92
    3   raw LZMA (lc 0, lp 2, pb 2, a dictionary of one chunk): for shared and pruned weights

LZMA takes about ten times as long to unpack (1 to 5 ms a chunk against 0.2 to 0.5 on x86_64), so it
is taken only where it is smaller by a twentieth. zlib and lzma are imported where they are used: an
agent that idles needs neither.
"""

from protocols.bundle import ArtifactRef
from protocols.chunks import CHUNK_BYTES, DIGEST_BYTES, chunk_count, chunk_length, cut
from protocols.device import WRONG_BYTES
from protocols.errors import ArtifactError

_DEFLATED, _PLANES, _LZMA = 1, 2, 3

_LEVEL = 6
"""9 takes up to three times as long and is no smaller on the models measured."""

_RAW_DEFLATE = -15
_WORTH_IT = 31 / 32
"""What saves less is sent as it is: unpacking costs, too."""

_LZMA_SAVES = 0.95
_LZMA_BELOW = 0.75
"""What deflate leaves more of, LZMA hardly packs better; to try takes the sender 15 ms a chunk."""

_SAMPLE_BYTES = 8 * 1024
"""From so many bytes it is seen whether planes pay."""


def pack(chunk: bytes) -> bytes:
    """Return a chunk's payload: shorter than the chunk, or the chunk itself."""
    sample = chunk[:_SAMPLE_BYTES]
    in_planes = len(_deflate(_planes(sample))) < len(_deflate(sample))
    method, best = (
        (_PLANES, _deflate(_planes(chunk))) if in_planes else (_DEFLATED, _deflate(chunk))
    )
    if len(best) + 1 > len(chunk) * _WORTH_IT:
        return chunk
    if len(best) < len(chunk) * _LZMA_BELOW:
        squeezed = _squeeze(chunk)
        if len(squeezed) < len(best) * _LZMA_SAVES:
            method, best = _LZMA, squeezed
    return bytes([method]) + best


def unpack(payload: bytes, ref: ArtifactRef, number: int) -> bytes:
    """Return the chunk that a payload holds.

    Never more than a chunk, and one byte, is unpacked, whatever the payload claims.

    Args:
        payload: as it came.
        ref: the artifact.
        number: of the chunk, from 0.

    Raises:
        ArtifactError: it is longer than the chunk must be, or does not unpack to its length.
    """
    length = chunk_length(ref, number)
    if len(payload) == length:
        return payload
    where = f"{WRONG_BYTES}chunk {number} of {ref.sha256[:12]}"
    if len(payload) > length or not payload:
        raise ArtifactError(f"{where}: {len(payload)} bytes, {length} expected")
    chunk = _unpacked(payload, length)
    if chunk is None:
        raise ArtifactError(
            f"{where}: {len(payload)} bytes that do not unpack to the {length} expected"
        )
    return chunk


def payload_of(ref: ArtifactRef, chunk: bytes) -> bytes:
    """Return what is sent for a chunk: packed only where whoever reads it knows how.

    An agent from before chunk lists takes whole chunks alone, and reads bundles without them.
    """
    return chunk if ref.chunks is None else pack(chunk)


def sent_bytes(content: bytes) -> int:
    """Return how many bytes an artifact takes over the air: its payloads, and its chunk list."""
    payloads = sum(len(pack(chunk)) for chunk in cut(content))
    count = chunk_count(len(content))
    return payloads + (DIGEST_BYTES * count if count > 1 else 0)


def _unpacked(payload: bytes, length: int) -> bytes | None:
    """Return exactly so many bytes; None: the payload holds fewer, more, or nonsense."""
    method, packed = payload[0], memoryview(payload)[1:]
    if method in {_DEFLATED, _PLANES}:
        chunk = _inflate(packed, length + 1)
    elif method == _LZMA:
        chunk = _unsqueeze(packed, length + 1)
    else:
        return None
    if len(chunk) != length:
        return None
    if method != _PLANES:
        return chunk
    woven = _from_planes(chunk)
    del chunk  # a device has no memory for more copies than are needed
    return bytes(woven)


def _deflate(content: bytes) -> bytes:
    import zlib  # noqa: PLC0415 - see above

    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW_DEFLATE)
    return packer.compress(content) + packer.flush()


def _inflate(packed: memoryview, most: int) -> bytes:
    import zlib  # noqa: PLC0415 - see above

    try:
        return zlib.decompressobj(_RAW_DEFLATE).decompress(packed, most)
    except zlib.error:
        return b""


def _squeeze(content: bytes) -> bytes:
    import lzma  # noqa: PLC0415 - see above

    return lzma.compress(content, lzma.FORMAT_RAW, filters=[_lzma_filter()])


def _unsqueeze(packed: memoryview, most: int) -> bytes:
    import lzma  # noqa: PLC0415 - see above

    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[_lzma_filter()])
    try:
        return unpacker.decompress(packed, most)
    except (lzma.LZMAError, EOFError):
        return b""


def _lzma_filter() -> dict[str, int]:
    import lzma  # noqa: PLC0415 - see above

    return {
        "id": lzma.FILTER_LZMA1,
        "preset": 6,
        "dict_size": CHUNK_BYTES,
        "lc": 0,
        "lp": 2,
        "pb": 2,
    }


def _planes(content: bytes) -> bytes:
    return b"".join(content[start::4] for start in range(4))


def _from_planes(planes: bytes) -> bytearray:
    content = bytearray(len(planes))
    at = 0
    for start in range(4):
        count = len(range(start, len(planes), 4))
        content[start::4] = planes[at : at + count]
        at += count
    return content
