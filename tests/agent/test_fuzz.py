"""Malformed bytes on every subscribed topic: the agent logs and carries on."""

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.config import Config
from agent.inbox import Received
from agent.supervisor import Supervisor
from protocols.desired import Desired
from protocols.device import Status
from protocols.envelope import DESIRED, KeySet, generate_key, public_key, sign
from protocols.schedule import Schedule
from tests.agent.rig import Rig, one_stage, rigged
from tests.brokers import running_broker
from tests.end_to_end.clients import Load
from tests.end_to_end.stack import wait_for

RELEASE, CONTROLLER = generate_key(), generate_key()
DOCUMENT = Desired(fleet="home", device="pi", generation=5, schedule=Schedule())
GENUINE = sign(DOCUMENT, DESIRED, [CONTROLLER]).encode()
TOPICS = ("sluice/v1/home/devices/pi/desired", "sluice/v1/home/devices/pi/status")

json_ = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*json.loads(GENUINE), *DOCUMENT.model_dump(), "online"]) | st.text(),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return the genuine envelope with some bytes flipped, cut out or doubled."""
    payload = bytearray(GENUINE)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(payload) - 1))
        match draw(st.integers(0, 2)):
            case 0:
                payload[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del payload[at : at + draw(st.integers(1, 40))]
            case _:
                payload[at:at] = payload[at : at + 40]
        if not payload:
            break
    return bytes(payload)


payloads = st.one_of(
    st.binary(max_size=400),
    json_.map(lambda value: json.dumps(value).encode()),
    mutated(),
)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    folder = tmp_path_factory.mktemp("agent")
    keys = (public_key(RELEASE, "release"), public_key(CONTROLLER, "controller"))
    (folder / "trust.json").write_bytes(KeySet(fleet="home", keys=keys).encode())
    config = Config.parse(
        {
            "id": "pi",
            "state_dir": str(folder),
            "broker": {"url": "mqtt://127.0.0.1:1"},
            "inference": {"tcp": False},
        },
        "test",
    )
    agent = Supervisor(config)
    yield agent
    agent.stop()


@given(topic=st.sampled_from([*TOPICS, "sluice/v1/home/devices/pi/pins", ""]), payload=payloads)
@settings(
    max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_payload_ends_it_or_gets_through(agent: Supervisor, topic: str, payload: bytes) -> None:
    agent.handle(Received(topic, payload))
    # A signature covers the payload: an envelope changed elsewhere may still be the genuine one.
    assert agent.generation in {0, DOCUMENT.generation}


def test_the_genuine_document_still_gets_through(agent: Supervisor) -> None:
    agent.handle(Received(TOPICS[0], GENUINE))
    assert agent.generation == 5
    agent.handle(
        Received(TOPICS[1], Status(device="pi", online=True, boot_id="x", version="1").encode())
    )


def test_over_a_real_broker_answers_go_on(tmp_path: Path) -> None:
    with running_broker(tmp_path) as url, rigged(tmp_path, url, "fuzzed") as rig:
        rig.start()
        built = one_stage(tmp_path / "built")
        rig.desire(rig.ship(built))
        rig.wait_running(1)
        with Load(rig.address(), "digits", built.x) as load:
            _throw(rig)
            before = len(load.answers)
            wait_for("answers", lambda: len(load.answers) > before + 10)
        assert not load.broken
        rig.desire(rig.ship(one_stage(tmp_path / "two", version=2)))
        rig.wait_running(2)
        assert "Traceback" not in rig.log


def _throw(rig: Rig) -> None:
    device = rig.topics.device
    topics = [device(rig.name, "desired"), device(rig.name, "status"), device(rig.name, "pins")]
    for size, topic in itertools.product((1, 10, 100, 5000, 200_000), topics):
        for payload in (os.urandom(size), b"{" * size, b'{"v":1,"payload":"' + b"A" * size):
            rig.link.publish(topic, payload)
