"""Artifacts on a real broker: put once, packed, looked up one by one, and cleared."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.deployments import named_artifacts
from controller.home import Home
from controller.library import keep_artifact
from controller.shipping import WINDOW_CHUNKS, Shipper
from controller.signing import generate_keys
from controller.steps import PutArtifact
from protocols.bundle import ArtifactRef, Bundle
from protocols.chunks import CHUNK_BYTES, artifact_ref, chunk_count, list_ref
from protocols.link import Broker, Link
from protocols.packing import sent_bytes
from protocols.pull import Puller, pull_bytes
from tests.brokers import running_broker
from tests.controller.cascades import content_of, make_bundle, shelve


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with running_broker(tmp_path) as url:
        home = Home(tmp_path / "home", "test", Broker.parse(url), "me")
        generate_keys(home)
        yield home


@contextlib.contextmanager
def shipper(home: Home) -> Iterator[Shipper]:
    link = Link(home.broker, "shipper", lambda *_: None)
    link.start()
    yield Shipper(home, link)
    link.stop()


def steps_of(home: Home, bundle: Bundle) -> list[PutArtifact]:
    return [PutArtifact(*named) for named in named_artifacts(shelve(home, bundle), bundle)]


def test_each_byte_goes_out_once_and_packed(home: Home) -> None:
    bundle = make_bundle()
    steps = steps_of(home, bundle)
    with shipper(home) as ship:
        sent = ship.put(steps)
        assert ship.put(steps) == 0
    model = content_of("large", "fp32", 1)
    assert sent < sum(step.ref.size_bytes for step in steps) / 5
    assert sent_bytes(model) < len(model) / 5
    with Puller(home.broker, home.topics, "reader") as puller:
        for stage in bundle.stages:
            for variant in stage.variants:
                content = content_of(stage.name, variant.name, 1)
                assert pull_bytes(puller, variant.artifact) == content


def test_a_new_bundle_sends_only_what_is_not_there(home: Home) -> None:
    first = make_bundle(version=1)
    second = make_bundle(version=2).with_(stages=first.stages)
    with shipper(home) as ship:
        ship.put(steps_of(home, first))
        steps = steps_of(home, second)
        new = [step for step in steps if step.ref not in first.artifacts]
        unlisted = [step for step in new if "chunk list" not in step.what]
        assert [step.what for step in unlisted] == ["digits@2 golden samples", "digits@2 manifest"]
        assert ship.put(steps) == sum(step.ref.size_bytes for step in unlisted)


def test_what_an_interrupted_put_has_left_is_sent_again(home: Home) -> None:
    steps = steps_of(home, make_bundle())
    model = next(step.ref for step in steps if list_ref(step.ref) is not None)
    with shipper(home) as ship:
        ship.put(steps)
        link = Link(home.broker, "thief", lambda *_: None)
        link.start()
        last = home.topics.chunk(model.sha256, chunk_count(model.size_bytes) - 1)
        link.publish_and_wait(last, b"", retain=True)
        link.stop()
        assert 0 < ship.put(steps) < model.size_bytes


def test_what_is_cleared_is_gone_and_told(home: Home) -> None:
    steps = steps_of(home, make_bundle())
    refs = [step.ref for step in steps]
    with shipper(home) as ship:
        ship.put(steps)
        assert ship.clear_what_is_there(refs[:3]) == tuple(refs[:3])
        time.sleep(0.2)
        assert ship.clear_what_is_there(refs[:3]) == ()
        assert ship.clear_what_is_there(refs) == tuple(refs[3:])


def test_what_ctrl_c_has_cut_short_is_taken_off_again(home: Home) -> None:
    content = b"".join(bytes([n]) * CHUNK_BYTES for n in range(40))
    ref = artifact_ref(content)
    keep_artifact(home, ref, content)

    def press(count: int) -> None:
        if count:
            raise KeyboardInterrupt

    with shipper(home) as ship:
        with pytest.raises(KeyboardInterrupt):
            ship.put([PutArtifact(ref, "a model")], press)
        for number in (0, 7, WINDOW_CHUNKS - 1):
            assert not _is_there(home, ref, number)
        assert ship.put([PutArtifact(ref, "a model")]) == len(content)


def test_what_an_interrupted_clearing_has_left_is_found_and_missed(home: Home) -> None:
    class Cut(Link):
        left = 10

        def publish(
            self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False
        ) -> None:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            super().publish(topic, payload, qos=qos, retain=retain)

    content = b"".join(bytes([n]) * CHUNK_BYTES for n in range(20))
    ref = artifact_ref(content)
    keep_artifact(home, ref, content)
    step = PutArtifact(ref, "a model")

    def clear_in_part() -> None:
        link = Cut(home.broker, "cut", lambda *_: None)
        link.start()
        with pytest.raises(KeyboardInterrupt):
            Shipper(home, link).clear(ref)
        link.publish_and_wait("flush", b"")
        link.stop()

    with shipper(home) as ship:
        ship.put([step])
        clear_in_part()
        assert ship.put([step]) == len(content), "it does not count as there"
        clear_in_part()
        assert ship.clear_what_is_there([ref]) == (ref,), "what is left is found"
    assert not _is_there(home, ref, 0)


def _is_there(home: Home, ref: ArtifactRef, number: int) -> bool:
    with Puller(home.broker, home.topics, "reader") as puller:
        return bool(puller.look([(ref.sha256, number)], 0.1))
