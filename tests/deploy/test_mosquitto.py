"""The mosquitto configuration: the fleet's documents survive a broker that is killed."""

import getpass
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from controller.broker import find_mosquitto
from controller.enrolment.mosquitto import trial_config
from protocols.chunks import CHUNK_BYTES
from protocols.link import Broker, Link
from protocols.message import Message
from tests.brokers import free_port, running

CONFIG = Path(__file__).parents[2] / "deploy" / "mosquitto" / "sluice.conf"
WAIT_S = 10.0


@pytest.fixture
def command(tmp_path: Path) -> tuple[list[str], int]:
    """Return what runs mosquitto with our configuration in a folder of its own, and its port."""
    program = find_mosquitto()
    if program is None:
        pytest.skip("mosquitto is not installed")
    port = free_port()
    text = CONFIG.read_text()
    assert "/var/lib/mosquitto/" in text
    assert "listener 1883 127.0.0.1" in text
    text = text.replace("/var/lib/mosquitto/", f"{tmp_path}/").replace("1883", str(port))
    (tmp_path / "sluice.conf").write_text(f"user {getpass.getuser()}\n{text}")
    return [program, "-c", str(tmp_path / "sluice.conf")], port


def at(port: int) -> Broker:
    return Broker("127.0.0.1", port)


class Session:
    """A session that remembers the last payload of each topic."""

    def __init__(self, broker: Broker) -> None:
        self.found: dict[str, bytes] = {}
        self.link = Link(broker, "session", lambda t, p, _: self.found.update({t: p}))
        self.link.subscribe("sluice/#")

    def __enter__(self) -> Self:
        self.link.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.link.stop()

    def wait_for(self, topic: str) -> bytes:
        deadline = time.monotonic() + WAIT_S
        while topic not in self.found:
            assert time.monotonic() < deadline, topic
            time.sleep(0.01)
        return self.found[topic]


def _saves(folder: Path) -> Iterator[int]:
    """Yield when mosquitto last wrote its store, whenever that has changed."""
    store, last = folder / "mosquitto.db", -1
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        now = store.stat().st_mtime_ns if store.exists() else -1
        if now != last:
            last = now
            yield now
        time.sleep(0.02)


def test_what_is_retained_survives_a_kill(command: tuple[list[str], int], tmp_path: Path) -> None:
    arguments, port = command
    log = tmp_path / "log"
    with running(arguments, log, port) as process, Session(at(port)) as session:
        session.link.publish_and_wait("sluice/kept", b"document", retain=True)
        saves = _saves(tmp_path)
        published = time.time_ns()
        assert any(saved > published for saved in saves), "not saved in time"
        assert time.time_ns() - published < 3e9
        process.send_signal(signal.SIGKILL)
        process.wait(WAIT_S)
    with running(arguments, log, port), Session(at(port)) as session:
        assert session.wait_for("sluice/kept") == b"document"


def test_the_largest_payloads_pass(command: tuple[list[str], int], tmp_path: Path) -> None:
    arguments, port = command
    with running(arguments, tmp_path / "log", port), Session(at(port)) as session:
        for name, size in (("chunk", CHUNK_BYTES), ("document", Message.MAX_BYTES)):
            session.link.publish_and_wait(f"sluice/{name}", bytes(size), retain=True)
            assert session.wait_for(f"sluice/{name}") == bytes(size)


def test_the_broker_is_for_this_machine_until_it_has_passwords() -> None:
    lines = [x for x in CONFIG.read_text().splitlines() if x and not x.startswith("#")]
    assert [x for x in lines if x.startswith("listener ")] == ["listener 1883 127.0.0.1"]


def test_the_file_is_the_one_that_the_controller_would_write() -> None:
    assert CONFIG.read_text() == trial_config(), (
        "run: python -c 'from controller.enrolment.mosquitto import trial_config; "
        'print(trial_config(), end="")\' > deploy/mosquitto/sluice.conf'
    )
