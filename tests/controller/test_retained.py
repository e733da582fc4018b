"""Reading what the broker retains: all of it, or nothing at all."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.home import Home
from controller.retained import read_retained
from protocols.errors import LinkError
from protocols.link import Link
from tests.brokers import running_broker
from tests.controller.conftest import new_home
from tests.protocols.lossy import lossy_path


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with running_broker(tmp_path) as url:
        home = new_home(tmp_path / "home", url)
        with_documents(home, 50)
        yield home


def with_documents(home: Home, count: int) -> None:
    link = Link(home.broker, "writer", lambda *_: None)
    link.start()
    for number in range(count):
        link.publish_and_wait(home.topics.deployment(f"d{number}"), b"%d" % number, retain=True)
    link.stop()


def filters(home: Home) -> tuple[str, ...]:
    return (home.topics.deployment("+"),)


def elsewhere(home: Home, port: int) -> Home:
    """Return the same home, which reaches its broker on another port."""
    return Home.open(home.folder, broker=f"mqtt://127.0.0.1:{port}", fleet=home.fleet, environ={})


def test_all_of_it_comes(home: Home) -> None:
    found = read_retained(home, filters(home))
    assert found == {home.topics.deployment(f"d{n}"): b"%d" % n for n in range(50)}


def test_a_broker_that_falls_silent_has_not_sent_all(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.retained.SILENCE_S", 0.5)
    with (
        lossy_path(home.broker.port, lambda topic: "/controllers/marker-" in topic) as port,
        pytest.raises(LinkError, match=r"^cannot read what broker .* sent nothing for 0.5 s"),
    ):
        read_retained(elsewhere(home, port), filters(home))


def test_a_connection_that_is_lost_gives_no_part(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_answer_once, args=(server,), daemon=True).start()
        there = elsewhere(home, server.getsockname()[1])
        with pytest.raises(LinkError, match=r"^cannot read what broker .* retains: lost"):
            read_retained(there, filters(home))


def _answer_once(server: socket.socket) -> None:
    """Be a broker that takes a connection and goes with the first thing it is asked."""
    client, _ = server.accept()
    with client:
        client.recv(1024)
        client.sendall(b"\x20\x02\x00\x00")  # CONNACK: accepted
        client.recv(1024)
