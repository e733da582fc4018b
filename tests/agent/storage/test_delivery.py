"""Delivery whole: chunk lists, copies, sources, limits and full disks, over a real broker."""

import contextlib
import os
import queue
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from agent.errors import WaitError
from agent.inbox import FetchDone, FetchFailed, FetchProgress, FetchWaits
from agent.storage.allowance import Limits, Order
from agent.storage.artifacts import ArtifactStore
from agent.storage.download import Courier, Terms
from agent.storage.fetch import Fetcher
from agent.storage.files import Disk
from agent.storage.ration import Ration
from protocols.bundle import ArtifactRef
from protocols.chunks import (
    CHUNK_BYTES,
    artifact_ref,
    chunk_list,
    cut,
    list_ref,
    listed_ref,
)
from protocols.link import Broker, Link
from protocols.packing import payload_of
from protocols.pull import Puller
from protocols.topics import Topics
from tests.agent.storage.full import FullDisk
from tests.brokers import running_broker
from tests.static import Static, serving

TOPICS = Topics("test")
Said = FetchDone | FetchFailed | FetchProgress | FetchWaits
Kind = TypeVar("Kind", FetchDone, FetchFailed, FetchWaits)

CONTENT = b"".join(bytes([n]) * (CHUNK_BYTES - 64) + os.urandom(64) for n in range(9)) + b"end"
REF = listed_ref(CONTENT)
LISTED = list_ref(REF)
assert LISTED is not None


class Room:
    """A store and a fetcher of its own, as one run of the agent has them."""

    def __init__(self, folder: Path, url: str, disk: Disk | None = None) -> None:
        self.folder, self.disk = folder, disk or Disk()
        folder.mkdir(exist_ok=True)
        self.store = ArtifactStore(folder, self.disk)
        self.said: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self.fetcher = Fetcher(
            Broker.parse(url),
            TOPICS,
            "pi",
            self.store,
            self.said.put,
            Terms(Ration(folder / "downloads.json", self.disk), give_up_s=1.0),
            jitter_s=0.0,
        )
        self.fetcher.limit(Limits(mib_per_day=1000))

    def want(self, *refs: ArtifactRef, sources: tuple[str, ...] = ()) -> None:
        self.fetcher.want(tuple(Order(ref, sources) for ref in refs))

    def next(self, kind: type[Kind]) -> Kind:
        while True:
            message = self.said.get(timeout=20)
            if isinstance(message, kind):
                return message
            assert isinstance(message, FetchProgress), message

    def get(self, ref: ArtifactRef = REF, *, sources: tuple[str, ...] = ()) -> None:
        self.want(ref, sources=sources)
        assert self.next(FetchDone).ref == ref

    @property
    def whole(self) -> set[str]:
        return {path.name for path in self.store.folder.iterdir()}


class Shelf:
    """The broker's retained chunks, put and taken off."""

    def __init__(self, url: str) -> None:
        self.link = Link(Broker.parse(url), "shelf", lambda *_: None)
        self.link.start()

    def put(self, content: bytes, ref: ArtifactRef) -> None:
        for number, chunk in enumerate(cut(content)):
            self.put_chunk(ref, number, payload_of(ref, chunk))

    def put_chunk(self, ref: ArtifactRef, number: int, payload: bytes) -> None:
        topic = TOPICS.chunk(ref.sha256, number)
        self.link.publish_and_wait(topic, payload, retain=True)

    def put_listed(self, content: bytes) -> ArtifactRef:
        ref = listed_ref(content)
        listed = list_ref(ref)
        if listed is not None:
            self.put(chunk_list(content), listed)
        self.put(content, ref)
        return ref

    def clear(self, ref: ArtifactRef, *numbers: int) -> None:
        for number in numbers:
            self.put_chunk(ref, number, b"")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_broker(tmp_path_factory.mktemp("broker")) as url:
        yield url


@pytest.fixture
def shelf(url: str) -> Iterator[Shelf]:
    shelf = Shelf(url)
    shelf.put_listed(CONTENT)
    yield shelf
    shelf.link.stop()


@pytest.fixture
def rooms() -> Iterator[list[Room]]:
    rooms: list[Room] = []
    yield rooms
    for room in rooms:
        room.fetcher.stop()


@pytest.fixture
def room(tmp_path: Path, url: str, shelf: Shelf, rooms: list[Room]) -> Room:
    del shelf
    rooms.append(Room(tmp_path / "store", url))
    return rooms[-1]


@pytest.fixture
def static() -> Iterator[Static]:
    with serving() as static:
        yield static


def test_the_list_comes_first_and_stays_beside_the_artifact(room: Room) -> None:
    room.get()
    assert room.store.read(REF) == CONTENT
    assert room.store.digests(REF) is not None
    assert room.whole == {REF.sha256, REF.chunks}


def test_a_verified_chunk_is_never_fetched_again(room: Room, shelf: Shelf, url: str) -> None:
    shelf.clear(REF, 7)
    room.want(REF)
    assert "no chunk came" in room.next(FetchFailed).message
    room.fetcher.stop()
    shelf.put_listed(CONTENT)
    shelf.clear(REF, 0, 1, 2, 3, 4, 5, 6, 8, 9)
    again = Room(room.folder, url)
    again.get()
    again.fetcher.stop()
    assert again.store.read(REF) == CONTENT


def test_marks_without_bytes_are_found_at_once_and_only_those_fetched(
    room: Room, shelf: Shelf
) -> None:
    assert LISTED is not None
    room.get(LISTED)
    chunks = list(cut(CONTENT))
    with room.store.partial(REF) as partial:
        for number in range(10):
            partial.write(number, bytes(len(chunks[number])) if number == 4 else chunks[number])
    shelf.clear(REF, 0, 1, 2, 3, 5, 6, 7, 8, 9)
    room.get()
    assert room.store.read(REF) == CONTENT


def test_a_swapped_chunk_is_dropped_and_asked_for_again_until_it_is_right(
    room: Room, shelf: Shelf
) -> None:
    swapped = payload_of(REF, bytes(CHUNK_BYTES))
    shelf.put_chunk(REF, 5, swapped)
    room.want(REF)
    failed = room.next(FetchFailed)
    assert failed.phase == "rejected"
    assert failed.message == (
        f"cannot accept chunk 5 of {REF.sha256[:12]}: its bytes are not those of the signed chunk "
        "list; it was asked for 3 times"
    )
    assert room.store.fetched_bytes(REF) > 4 * CHUNK_BYTES, "what was right is kept"
    shelf.put_listed(CONTENT)
    room.get()


def test_a_swapped_artifact_is_refused_chunk_by_chunk(room: Room, shelf: Shelf) -> None:
    shelf.put(CONTENT[::-1], REF)
    room.want(REF)
    assert room.next(FetchFailed).phase == "rejected"
    assert room.store.fetched_bytes(REF) == 0
    assert REF.sha256 not in room.whole


@pytest.mark.parametrize(
    "listed",
    [chunk_list(CONTENT) * 3, chunk_list(CONTENT)[:-32], chunk_list(CONTENT[::-1]), b"\1" * 40],
)
def test_a_chunk_list_of_another_size_or_content_is_refused(
    room: Room, shelf: Shelf, listed: bytes
) -> None:
    assert LISTED is not None
    shelf.put_chunk(LISTED, 0, listed)
    room.want(REF)
    failed = room.next(FetchFailed)
    assert failed.phase == "rejected"
    assert LISTED.sha256[:12] in failed.message
    assert room.whole == set()


def test_a_bomb_is_refused(room: Room, shelf: Shelf) -> None:
    import zlib  # noqa: PLC0415

    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    shelf.put_chunk(REF, 2, b"\1" + packer.compress(bytes(40 << 20)) + packer.flush())
    room.want(REF)
    failed = room.next(FetchFailed)
    assert failed.phase == "rejected"
    assert "do not unpack to the 65536 expected" in failed.message


def test_chunks_of_other_artifacts_are_copied(room: Room, shelf: Shelf) -> None:
    room.get()
    chunks = list(cut(CONTENT))
    new = b"".join([chunks[3], os.urandom(CHUNK_BYTES), chunks[0], chunks[3], chunks[9]])
    ref = shelf.put_listed(new)
    shelf.clear(ref, 0, 2, 3, 4)  # to be had here alone
    room.fetcher.want((Order(ref),), (REF, artifact_ref(b"not here")))
    assert room.next(FetchDone).ref == ref
    assert room.store.read(ref) == new


def test_a_donor_that_is_damaged_gives_nothing(room: Room, shelf: Shelf) -> None:
    room.get()
    ref = shelf.put_listed(CONTENT[: 4 * CHUNK_BYTES])
    path = room.store.folder / REF.sha256
    damaged = bytearray(CONTENT)
    damaged[CHUNK_BYTES + 5] ^= 1
    path.write_bytes(damaged)
    room.fetcher.want((Order(ref),), (REF,))
    assert room.next(FetchDone).ref == ref
    assert room.store.read(ref) == CONTENT[: 4 * CHUNK_BYTES]


def test_by_url_nothing_is_asked_of_the_broker(room: Room, shelf: Shelf, static: Static) -> None:
    shelf.clear(REF, *range(10))
    static.put(f"models/{REF.sha256}", CONTENT)
    static.put(f"models/{REF.chunks}", chunk_list(CONTENT))
    room.get(sources=(f"{static.url}/models/{{sha256}}",))
    assert room.store.read(REF) == CONTENT
    assert [path for path, _ in static.asked] == [
        f"/models/{REF.chunks}",
        f"/models/{REF.sha256}",
    ]
    assert static.connections == 1


def test_a_source_that_fails_is_left_for_the_next_and_at_last_for_the_broker(
    room: Room, static: Static
) -> None:
    static.put(REF.sha256, CONTENT)
    static.change = lambda _, body: bytes(len(body))
    room.get(sources=("http://127.0.0.1:1/gone", static.url))
    assert room.store.read(REF) == CONTENT
    paths = [path for path, _ in static.asked]
    assert paths.count(f"/{REF.chunks}") == 1, "404, so the broker gave it"


def test_an_interrupted_source_is_gone_on_with(room: Room, shelf: Shelf, static: Static) -> None:
    shelf.clear(REF, *range(10))
    static.put(REF.sha256, CONTENT)
    static.change = lambda first, body: body[: 6 * CHUNK_BYTES] if first == 0 else body
    room.get(sources=(static.url,))
    assert room.store.read(REF) == CONTENT
    starts = [asked for path, asked in static.asked if path == f"/{REF.sha256}"]
    assert starts == [
        f"bytes=0-{len(CONTENT) - 1}",
        f"bytes={6 * CHUNK_BYTES}-{len(CONTENT) - 1}",
    ]


def test_another_file_at_an_url_without_a_list_is_fetched_from_the_broker(
    room: Room, shelf: Shelf, static: Static
) -> None:
    content = os.urandom(2 * CHUNK_BYTES)
    ref = artifact_ref(content)
    shelf.put(content, ref)
    static.put(ref.sha256, content[::-1])
    room.get(ref, sources=(static.url,))
    assert room.store.read(ref) == content


def test_a_day_that_is_used_up_is_said_and_the_rest_comes_another_day(
    tmp_path: Path, url: str, shelf: Shelf, rooms: list[Room]
) -> None:
    ref = shelf.put_listed(os.urandom(4 * CHUNK_BYTES))  # does not pack
    earlier = Ration(tmp_path / "downloads.json")
    earlier.limits = Limits(mib_per_day=1)
    earlier.correct((1 << 20) - 2 * CHUNK_BYTES)
    earlier.settle()
    room = Room(tmp_path, url)
    rooms.append(room)
    room.fetcher.limit(Limits(mib_per_day=1))
    room.want(ref)
    waits = room.next(FetchWaits)
    assert waits.message.startswith("waits: the 1 MiB of this day are used up")
    room.fetcher.limit(Limits())
    assert room.next(FetchDone).ref == ref


@pytest.mark.parametrize("by_url", [False, True])
def test_a_day_s_bytes_are_used_to_the_last_chunk_and_no_more_are_asked_for(
    tmp_path: Path, url: str, shelf: Shelf, static: Static, *, by_url: bool
) -> None:
    class Opened(Disk):
        count = 0

        def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
            self.count += 1
            return super().open(path, flags, mode)

    content = os.urandom(20 * CHUNK_BYTES)  # does not pack
    ref = shelf.put_listed(content)
    if by_url:
        shelf.clear(ref, *range(20))
        static.put(ref.sha256, content)
    disk, order = Opened(), Order(ref, (static.url,) if by_url else ())
    store, ration = ArtifactStore(tmp_path, disk), Ration(tmp_path / "downloads.json")
    ration.limits = Limits(mib_per_day=0.25)
    with contextlib.closing(
        Courier(
            store,
            Terms(ration, give_up_s=2.0),
            lambda: Puller(Broker.parse(url), TOPICS, "pi"),
            lambda _: None,
        )
    ) as courier:
        with pytest.raises(WaitError, match=r"^waits: the 0.25 MiB of this day are used up"):
            courier.get(order)
        fetched = store.fetched_bytes(ref)
        assert fetched == 3 * CHUNK_BYTES, "the list is counted, so a fourth is too much"
        opened, asked = disk.count, list(static.asked)
        assert static.bytes_asked == (fetched + 20 * 32 if by_url else 0)
        for _ in range(3):
            with pytest.raises(WaitError):
                courier.get(order)
        assert (disk.count, static.asked) == (opened, asked), "neither disk nor network"
        ration.limits = Limits()
        courier.get(order)
    assert store.read(ref) == content


def test_a_cap_is_kept(room: Room, shelf: Shelf) -> None:
    content = os.urandom(4 * CHUNK_BYTES)
    ref = shelf.put_listed(content)
    room.fetcher.limit(Limits(kib_per_s=128))
    begun = time.monotonic()
    room.get(ref)
    assert time.monotonic() - begun >= 0.9, "256 KiB, of which a second's worth comes at once"


def test_room_is_taken_before_the_first_byte(room: Room, shelf: Shelf) -> None:
    shelf.clear(REF, *range(10))
    room.want(REF)
    room.next(FetchFailed)
    partial = room.folder / "partial" / REF.sha256
    assert partial.stat().st_size == len(CONTENT)
    assert partial.stat().st_blocks * 512 >= len(CONTENT)
    assert room.store.fetched_bytes(REF) == 0
    room.store.check_room([REF], "what is reserved")


def test_where_two_bundles_fit_alone_and_not_together_the_first_gets_the_room(
    room: Room, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare, size = 4 << 20, 4 * CHUNK_BYTES
    free = shutil.disk_usage(room.folder)._replace(free=spare + 3 * size)

    def usage(folder: Path) -> object:
        blocks = sum(path.stat().st_blocks for path in folder.parent.glob("partial/*"))
        came = sum(path.stat().st_blocks for path in folder.iterdir())
        return free._replace(free=free.free - 512 * (blocks + came))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    one, two, three, four = (artifact_ref(bytes([n]) * size) for n in range(4))
    for n, ref in enumerate((one, two, three, four)):
        if ref != one:  # of the first bundle one artifact does not come for long
            shelf.put(bytes([n]) * size, ref)
    first = (Order(one, bundle="first"), Order(two, bundle="first"))
    room.fetcher.want((*first, Order(three, bundle="second"), Order(four, bundle="second")))
    assert room.next(FetchFailed).phase is None, "silence"
    assert room.next(FetchDone).ref == two
    refused = room.next(FetchFailed)
    assert (refused.ref, refused.phase) == (three, "refused")
    assert "needs 0.5 MiB" in refused.message
    shelf.put(bytes([0]) * size, one)
    while (message := room.said.get(timeout=20)) != FetchDone(one):
        assert isinstance(message, FetchFailed | FetchProgress)
        assert message.ref == one, "nothing else of the second bundle is tried"
    assert not (room.folder / "partial" / four.sha256).exists()


def _acts(folder: Path, url: str, rooms: list[Room]) -> list[str]:
    disk = FullDisk()
    rooms.append(Room(folder, url, disk))
    rooms[-1].get()
    rooms[-1].fetcher.stop()
    return disk.acts


def test_a_disk_that_is_full_at_any_write_loses_nothing(
    tmp_path: Path, url: str, shelf: Shelf, rooms: list[Room]
) -> None:
    del shelf
    acts = _acts(tmp_path / "whole", url, rooms)
    assert {"reserve", "write", "sync", "replace", "sync folder"} <= set(acts)
    for full_at in range(len(acts)):
        disk = FullDisk(full_at)
        room = Room(tmp_path / f"full-{full_at}", url, disk)
        rooms.append(room)
        room.want(REF)
        message = room.said.get(timeout=20)
        while isinstance(message, FetchProgress):
            message = room.said.get(timeout=20)
        here = f"{full_at}: {acts[full_at]}"
        if isinstance(message, FetchFailed):
            assert message.phase == "refused", here
            assert message.message.startswith("cannot store "), here
            assert "No space left on device" in message.message, here
            assert "what has come is kept" in message.message, here
        else:
            assert isinstance(message, FetchDone), here
            assert full_at >= acts.index("make .downloads.json.new"), here
        for name in room.whole:  # nothing torn among what counts as whole
            content = (room.store.folder / name).read_bytes()
            assert artifact_ref(content).sha256 == name, here
        disk.full_at = None
        room.get()
        assert room.store.read(REF) == CONTENT, here
        room.fetcher.stop()
