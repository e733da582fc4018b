"""The store, the ledger and their files: nothing half-written is ever taken for whole."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import StoreError
from agent.storage.artifacts import ArtifactStore
from agent.storage.files import write_atomically
from protocols.chunks import CHUNK_BYTES, artifact_ref, cut
from protocols.errors import ArtifactError

CONTENT = bytes(range(256)) * 1024  # four chunks


def fill(store: ArtifactStore, content: bytes) -> None:
    with store.partial(artifact_ref(content)) as partial:
        for number, chunk in enumerate(cut(content)):
            partial.write(number, chunk)
        partial.finish()


@given(order=st.permutations(range(5)), cuts=st.sets(st.integers(0, 4)), tail=st.integers(1, 70000))
@settings(max_examples=25, deadline=None)
def test_chunks_arrive_in_any_order_and_over_any_number_of_runs(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cuts: set[int], tail: int
) -> None:
    root = tmp_path_factory.mktemp("store")
    content = os.urandom(4 * CHUNK_BYTES) + os.urandom(min(tail, CHUNK_BYTES))
    chunks, ref = list(cut(content)), artifact_ref(content)
    store = ArtifactStore(root)
    partial = store.partial(ref).__enter__()
    written: set[int] = set()
    for position, number in enumerate(order):
        if position in cuts:  # the agent ends and starts again
            partial.__exit__()
            partial = ArtifactStore(root).partial(ref).__enter__()
            assert partial.have == written
        partial.write(number, chunks[number])
        written.add(number)
    partial.finish()
    partial.__exit__()
    assert store.has(ref)
    assert store.read(ref) == content
    assert list((root / "partial").iterdir()) == []


def test_other_bytes_are_dropped(tmp_path: Path) -> None:
    store, ref = ArtifactStore(tmp_path), artifact_ref(CONTENT)
    with store.partial(ref) as partial:
        for number, chunk in enumerate(cut(CONTENT)):
            partial.write(number, chunk if number else bytes(len(chunk)))
        with pytest.raises(ArtifactError, match="cannot accept artifact"):
            partial.finish()
    assert not store.has(ref)
    assert store.fetched_bytes(ref) == 0


def test_a_mark_without_its_bytes_is_found_out(tmp_path: Path) -> None:
    store, ref = ArtifactStore(tmp_path), artifact_ref(CONTENT)
    with store.partial(ref) as partial:
        partial.write(0, CONTENT[:CHUNK_BYTES])
    (tmp_path / "partial" / f"{ref.sha256}.have").write_bytes(b"\1\1\1\1")  # a torn write
    with store.partial(ref) as partial:
        assert partial.have == {0}
        partial.write(3, CONTENT[3 * CHUNK_BYTES :])
        with pytest.raises(ArtifactError):
            partial.finish()
    with store.partial(ref) as partial:
        assert partial.have == frozenset()


def test_what_the_card_lost_is_fetched_again(tmp_path: Path) -> None:
    ref = artifact_ref(CONTENT)
    fill(ArtifactStore(tmp_path), CONTENT)
    path = tmp_path / "artifacts" / ref.sha256
    path.write_bytes(CONTENT[:-1] + b"\0")
    assert not ArtifactStore(tmp_path).has(ref)
    assert not path.exists()
    fill(ArtifactStore(tmp_path), CONTENT)
    path.write_bytes(CONTENT[:-1])
    assert not ArtifactStore(tmp_path).has(ref)


def test_only_what_is_kept_stays(tmp_path: Path) -> None:
    store, other = ArtifactStore(tmp_path), CONTENT[::-1]
    fill(store, CONTENT)
    fill(store, other)
    with store.partial(artifact_ref(b"x" * 10)) as partial:
        partial.write(0, b"x" * 10)
    freed = store.collect([artifact_ref(CONTENT).sha256])
    assert freed >= len(other)
    assert store.has(artifact_ref(CONTENT))
    assert not store.has(artifact_ref(other))
    assert list((tmp_path / "partial").iterdir()) == []


def test_no_room_is_said_with_the_numbers(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    huge = artifact_ref(b"x").with_(size_bytes=1 << 32)
    with pytest.raises(StoreError, match=r"cannot store digits 1: needs \d+.* MiB free in"):
        store.check_room([huge.with_(sha256=f"{n:064x}") for n in range(4096)], "digits 1")
    store.check_room([artifact_ref(CONTENT)], "digits 1")
    with pytest.raises(StoreError, match="cannot read artifact"):
        store.read(huge)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
