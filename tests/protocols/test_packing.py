"""Chunks packed and unpacked, and what is refused without being unpacked."""

import contextlib
import lzma
import os
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bundle import ArtifactRef
from protocols.chunks import CHUNK_BYTES, DIGEST_BYTES, artifact_ref, listed_ref
from protocols.errors import ArtifactError
from protocols.packing import pack, payload_of, sent_bytes, unpack

_RNG = np.random.default_rng(1)
FLOATS = _RNG.normal(0, 0.1, 16384).astype(np.float32).tobytes()
PALETTE = _RNG.choice(np.arange(0, 256, 16, dtype=np.uint8), CHUNK_BYTES).tobytes()
SHARED = _RNG.choice(np.arange(32, dtype=np.float32) / 7, 16384).tobytes()


def ref_of(size_bytes: int) -> ArtifactRef:
    return ArtifactRef(sha256="0" * 64, size_bytes=size_bytes)


@given(st.binary(min_size=1, max_size=300) | st.integers(1, CHUNK_BYTES).map(bytes))
def test_what_is_packed_is_whole_again(chunk: bytes) -> None:
    payload = pack(chunk)
    assert len(payload) <= len(chunk)
    assert unpack(payload, ref_of(len(chunk)), 0) == chunk


@pytest.mark.parametrize(
    ("chunk", "methods", "most"),
    [
        (FLOATS, {2}, 0.92),
        (PALETTE, {1, 2}, 0.6),
        (SHARED, {3}, 0.25),
        (bytes(CHUNK_BYTES), {1}, 0.01),
    ],
)
def test_the_form_is_the_one_that_suits(chunk: bytes, methods: set[int], most: float) -> None:
    payload = pack(chunk)
    assert payload[0] in methods
    assert len(payload) < most * len(chunk)
    assert unpack(payload, ref_of(len(chunk)), 0) == chunk


def test_what_cannot_be_packed_goes_as_it_is() -> None:
    chunk = os.urandom(CHUNK_BYTES)
    assert pack(chunk) == chunk
    assert unpack(chunk, ref_of(CHUNK_BYTES), 0) is chunk


def test_only_what_has_a_chunk_list_is_packed() -> None:
    assert payload_of(artifact_ref(PALETTE), PALETTE) == PALETTE
    assert payload_of(listed_ref(PALETTE), PALETTE) == pack(PALETTE)


def test_the_bytes_sent_are_those_of_the_payloads_and_the_list() -> None:
    assert sent_bytes(PALETTE) == len(pack(PALETTE))
    assert sent_bytes(PALETTE + FLOATS) == len(pack(PALETTE)) + len(pack(FLOATS)) + 2 * DIGEST_BYTES


def _deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def _squeezed(content: bytes) -> bytes:
    form = {"id": lzma.FILTER_LZMA1, "dict_size": CHUNK_BYTES, "lc": 0, "lp": 2, "pb": 2}
    return lzma.compress(content, lzma.FORMAT_RAW, filters=[form])


BOMBS = [
    b"\1" + _deflated(bytes(48 << 20)),
    b"\2" + _deflated(bytes(48 << 20)),
    b"\3" + _squeezed(bytes(48 << 20)),
]


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_without_being_unpacked(bomb: bytes) -> None:
    assert len(bomb) < CHUNK_BYTES, "it must look like a chunk"
    ref = ref_of(9 * CHUNK_BYTES)
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError, match=r"do not unpack to the 65536 expected$"):
            unpack(bomb, ref, 3)
        assert tracemalloc.get_traced_memory()[1] < 8 * CHUNK_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "payload",
    [b"\0" + bytes(9), b"\x09abc", b"\1nonsense", b"\2nonsense", b"\3nonsense", b"\3", b"\1"],
)
def test_nonsense_is_refused(payload: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"^cannot accept chunk 0 of 000000000000: "):
        unpack(payload, ref_of(CHUNK_BYTES), 0)


@given(st.binary(max_size=64), st.sampled_from([1, 2, 3]))
def test_whatever_comes_is_a_chunk_or_an_error(payload: bytes, method: int) -> None:
    with contextlib.suppress(ArtifactError):
        assert len(unpack(bytes([method]) + payload, ref_of(1000), 0)) == 1000


@pytest.mark.parametrize("length", [0, 11, CHUNK_BYTES])
def test_a_payload_longer_than_its_chunk_is_an_error(length: int) -> None:
    why = rf"^cannot accept chunk 1 of 000000000000: {length} bytes, 10 expected$"
    with pytest.raises(ArtifactError, match=why):
        unpack(bytes(length), ref_of(CHUNK_BYTES + 10), 1)
