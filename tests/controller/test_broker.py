import os
import queue
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controller.broker import Kind, embedded_broker, find_mosquitto, start_broker
from controller.errors import BrokerError
from protocols.link import Broker, Link
from tests.end_to_end.stack import wait_for

KINDS = [
    pytest.param(
        "mosquitto",
        marks=pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed"),
    ),
    "amqtt",
]


class Client:
    """A session that remembers what came."""

    def __init__(self, url: str, name: str, *filters: str) -> None:
        self.came: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self.link = Link(
            Broker.parse(url), name, lambda topic, payload, _: self.came.put((topic, payload))
        )
        self.link.subscribe(*filters)
        self.link.start()
        wait_for("a connection", lambda: self.link.connected)

    def next(self) -> tuple[str, bytes]:
        return self.came.get(timeout=10)

    def put(self, topic: str, payload: bytes) -> None:
        self.link.publish_and_wait(topic, payload, retain=True)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_retained_comes_to_who_subscribes_later(kind: Kind) -> None:
    with embedded_broker(kind=kind) as url:
        writer = Client(url, "writer")
        writer.put("a/1", b"one")
        reader = Client(url, "reader", "a/+")

        assert reader.next() == ("a/1", b"one")
        writer.link.stop()
        reader.link.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_gets_what_others_subscribed_to(kind: Kind) -> None:
    with embedded_broker(kind=kind) as url:
        writer = Client(url, "writer")
        writer.put("artifacts/1", b"big")
        greedy = Client(url, "greedy", "artifacts/1")
        assert greedy.next() == ("artifacts/1", b"big")

        modest = Client(url, "modest", "mine")
        writer.put("mine", b"marker")

        assert modest.next() == ("mine", b"marker"), "the leak of amqtt is back"
        for client in (writer, greedy, modest):
            client.link.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_a_last_will_comes_when_its_process_is_killed(kind: Kind) -> None:
    script = (
        "import sys, time\n"
        "from protocols.link import *\n"
        "link = Link(Broker.parse(sys.argv[1]), 'mortal', print, will=Will('will', b'gone'))\n"
        "link.start()\n"
        "link.publish_and_wait('up', b'up', retain=True)\n"
        "time.sleep(60)\n"
    )
    with embedded_broker(kind=kind) as url:
        reader = Client(url, "reader", "will", "up")
        mortal = subprocess.Popen([sys.executable, "-c", script, url])
        assert reader.next() == ("up", b"up")
        mortal.kill()
        mortal.wait()

        assert reader.next() == ("will", b"gone")
        reader.link.stop()


@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_mosquitto_keeps_what_is_older_than_a_second_through_a_kill(tmp_path: Path) -> None:
    broker = start_broker(tmp_path, kind="mosquitto")
    writer = Client(broker.url, "writer")
    writer.put("a", b"kept")
    writer.link.stop()
    saved = tmp_path / "mosquitto.db"
    wait_for("a saved state", lambda: saved.exists() and b"kept" in saved.read_bytes())
    broker.process.kill()
    broker.process.wait()

    broker = start_broker(tmp_path, port=broker.port, kind="mosquitto")

    reader = Client(broker.url, "reader", "a")
    assert reader.next() == ("a", b"kept")
    assert broker.persistent
    reader.link.stop()
    broker.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_with_the_process_that_started_it(kind: Kind, tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from controller.broker import start_broker\n"
        "broker = start_broker(Path(sys.argv[1]), kind=sys.argv[2])\n"
        "print(broker.process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), kind], stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    os.kill(pid, 0)

    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()

    wait_for("the broker's end", lambda: not _is_alive(pid))


def _is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("kind", KINDS)
def test_a_port_in_use_is_said(kind: Kind, tmp_path: Path) -> None:
    with embedded_broker(kind=kind) as url, pytest.raises(BrokerError, match="in use"):
        start_broker(tmp_path, port=int(url.rpartition(":")[2]), kind=kind)


def test_it_does_not_let_a_whole_network_in_unasked(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="lets everybody in"):
        start_broker(tmp_path, host="0.0.0.0")  # noqa: S104


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(BrokerError, match="cannot start the embedded broker in"):
        start_broker(tmp_path / "file" / "data")


def test_amqtt_takes_many_subscriptions_that_come_and_go() -> None:
    with embedded_broker(kind="amqtt") as url:
        reader, writer = Client(url, "reader", "tick/+"), Client(url, "writer")
        for number in range(200):
            reader.link.subscribe(f"chunk/{number}")
            writer.link.publish(f"tick/{number}", b"x")
            reader.link.unsubscribe(f"chunk/{number}")

        came = {reader.next()[0] for _ in range(200)}

        assert came == {f"tick/{number}" for number in range(200)}
        reader.link.stop()
        writer.link.stop()
