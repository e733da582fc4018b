"""Fetching over a real broker: resumed, cancelled, rejected, and what a full disk says."""

import os
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from agent.inbox import FetchDone, FetchFailed, FetchProgress, FetchWaits
from agent.storage.allowance import Order
from agent.storage.artifacts import ArtifactStore
from agent.storage.download import Terms
from agent.storage.fetch import Fetcher
from agent.storage.ration import Ration
from protocols.bundle import ArtifactRef
from protocols.chunks import CHUNK_BYTES, artifact_ref, cut
from protocols.link import Broker, Link
from protocols.topics import Topics
from tests.brokers import running_broker
from tests.end_to_end.stack import wait_for

TOPICS = Topics("test")
Said = FetchDone | FetchFailed | FetchProgress | FetchWaits
Kind = TypeVar("Kind", FetchDone, FetchFailed)


class Desk:
    """A fetcher, its store and its broker, with a session to publish chunks on."""

    def __init__(self, folder: Path, url: str) -> None:
        self.store = ArtifactStore(folder)
        self.said: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self.fetcher = Fetcher(
            Broker.parse(url),
            TOPICS,
            "pi",
            self.store,
            self.said.put,
            Terms(Ration(folder / "downloads.json"), give_up_s=0.5),
            jitter_s=0.01,
        )
        self.link = Link(Broker.parse(url), "desk", lambda *_: None)
        self.link.start()

    def put(self, content: bytes, only: range | None = None) -> ArtifactRef:
        ref = artifact_ref(content)
        for number, chunk in enumerate(cut(content)):
            if only is None or number in only:
                topic = TOPICS.chunk(ref.sha256, number)
                self.link.publish_and_wait(topic, chunk, retain=True)
        return ref

    def want(self, *refs: ArtifactRef) -> None:
        self.fetcher.want(tuple(map(Order, refs)))

    def next(self, kind: type[Kind]) -> Kind:
        while True:
            message = self.said.get(timeout=20)
            if isinstance(message, kind):
                return message


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with running_broker(tmp_path) as url:
        desk = Desk(tmp_path / "store", url)
        yield desk
        desk.fetcher.stop()
        desk.link.stop()


def test_what_is_wanted_comes_and_what_was_there_is_not_asked_for_again(desk: Desk) -> None:
    content = os.urandom(5 * CHUNK_BYTES + 7)
    ref = artifact_ref(content)
    with desk.store.partial(ref) as partial:
        for number in (0, 1, 2):
            partial.write(number, content[number * CHUNK_BYTES :][:CHUNK_BYTES])
    desk.put(content, range(3, 6))  # the first three are nowhere to be had
    small = desk.put(b"small")
    desk.want(ref, small)
    desk.want(small, ref)
    assert {desk.next(FetchDone).ref, desk.next(FetchDone).ref} == {ref, small}
    assert desk.store.read(ref) == content


def test_a_torn_resume_is_fetched_anew_before_anything_is_rejected(desk: Desk) -> None:
    content = os.urandom(2 * CHUNK_BYTES)
    ref = desk.put(content)
    with desk.store.partial(ref) as partial:
        partial.write(0, bytes(CHUNK_BYTES))
    desk.want(ref)
    assert desk.next(FetchDone).ref == ref
    assert desk.store.read(ref) == content


def test_silence_is_told_and_asked_again(desk: Desk) -> None:
    content = b"late"
    ref = artifact_ref(content)
    desk.want(ref)
    failed = desk.next(FetchFailed)
    assert failed.phase is None
    assert "no chunk came for 0.5 s" in failed.message
    desk.put(content)
    assert desk.next(FetchDone).ref == ref


def test_other_bytes_are_rejected_and_the_next_artifact_comes(desk: Desk) -> None:
    wrong = artifact_ref(b"right")
    desk.link.publish_and_wait(TOPICS.chunk(wrong.sha256, 0), b"wrong", retain=True)
    short = artifact_ref(b"longer")
    desk.link.publish_and_wait(TOPICS.chunk(short.sha256, 0), b"long", retain=True)
    fine = desk.put(b"fine")
    desk.want(wrong, short, fine)
    failures = [desk.next(FetchFailed) for _ in range(2)]
    assert [f.phase for f in failures] == ["rejected", "rejected"]
    assert "cannot accept artifact" in failures[0].message
    assert "4 bytes that do not unpack to the 6 expected" in failures[1].message
    assert desk.next(FetchDone).ref == fine


def test_what_is_wanted_no_more_does_not_hold_up_what_is(desk: Desk) -> None:
    nowhere, here = artifact_ref(b"nowhere"), desk.put(b"here")
    desk.want(nowhere)
    wait_for("the fetch", lambda: (desk.store.folder.parent / "partial").glob("*.have"))
    desk.want(here)
    assert desk.next(FetchDone).ref == here
    desk.want()
    desk.want(nowhere)
    assert desk.next(FetchFailed).ref == nowhere


def test_a_disk_that_fails_is_a_refusal(desk: Desk) -> None:
    ref = desk.put(b"content")
    (desk.store.folder.parent / "partial" / ref.sha256).mkdir()
    desk.want(ref)
    failed = desk.next(FetchFailed)
    assert failed.phase == "refused"
    assert failed.message.startswith(f"cannot store artifact {ref.sha256[:12]}")
