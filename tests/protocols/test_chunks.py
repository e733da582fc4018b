"""Artifacts cut into chunks, asked for in a window, put together again."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bundle import ArtifactRef
from protocols.chunks import (
    CHUNK_BYTES,
    DIGEST_BYTES,
    WINDOW_CHUNKS,
    Digests,
    Window,
    artifact_ref,
    check,
    chunk_count,
    chunk_length,
    chunk_list,
    cut,
    list_ref,
    listed_ref,
)
from protocols.errors import ArtifactError, SluiceError

sizes = st.integers(1, 12 * CHUNK_BYTES) | st.sampled_from(
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
        window.take(number)
        assert number not in window.waiting
    assert sorted(asked) == sorted(set(range(count)) - have)
    assert window.ask() == ()


def test_a_window_is_full_until_a_chunk_comes() -> None:
    window = Window(sized(20 * CHUNK_BYTES))
    assert window.ask() == tuple(range(WINDOW_CHUNKS))
    assert window.ask() == ()
    window.take(3)
    assert window.ask() == (WINDOW_CHUNKS,)


def test_a_window_asks_for_no_more_than_it_may() -> None:
    window = Window(sized(20 * CHUNK_BYTES))
    left = 2 * CHUNK_BYTES + 7

    def may(count: int) -> bool:
        nonlocal left
        left -= count
        return left >= 0

    assert window.ask(may) == (0, 1)
    assert not window.done
    assert window.ask() == (2, 3, 4, 5, 6, 7)


def test_an_error_while_something_is_waited_for_comes_after_it() -> None:
    window = Window(sized(20 * CHUNK_BYTES))
    left = 2

    def may(_count: int) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            raise SluiceError("waits: another day")
        return True

    assert window.ask(may) == (0, 1), "what was granted is asked for"
    assert window.ask(may) == ()
    window.take(1)
    assert window.ask(may) == ()
    window.take(0)
    with pytest.raises(SluiceError, match="another day"):
        window.ask(may)
    assert window.waiting == frozenset()
    assert window.ask()[0] == 2, "nothing is lost"


@given(sizes)
def test_a_chunk_list_names_every_chunk(size: int) -> None:
    content = np.random.default_rng(size).bytes(size)
    ref, listed = listed_ref(content), chunk_list(content)
    named = list_ref(ref)
    if named is None:
        assert chunk_count(size) == 1
        digests = Digests(ref)
    else:
        assert named == artifact_ref(listed)
        digests = Digests(ref, listed)
    assert len(digests) == chunk_count(size)
    for number, chunk in enumerate(cut(content)):
        digests.check(number, chunk)
        with pytest.raises(ArtifactError, match="not those of the signed chunk list"):
            digests.check(number, chunk[:-1] + bytes([chunk[-1] ^ 1]))


def test_another_chunk_list_is_refused_whatever_its_size() -> None:
    content = bytes(3 * CHUNK_BYTES)
    ref, listed = listed_ref(content), chunk_list(content)
    for other in (b"", listed[:-1], listed + listed[:DIGEST_BYTES], bytes(len(listed))):
        with pytest.raises(ArtifactError, match="cannot use the chunk list"):
            Digests(ref, other)
    longer = listed + listed[:DIGEST_BYTES]
    with pytest.raises(ArtifactError, match="128 bytes, 96 expected for 3 chunks"):
        Digests(ref.with_(chunks=artifact_ref(longer).sha256), longer)


def test_an_artifact_without_a_chunk_list_has_none_to_fetch() -> None:
    assert list_ref(sized(9 * CHUNK_BYTES)) is None


def test_an_artifact_is_named_by_its_digest_and_checked_against_it() -> None:
    ref = artifact_ref(b"weights")
    assert ref == ArtifactRef(sha256=hashlib.sha256(b"weights").hexdigest(), size_bytes=7)
    check(ref, ref.sha256, 7)
    for digest, size in ((ref.sha256, 8), ("0" * 64, 7)):
        with pytest.raises(ArtifactError, match=f"^cannot accept artifact {ref.sha256[:12]}: "):
            check(ref, digest, size)
