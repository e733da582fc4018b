"""The MQTT session, on real brokers."""

import contextlib
import queue
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.broker import Kind, find_mosquitto
from protocols.errors import LinkError
from protocols.link import Broker, Link, Will
from tests.brokers import free_port, running_broker

WAIT_S = 15.0

Received = tuple[str, bytes, bool]


class Mailbox:
    """A link that remembers what came."""

    def __init__(self, url: str, name: str, will: Will | None = None) -> None:
        self.received: queue.Queue[Received] = queue.Queue()
        self.connects: queue.Queue[None] = queue.Queue()
        self.losses: queue.Queue[str] = queue.Queue()
        self.link = Link(
            Broker.parse(url),
            name,
            lambda topic, payload, retained: self.received.put((topic, payload, retained)),
            on_connected=lambda: self.connects.put(None),
            on_disconnected=self.losses.put,
            will=will,
            keepalive_s=5,
        )

    def next(self) -> Received:
        return self.received.get(timeout=WAIT_S)


@contextlib.contextmanager
def connected(url: str, name: str, *filters: str) -> Iterator[Mailbox]:
    mailbox = Mailbox(url, name)
    mailbox.link.subscribe(*filters)
    mailbox.link.start()
    try:
        mailbox.connects.get(timeout=WAIT_S)
        yield mailbox
    finally:
        mailbox.link.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_messages_go_from_one_to_the_other(broker: str) -> None:
    with connected(broker, "reader", "a/+/b") as reader, connected(broker, "writer") as writer:
        # The reader's own message comes back once its subscription holds.
        reader.link.publish("a/me/b", b"")
        assert reader.next() == ("a/me/b", b"", False)
        writer.link.publish("a/1/b", bytes(range(256)))
        assert reader.next() == ("a/1/b", bytes(range(256)), False)


def test_who_comes_later_finds_what_is_retained(broker: str) -> None:
    with connected(broker, "writer") as writer:
        writer.link.publish_and_wait("kept", b"old", retain=True)
        writer.link.publish_and_wait("kept", b"new", retain=True)
    with connected(broker, "reader", "kept") as reader:
        assert reader.next() == ("kept", b"new", True)


def test_a_subscription_made_while_connected_holds_at_once(broker: str) -> None:
    with connected(broker, "writer") as writer:
        writer.link.publish_and_wait("kept", b"value", retain=True)
        writer.link.subscribe("kept")
        assert writer.next() == ("kept", b"value", True)
        writer.link.subscribe()
        writer.link.unsubscribe()


def test_a_lost_broker_comes_back_with_every_subscription(tmp_path: Path, kind: Kind) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:
        with running_broker(tmp_path, port, kind) as url:
            reader = stack.enter_context(connected(url, "reader", "topic"))
            reader.link.subscribe("later", qos=0)
            reader.link.subscribe("given-up")
            reader.link.unsubscribe("given-up")
        assert reader.losses.get(timeout=WAIT_S)
        assert not reader.link.connected
        reader.link.publish("queued", b"written while nobody listened", retain=True)
        with running_broker(tmp_path, port, kind) as url:
            reader.connects.get(timeout=WAIT_S)
            with connected(url, "writer", "queued") as writer:
                assert writer.next()[:2] == ("queued", b"written while nobody listened")
                writer.link.publish_and_wait("given-up", b"0", retain=True)
                writer.link.publish_and_wait("topic", b"1", retain=True)
                writer.link.publish_and_wait("later", b"2", retain=True)
                came = {reader.next()[:2], reader.next()[:2]}
            assert came == {("topic", b"1"), ("later", b"2")}
            assert reader.received.empty()


_DOOMED = """
import sys, time
from protocols.link import Broker, Link, Will
link = Link(
    Broker.parse(sys.argv[1]), "doomed", lambda *_: None,
    on_connected=lambda: print("connected", flush=True), will=Will("status", b"gone"),
)
link.start()
time.sleep(60)
"""


def test_a_killed_session_leaves_its_will(broker: str) -> None:
    with connected(broker, "reader", "status") as reader:
        command = [sys.executable, "-c", _DOOMED, broker]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as doomed:
            assert doomed.stdout is not None
            assert doomed.stdout.readline() == b"connected\n"
            doomed.send_signal(signal.SIGKILL)
        assert reader.next() == ("status", b"gone", False)
    with connected(broker, "later", "status") as later:
        assert later.next() == ("status", b"gone", True)


def test_who_leaves_by_the_door_leaves_no_will(broker: str) -> None:
    leaver = Mailbox(broker, "leaver", Will("status", b"gone"))
    with connected(broker, "reader", "#") as reader:
        reader.link.publish("begin", b"")
        assert reader.next()[0] == "begin"
        leaver.link.start()
        leaver.connects.get(timeout=WAIT_S)
        leaver.link.publish("last/word", b"bye")
        leaver.link.stop()
        reader.link.publish("end", b"")
        topics = [reader.next()[0] for _ in range(2)]
    assert sorted(topics) == ["end", "last/word"]


def test_a_publication_without_a_broker_is_an_error_in_time() -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    link = Link(Broker.parse(url), "alone", lambda *_: None)
    link.start()
    try:
        with pytest.raises(LinkError, match=rf"^cannot publish to {url}: no confirmation in 0.3 s"):
            link.publish_and_wait("topic", b"", timeout_s=0.3)
    finally:
        link.stop()


def test_that_a_broker_cannot_be_reached_is_told_with_its_reason_and_not_too_often() -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    alone = Mailbox(url, "alone")
    alone.link.start()
    try:
        assert alone.losses.get(timeout=WAIT_S) == f"cannot reach {url}: Connection refused"
        with pytest.raises(queue.Empty):
            alone.losses.get(timeout=2.5)  # by then it has tried again
    finally:
        alone.link.stop()


def test_two_sessions_of_one_name_end_each_other_less_and_less_often(tmp_path: Path) -> None:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    ends = []
    with (
        running_broker(tmp_path, kind="mosquitto") as url,
        connected(url, "twin") as one,
        connected(url, "twin"),
    ):
        for _ in range(3):
            assert one.losses.get(timeout=WAIT_S)
            ends.append(time.monotonic())
    assert ends[2] - ends[1] > 1.6 - 0.1  # each waited for 0.2 to 1 s, doubled twice


def test_a_wrong_password_is_told_as_such_and_never_shown(tmp_path: Path) -> None:
    program = shutil.which("mosquitto_passwd")
    if program is None or find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    passwords = tmp_path / "passwords"
    subprocess.run([program, "-b", "-c", passwords, "pi", "right"], check=True)
    passwords.chmod(0o644)
    more = f"allow_anonymous false\npassword_file {passwords}\n"
    with running_broker(tmp_path, kind="mosquitto", more=more) as url:
        address = url.removeprefix("mqtt://")
        guest = Mailbox(f"mqtt://pi:wrong-secret@{address}", "guest")
        guest.link.start()
        reason = guest.losses.get(timeout=WAIT_S)
        guest.link.stop()
        assert reason.startswith(f"refused by {url}: ")
        assert "wrong-secret" not in reason
        with connected(f"mqtt://pi:right@{address}", "known") as known:
            wait_until(lambda: known.link.connected)


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("mqtt://broker.lan", "broker.lan", 1883, False),
        ("broker.lan", "broker.lan", 1883, False),
        ("broker.lan:1884", "broker.lan", 1884, False),
        ("mqtts://broker.lan", "broker.lan", 8883, True),
        ("mqtts://[::1]:99", "::1", 99, True),
    ],
)
def test_an_address_is_read(url: str, host: str, port: int, tls: bool) -> None:  # noqa: FBT001
    assert Broker.parse(url) == Broker(host, port, tls)


def test_an_address_is_shown_without_its_credentials() -> None:
    broker = Broker.parse("mqtts://us%40er:pa%2Fss@[::1]:99")
    assert (broker.username, broker.password) == ("us@er", "pa/ss")
    assert broker.url == "mqtts://[::1]:99"
    assert "pa/ss" not in repr(broker)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://user:secret@broker",
        "mqtt://",
        "mqtt://user:secret@broker:port",
        "a:99999",
        "two..dots",
    ],
)
def test_an_address_that_is_none_is_an_error_without_its_credentials(url: str) -> None:
    with pytest.raises(LinkError, match=r"^cannot use broker ") as caught:
        Broker.parse(url)
    assert "secret" not in str(caught.value)


def test_nobody_can_guess_the_id_of_a_session_with_a_credential(tmp_path: Path) -> None:
    name = "sluice-home-pi-1"
    key, other = tmp_path / "one.key", tmp_path / "other.key"
    key.write_text("one key")
    other.write_text("another key")
    nobody = Broker("h", 1)
    by_key = Broker("h", 1, tls=True, cert_file="c", key_file=str(key))
    ids = {
        broker.session_id(name)
        for broker in (
            nobody,
            by_key,
            Broker("h", 1, tls=True, cert_file="c", key_file=str(other)),
            Broker("h", 1, username="pi-1", password="one key"),  # noqa: S106
            Broker("h", 1, username="pi-1", password="another"),  # noqa: S106
        )
    }
    assert len(ids) == 4, "what matters is the secret"
    assert nobody.session_id(name) == name
    assert by_key.session_id(name) == by_key.session_id(name), "a restart ends its own old session"
    assert by_key.session_id(name) != by_key.session_id(f"{name}-pull-1")
    assert all(one.startswith(name) and "key" not in one for one in ids)


@pytest.mark.parametrize("content", [None, "no PEM"])
def test_a_certificate_that_cannot_be_used_is_said(tmp_path: Path, content: str | None) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "c.key"
    if content is not None:
        certificate.write_text(content)
        key.write_text(content)
    broker = Broker("h", 1, tls=True, cert_file=str(certificate), key_file=str(key))
    with pytest.raises(LinkError, match=r"^cannot use certificates .*c\.pem"):
        broker.context()
    with pytest.raises(LinkError, match=r"^cannot use certificates"):
        Link(broker, "x", lambda *_: None).start()
