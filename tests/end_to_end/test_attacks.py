"""What is not signed as it must be changes nothing on a real device, and the device says so."""

import http.client
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from protocols.bundle import BundleRef
from protocols.desired import Desired, DesiredCascade, Pins
from protocols.device import Reported
from protocols.envelope import (
    BUNDLE,
    DESIRED,
    KEYS,
    PINS,
    Envelope,
    KeySet,
    PayloadType,
    PublicKey,
    generate_key,
    public_key,
    sign,
)
from protocols.message import Message
from tests.agent.rig import CALM, FEATURES, Rig, one_stage
from tests.agent.runner.cascades import Built
from tests.agent.runner.samples import samples
from tests.brokers import running_broker
from tests.end_to_end.clients import infer
from tests.end_to_end.stack import FLEET, wait_for

STRANGER = generate_key()


@dataclass
class Target:
    """A device that trusts two release and two controller keys, and wants both of each."""

    rig: Rig
    release: list[bytes] = field(default_factory=lambda: [generate_key(), generate_key()])
    controller: list[bytes] = field(default_factory=lambda: [generate_key(), generate_key()])
    first: bytes = b""
    cascade: DesiredCascade = field(init=False)
    answer: tuple[str, int] = ("", 0)

    def __post_init__(self) -> None:
        self.keys = self.key_set(0, self.release)
        self.rig.trust.write_bytes(self.keys.encode())

    def key_set(self, version: int, release: list[bytes], fleet: str = FLEET) -> KeySet:
        """Return a key set with other release keys."""
        keys = (
            *(public_key(key, "release") for key in release),
            *(public_key(key, "controller") for key in self.controller),
        )
        return KeySet(
            fleet=fleet, version=version, keys=keys, threshold={"release": 2, "controller": 2}
        )

    def ship(self, built: Built, keys: list[bytes]) -> DesiredCascade:
        """Publish a bundle that these keys have signed."""
        cascade = self.rig.ship(built)
        envelope = self.rig.put(sign(built.bundle, BUNDLE, keys).encode())
        ref = BundleRef(name=cascade.bundle.name, version=cascade.bundle.version, artifact=envelope)
        return cascade.with_(bundle=ref)

    def desired(self, generation: int, *cascades: DesiredCascade, **more: object) -> Desired:
        """Return a document for this device, unless `more` says otherwise."""
        said = {"fleet": FLEET, "device": self.rig.name, **more}
        return Desired.model_validate(
            {"generation": generation, "cascades": cascades, "schedule": CALM, **said}
        )

    def envelope(self, message: Message, kind: PayloadType, keys: list[bytes]) -> bytes:
        return sign(message, kind, keys).encode()

    def publish(self, topic: str, payload: bytes) -> None:
        self.rig.observer.events.clear()
        self.rig.link.publish_and_wait(topic, payload, retain=True)

    @property
    def reported(self) -> Reported:
        return self.rig.observer.reported[self.rig.name]

    def top1(self) -> tuple[str, int]:
        """Return the version that answers, and its answer."""
        connection = http.client.HTTPConnection(*self.rig.address(), timeout=10)
        answer = infer(connection, "digits", samples(1, FEATURES)[0].astype(np.float32), "FP32")
        connection.close()
        assert answer.status == 200, answer.document
        return str(answer.version), answer.top1

    def refusal(self) -> str | None:
        return self.reported.refusal.message if self.reported.refusal is not None else None

    def assert_refused(self, *words: str) -> str:
        """Wait until the device says these words of what came last; nothing else has changed."""

        def said() -> str | None:
            events = list(self.rig.observer.events)
            return next((e.message for e in events if e.kind == "refused"), None)

        found = wait_for(f"a refusal with {words}", said)
        assert found.startswith("cannot ")
        for word in words:
            assert word in found, found
        assert self.reported.generation == self.rig.generation
        assert self.reported.keys_version == 0
        assert self.rig.observer.running(self.rig.name, "digits", 1)
        assert self.top1() == self.answer
        return found


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A device that serves version 1 at generation 2."""
    folder = tmp_path_factory.mktemp("attacks")
    with running_broker(folder) as url:
        rig = Rig(folder, url, "pi")
        try:
            target = Target(rig)
            target.cascade = target.ship(one_stage(folder / "v1"), target.release)
            rig.start()
            for rig.generation in (1, 2):
                document = target.desired(rig.generation, target.cascade)
                envelope = target.envelope(document, DESIRED, target.controller)
                target.publish(rig.desired_topic, envelope)
                target.first = target.first or envelope
                rig.wait_running()
            target.answer = target.top1()
            yield target
        finally:
            rig.close()


Forgery = Callable[[Target], bytes]


def third(target: Target, keys: list[bytes] | None = None, **more: object) -> bytes:
    """Return the next document, good unless something is said."""
    document = target.desired(target.rig.generation + 1, target.cascade, **more)
    return target.envelope(document, DESIRED, target.controller if keys is None else keys)


def other_content(target: Target) -> bytes:
    document = target.desired(target.rig.generation)
    return target.envelope(document, DESIRED, target.controller)


def given_twice(target: Target) -> bytes:
    envelope = Envelope.decode(third(target))
    return envelope.with_(signatures=(envelope.signatures[0],) * 2).encode()


def swapped(target: Target) -> bytes:
    later = target.desired(target.rig.generation + 2)
    envelope = Envelope.decode(target.envelope(later, DESIRED, target.controller))
    return envelope.with_(payload=Envelope.decode(third(target)).payload).encode()


def pins(target: Target, kind: PayloadType) -> bytes:
    keys = target.release if kind == PINS else target.controller
    return target.envelope(Pins(fleet=FLEET, device=target.rig.name), kind, keys)


def many_signatures(target: Target) -> bytes:
    more = b'{"keyid":"a","sig":"b"},' * 1000
    return third(target).replace(b'"signatures":[', b'"signatures":[' + more)


NEW = [generate_key(), generate_key()]


def new_keys(
    target: Target, signers: list[bytes] | None = None, version: int = 1, **more: object
) -> bytes:
    """Return the next key set, good unless something is said."""
    keys = target.key_set(version, NEW).with_(**more)
    return target.envelope(keys, KEYS, [*target.release, *NEW] if signers is None else signers)


DOCUMENTS: dict[str, tuple[Forgery, tuple[str, ...]]] = {
    "an older one played back": (lambda t: t.first, ("generation 1", "was accepted before")),
    "the same generation": (other_content, ("was accepted before with other content",)),
    "another device": (lambda t: third(t, device="ada"), ("it is for device 'ada'",)),
    "another fleet": (lambda t: third(t, fleet="other"), ("of fleet 'other'",)),
    "an unknown key": (lambda t: third(t, [STRANGER]), ("0 of 2", "controller key")),
    "one signature too few": (lambda t: third(t, t.controller[:1]), ("1 of 2",)),
    "a stranger's second": (lambda t: third(t, [t.controller[0], STRANGER]), ("1 of 2",)),
    "one signature given twice": (given_twice, ("1 of 2",)),
    "release keys": (lambda t: third(t, t.release), ("0 of 2", "controller key")),
    "another payload": (swapped, ("0 of 2",)),
    "pins": (lambda t: pins(t, PINS), ("cannot trust desired", "pins+json")),
    "pins under its name": (lambda t: pins(t, DESIRED), ("cannot read desired document",)),
    "a key set": (new_keys, ("cannot trust desired", "keys+json")),
    "garbage": (lambda _: bytes(range(256)), ("cannot read envelope",)),
    "half of it": (lambda t: third(t)[:-40], ("cannot read envelope",)),
    "brackets": (lambda _: b"[" * 50_000, ("cannot read envelope",)),
    "two megabytes": (lambda _: b" " * (2 << 20), ("2097152 bytes",)),
    "a thousand signatures": (many_signatures, ("cannot read envelope",)),
}


@pytest.mark.parametrize("attack", DOCUMENTS)
def test_a_desired_document(target: Target, attack: str) -> None:
    forge, words = DOCUMENTS[attack]
    target.publish(target.rig.desired_topic, forge(target))
    said = target.assert_refused(*words)
    wait_for("the refusal in reported", lambda: target.refusal() == said)


def misnamed(target: Target) -> bytes:
    """Return a key set in which a stranger's key has a trusted one's name."""
    keys = target.key_set(1, target.release).keys
    liar = PublicKey(
        key_id=keys[0].key_id, role="release", public=public_key(STRANGER, "release").public
    )
    return new_keys(target, target.release, keys=(liar, *keys[1:]))


def without_controller(target: Target) -> bytes:
    keys = tuple(public_key(key, "release") for key in NEW)
    return new_keys(target, keys=keys)


KEY_SETS: dict[str, tuple[Forgery, tuple[str, ...]]] = {
    "by its own keys alone": (lambda t: new_keys(t, NEW), ("cannot trust keys: 0 of 2",)),
    "by the keys of now alone": (lambda t: new_keys(t, t.release), ("cannot trust keys: 0 of 2",)),
    "one signature too few": (lambda t: new_keys(t, [t.release[0], *NEW]), ("1 of 2",)),
    "one of its own too few": (lambda t: new_keys(t, [*t.release, NEW[0]]), ("1 of 2",)),
    "by the controller keys": (lambda t: new_keys(t, [*t.controller, *NEW]), ("0 of 2",)),
    "a version ahead": (lambda t: new_keys(t, version=2), ("version 2 does not follow",)),
    "no version ahead": (lambda t: new_keys(t, version=0), ("version 0 does not follow",)),
    "another fleet": (lambda t: new_keys(t, fleet="other"), ("they are of fleet 'other'",)),
    "a threshold nobody meets": (
        lambda t: new_keys(t, threshold={"release": 3, "controller": 1}),
        ("3 signatures of the release role",),
    ),
    "no controller left": (without_controller, ("it has 0 keys",)),
    "a key under another's name": (misnamed, ("is not the name of its key",)),
    "a desired document": (third, ("cannot trust keys", "desired+json")),
    "garbage": (lambda _: b"\xff" * 1000, ("cannot read envelope",)),
    "two megabytes": (lambda _: b"{" * (2 << 20), ("2097152 bytes",)),
}


@pytest.mark.parametrize("attack", KEY_SETS)
def test_a_key_set(target: Target, attack: str) -> None:
    forge, words = KEY_SETS[attack]
    target.publish(target.rig.topics.keys(1), forge(target))
    target.assert_refused(*words)


BUNDLES: dict[str, tuple[Callable[[Target], list[bytes]], str]] = {
    "one signature too few": (lambda t: t.release[:1], "1 of 2"),
    "by the controller keys": (lambda t: t.controller, "0 of 2"),
    "by an unknown key": (lambda _: [STRANGER], "0 of 2"),
}


@pytest.mark.parametrize("attack", BUNDLES)
def test_a_bundle(target: Target, attack: str, tmp_path: Path) -> None:
    """Who has the controller's keys alone can name a bundle of his own, and it never runs."""
    keys, said = BUNDLES[attack]
    bad = target.ship(one_stage(tmp_path / "v2", version=2), keys(target))
    rig, good = target.rig, target.cascade
    for cascade in (bad, good):
        rig.generation += 1
        document = target.desired(rig.generation, cascade)
        target.publish(rig.desired_topic, target.envelope(document, DESIRED, target.controller))
        if cascade is bad:
            refused = rig.wait_phase("refused")
            assert f"cannot trust bundle: {said} needed signatures" in refused.message
            assert refused.running == good.bundle
            assert target.top1() == target.answer
    rig.wait_running()
