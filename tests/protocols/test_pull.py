"""Artifacts pulled out of real brokers, chunk by chunk."""

import contextlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from controller.broker import Kind
from protocols.bundle import ArtifactRef
from protocols.chunks import CHUNK_BYTES, Digests, artifact_ref, chunk_list, cut, listed_ref
from protocols.errors import ArtifactError, LinkError
from protocols.link import Broker, Link
from protocols.packing import payload_of
from protocols.pull import ASK_AGAIN_S, Puller, pull_bytes
from protocols.topics import Topics
from tests.brokers import free_port, running_broker
from tests.protocols.lossy import lossy_path

TOPICS = Topics("home")
CONTENT = b"".join(bytes([n + 1]) * CHUNK_BYTES for n in range(11)) + b"the last, short one"
REF = artifact_ref(CONTENT)


def put(url: str, chunks: Iterable[tuple[int, bytes]], ref: ArtifactRef = REF) -> None:
    """Publish chunks, retained."""
    link = Link(Broker.parse(url), "putter", lambda *_: None)
    link.start()
    for number, chunk in chunks:
        link.publish_and_wait(TOPICS.chunk(ref.sha256, number), chunk, retain=True)
    link.stop()


@contextlib.contextmanager
def pulling(url: str) -> Iterator[Puller]:
    with Puller(Broker.parse(url), TOPICS, "pi-1") as puller:
        yield puller


def test_an_artifact_comes_as_it_was_put(broker: str) -> None:
    put(broker, enumerate(cut(CONTENT)))
    with pulling(broker) as puller:
        assert pull_bytes(puller, REF) == CONTENT
        assert pull_bytes(puller, REF) == CONTENT, "again, over the same session"


def test_chunks_that_are_there_are_not_asked_for(broker: str) -> None:
    put(
        broker, [(3, CONTENT[3 * CHUNK_BYTES : 4 * CHUNK_BYTES]), (11, CONTENT[11 * CHUNK_BYTES :])]
    )
    came: dict[int, bytes] = {}
    with pulling(broker) as puller:
        puller.pull(REF, came.__setitem__, have=frozenset(range(12)) - {3, 11})
    assert sorted(came) == [3, 11]


def test_a_chunk_that_got_lost_is_asked_for_again(tmp_path: Path) -> None:
    lost: list[str] = []

    def swallow(topic: str) -> bool:
        if topic.endswith(("/2", "/9")) and topic not in lost:
            lost.append(topic)
            return True
        return False

    with running_broker(tmp_path) as url, lossy_path(Broker.parse(url).port, swallow) as port:
        put(url, enumerate(cut(CONTENT)))
        with pulling(f"mqtt://127.0.0.1:{port}") as puller:
            assert pull_bytes(puller, REF, give_up_s=5 * ASK_AGAIN_S) == CONTENT
    assert len(lost) == 2


def test_a_broker_that_restarts_in_the_middle_delays_but_loses_nothing(
    tmp_path: Path, kind: Kind
) -> None:
    port = free_port()
    chunks = list(enumerate(cut(CONTENT)))
    came: dict[int, bytes] = {}
    half = threading.Event()

    def sink(number: int, chunk: bytes) -> None:
        assert number not in came
        came[number] = chunk
        if len(came) == 5:
            half.set()

    with contextlib.ExitStack() as stack:
        with running_broker(tmp_path, port, kind) as url:
            put(url, chunks[:5])
            puller = stack.enter_context(pulling(url))
            pull = threading.Thread(target=puller.pull, args=(REF, sink))
            pull.start()
            assert half.wait(20)
        with running_broker(tmp_path, port, kind) as url:
            put(url, chunks)
            pull.join(30)
    assert b"".join(came[n] for n in sorted(came)) == CONTENT


def test_silence_is_an_error_in_time(broker: str) -> None:
    with (
        pulling(broker) as puller,
        pytest.raises(LinkError, match=rf"^cannot fetch artifact {REF.sha256[:12]}: no chunk came"),
    ):
        pull_bytes(puller, REF, give_up_s=0.5)


def test_a_pull_can_be_cancelled(broker: str) -> None:
    asked = iter([False, False, True])
    with (
        Puller(Broker.parse(broker), TOPICS, "pi-1", lambda: next(asked)) as puller,
        pytest.raises(LinkError, match=r": cancelled$"),
    ):
        pull_bytes(puller, REF)


@pytest.mark.parametrize("chunk", [b"", b"short", bytes(CHUNK_BYTES)])
def test_wrong_bytes_are_never_an_artifact(broker: str, chunk: bytes) -> None:
    ref = artifact_ref(CONTENT[:CHUNK_BYTES])
    put(broker, [(0, chunk)], ref)
    with pulling(broker) as puller, pytest.raises((ArtifactError, LinkError)):
        pull_bytes(puller, ref, give_up_s=0.5)


def test_a_wrong_chunk_is_asked_for_again_and_each_chunk_is_handed_on_once(broker: str) -> None:
    ref = listed_ref(CONTENT)
    digests = Digests(ref, chunk_list(CONTENT))
    chunks = dict(enumerate(cut(CONTENT)))
    put(broker, {**chunks, 3: bytes(CHUNK_BYTES)}.items(), ref)
    came: dict[int, bytes] = {}

    def sink(number: int, chunk: bytes) -> None:
        assert number not in came
        if not came:  # the wrong one is on its way by now
            put(broker, [(3, payload_of(ref, chunks[3]))], ref)
        came[number] = chunk

    with pulling(broker) as puller:
        puller.pull(ref, sink, digests=digests)
    assert came == chunks
    with pulling(broker) as puller:
        puller.pull(ref, came.__setitem__, frozenset(range(12)), digests=digests)


def test_what_is_there_can_be_looked_up(broker: str) -> None:
    put(broker, [(0, CONTENT[:CHUNK_BYTES]), (11, b"the last")])
    places = [(REF.sha256, 11), *((f"{n:064x}", 0) for n in range(9))]
    with pulling(broker) as puller:
        assert puller.look(places, 0.3) == {REF.sha256: b"the last"}


def test_a_meter_counts_what_came_and_gives_back_what_did_not(broker: str) -> None:
    class Counting:
        def __init__(self) -> None:
            self.taken = 0

        def may_take(self, count: int) -> bool:
            self.taken += count
            return True

        def correct(self, count: int) -> None:
            self.taken += count

    meter, ref = Counting(), listed_ref(CONTENT)
    payloads = {n: payload_of(ref, chunk) for n, chunk in enumerate(cut(CONTENT))}
    put(broker, [(n, payloads[n]) for n in range(4)], ref)
    with pulling(broker) as puller, pytest.raises(LinkError):
        puller.pull(ref, lambda *_: None, give_up_s=0.5, meter=meter)
    assert meter.taken == sum(len(payloads[n]) for n in range(4))
