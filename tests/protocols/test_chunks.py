"""Artifacts cut into chunks, asked for in a window, put together again."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bundle import ArtifactRef
from protocols.chunks import (
    CHUNK_BYTES,
    WINDOW_CHUNKS,
    Window,
    artifact_ref,
    check,
    chunk_count,
    chunk_length,
    cut,
)
from protocols.errors import ArtifactError

sizes = st.integers(1, 40 * CHUNK_BYTES) | st.sampled_from(
    [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 9 * CHUNK_BYTES]
)


def sized(size_bytes: int) -> ArtifactRef:
    return ArtifactRef(sha256="0" * 64, size_bytes=size_bytes)


@given(sizes)
def test_what_is_cut_is_whole_again(size: int) -> None:
    content = bytes(size)
    chunks = list(cut(content))
    assert b"".join(chunks) == content
    assert len(chunks) == chunk_count(size)
    assert [len(c) for c in chunks] == [chunk_length(sized(size), n) for n in range(len(chunks))]
    assert all(len(a) == CHUNK_BYTES for a, _ in pairwise(chunks))


@given(size=sizes, data=st.data())
def test_a_window_asks_for_every_chunk_once_and_for_few_at_a_time(
    size: int, data: st.DataObject
) -> None:
    ref = sized(size)
    count = chunk_count(size)
    have = data.draw(st.frozensets(st.integers(0, count - 1)))
    window = Window(ref, have)
    asked: list[int] = []
    while not window.done:
        new = window.ask()
        asked += new
        assert 0 < len(window.waiting) <= WINDOW_CHUNKS
        number = data.draw(st.sampled_from(sorted(window.waiting)))
        assert window.take(number, bytes(chunk_length(ref, number)))
        assert not window.take(number, bytes(chunk_length(ref, number))), "a repetition"
    assert sorted(asked) == sorted(set(range(count)) - have)
    assert window.ask() == ()


def test_a_window_is_full_until_a_chunk_comes() -> None:
    window = Window(sized(20 * CHUNK_BYTES))
    assert window.ask() == tuple(range(WINDOW_CHUNKS))
    assert window.ask() == ()
    assert window.take(3, bytes(CHUNK_BYTES))
    assert window.ask() == (WINDOW_CHUNKS,)


def test_chunks_that_nobody_asked_for_are_left() -> None:
    window = Window(sized(20 * CHUNK_BYTES))
    window.ask()
    for number in (-1, WINDOW_CHUNKS, 19, 20, 1 << 40):
        assert not window.take(number, b"whatever")


@pytest.mark.parametrize("length", [0, 9, 11, CHUNK_BYTES])
def test_a_chunk_of_another_length_is_an_error(length: int) -> None:
    window = Window(sized(CHUNK_BYTES + 10))
    window.ask()
    why = rf"^cannot take chunk 1 of 000000000000: {length} bytes, 10 expected$"
    with pytest.raises(ArtifactError, match=why):
        window.take(1, bytes(length))
    assert window.waiting == {0, 1}


def test_an_artifact_is_named_by_its_digest_and_checked_against_it() -> None:
    ref = artifact_ref(b"weights")
    assert ref == ArtifactRef(sha256=hashlib.sha256(b"weights").hexdigest(), size_bytes=7)
    check(ref, ref.sha256, 7)
    for digest, size in ((ref.sha256, 8), ("0" * 64, 7)):
        with pytest.raises(ArtifactError, match=f"^cannot accept artifact {ref.sha256[:12]}: "):
            check(ref, digest, size)
