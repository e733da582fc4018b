"""A real device follows its fleet's keys, one version after the other, and never stops for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.trust import KeyChain
from protocols.bundle import BundleRef
from protocols.desired import DesiredCascade
from protocols.envelope import BUNDLE, KEYS, KeySet, generate_key, public_key, sign
from tests.agent.rig import Rig, one_stage, rigged
from tests.agent.runner.cascades import Built
from tests.end_to_end.stack import FLEET, wait_for


@pytest.fixture
def rig(tmp_path: Path, broker_url: str) -> Iterator[Rig]:
    with rigged(tmp_path, broker_url, "pi") as rig:
        yield rig
        for version in range(1, 6):  # the broker is shared
            rig.link.publish_and_wait(rig.topics.keys(version), b"", retain=True)
        rig.link.publish_and_wait(rig.desired_topic, b"", retain=True)


def rotate(rig: Rig, version: int, role: str) -> bytes:
    """Put a new key in the place of the rig's own one of a role; return the old one."""
    old, new = getattr(rig, role), generate_key()
    signers = [rig.release, new] if role == "release" else [rig.release]
    setattr(rig, role, new)
    keys = KeySet(
        fleet=FLEET,
        version=version,
        keys=(public_key(rig.release, "release"), public_key(rig.controller, "controller")),
    )
    rig.link.publish_and_wait(
        rig.topics.keys(version), sign(keys, KEYS, signers).encode(), retain=True
    )
    assert isinstance(old, bytes)
    return old


def ship(rig: Rig, built: Built, key: bytes) -> DesiredCascade:
    """Publish a bundle that one key has signed."""
    cascade = rig.ship(built)
    envelope = rig.put(sign(built.bundle, BUNDLE, [key]).encode())
    return cascade.with_(
        bundle=BundleRef(name="digits", version=built.bundle.version, artifact=envelope)
    )


def wait_version(rig: Rig, version: int) -> None:
    def look() -> bool:
        reported = rig.observer.reported.get(rig.name)
        return reported is not None and reported.keys_version == version

    wait_for(f"keys of version {version}", look)


def test_who_was_away_for_three_rotations_follows_them_all(rig: Rig, tmp_path: Path) -> None:
    rig.start()
    rig.wait_online()
    wait_version(rig, 0)
    rig.stop()
    for version, role in enumerate(("release", "controller", "release"), start=1):
        rotate(rig, version, role)
    cascade = rig.ship(one_stage(tmp_path / "v1"))
    rig.desire(cascade)
    rig.start()
    rig.wait_running()
    wait_version(rig, 3)
    told = [e.message for e in rig.observer.events if e.kind == "keys"]
    assert [words.split(":")[0] for words in told] == [
        f"trusts the keys of version {version}" for version in (1, 2, 3)
    ]
    kept = KeyChain.decode((rig.state_dir / "keys.json").read_bytes())
    assert [one.version for one in kept.sets] == [0, 1, 2, 3]


def test_a_document_that_comes_before_its_key_is_taken_when_that_comes(
    rig: Rig, tmp_path: Path
) -> None:
    rig.start()
    cascade = rig.ship(one_stage(tmp_path / "v1"))
    rig.desire(cascade)
    rig.wait_running()
    new = generate_key()
    rig.desire(cascade, key=new)
    rig.wait_event("refused", "0 of 1 needed signatures by a trusted controller key")
    keys = KeySet(
        fleet=FLEET,
        version=1,
        keys=(public_key(rig.release, "release"), public_key(new, "controller")),
    )
    envelope = sign(keys, KEYS, [rig.release]).encode()
    rig.link.publish_and_wait(rig.topics.keys(1), envelope, retain=True)
    rig.wait_running()
    assert rig.observer.reported[rig.name].refusal is None
    rig.desire(cascade)  # by the old key, a generation further
    rig.wait_event("refused", "0 of 1 needed signatures by a trusted controller key of fleet")
    assert rig.observer.reported[rig.name].generation == rig.generation - 1


def test_what_serves_outlives_its_key_and_nothing_new_of_that_key_is_taken(
    rig: Rig, tmp_path: Path
) -> None:
    rig.start()
    first = rig.ship(one_stage(tmp_path / "v1"))
    rig.desire(first)
    rig.wait_running()
    pids = rig.runner_pids()
    old = rotate(rig, 1, "release")
    wait_version(rig, 1)
    assert rig.runner_pids() == pids
    second = ship(rig, one_stage(tmp_path / "v2", version=2), old)
    rig.desire(second)
    refused = rig.wait_phase("refused")
    assert "cannot trust bundle: 0 of 1 needed signatures" in refused.message
    assert refused.running == first.bundle
    rig.stop()
    rig.start()
    rig.desire(first)
    rig.wait_running()
    rig.desire(ship(rig, one_stage(tmp_path / "v2", version=2), rig.release))
    rig.wait_running(2)


def test_a_damaged_chain_is_followed_anew(rig: Rig) -> None:
    rotate(rig, 1, "controller")
    rotate(rig, 2, "controller")
    rig.start()
    wait_version(rig, 2)
    rig.stop()
    path = rig.state_dir / "keys.json"
    path.write_bytes(path.read_bytes()[:-30])
    rig.observer.reported.clear()
    rig.start()
    wait_version(rig, 2)
    assert any("counts for nothing" in e.message for e in rig.observer.events)
