"""A real mosquitto with the configuration that `ctl broker config` writes, and clients of it."""

import contextlib
import getpass
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from controller.broker import find_mosquitto
from controller.enrolment.authority import Issued
from controller.enrolment.mosquitto import SHARED_READS
from controller.enrolment.register import BrokerPlace
from controller.enrolment.store import Granted, Store
from controller.home import Home
from controller.signing import generate_keys
from protocols.link import Broker
from protocols.topics import Topics
from tests.brokers import accepts

FLEET = "home"
TOPICS = Topics(FLEET)
WAIT_S = 15.0


@dataclass
class Client:
    """A session as an attacker may hold it: any id, any credential, any topic."""

    broker: Broker
    client_id: str
    found: dict[str, bytes] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    granted: set[int] = field(default_factory=set)
    up: threading.Event = field(default_factory=threading.Event)
    down: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        if self.broker.tls:
            self.client.tls_set_context(self.broker.context())
        if self.broker.username is not None:
            self.client.username_pw_set(self.broker.username, self.broker.password)
        self.client.on_message = lambda _c, _u, m: self.found.update({m.topic: bytes(m.payload)})
        self.client.on_connect = self._connected
        self.client.on_disconnect = self._disconnected
        self.client.on_connect_fail = self._failed
        self.client.on_subscribe = lambda _c, _u, mid, _r, _p: self.granted.add(mid)

    def _connected(self, _c: object, _u: object, _f: object, reason: object, _p: object) -> None:
        if str(reason) == "Success":
            self.up.set()
        else:
            self.ended.append(str(reason))
            self.down.set()

    def _failed(self, _c: object, _u: object) -> None:
        self.ended.append(repr(sys.exception()))
        self.down.set()

    def _disconnected(self, _c: object, _u: object, _f: object, reason: object, _p: object) -> None:
        self.ended.append(str(reason))
        self.down.set()

    def __enter__(self) -> Self:
        self.client.connect_async(self.broker.host, self.broker.port)
        self.client.loop_start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()  # paho leaves its pipe to the garbage collector

    def is_let_in(self) -> bool:
        """Whether the broker takes it: waits for one word or the other."""
        deadline = time.monotonic() + WAIT_S
        while not (self.up.is_set() or self.down.is_set()):
            assert time.monotonic() < deadline, "neither let in nor turned away"
            time.sleep(0.01)
        return self.up.is_set()

    def subscribe(self, *filters: str) -> None:
        """Subscribe, and wait until the broker has taken note: what comes later would come here."""
        asked = {self.client.subscribe(name, qos=1)[1] for name in filters}
        deadline = time.monotonic() + WAIT_S
        while not asked <= self.granted:
            assert time.monotonic() < deadline, (filters, self.ended)
            time.sleep(0.005)

    def wait_for(self, topic: str, payload: bytes | None = None) -> bytes:
        """Wait until a payload (this one) has come on a topic."""
        deadline = time.monotonic() + WAIT_S
        while topic not in self.found or (payload is not None and self.found[topic] != payload):
            assert time.monotonic() < deadline, (topic, self.found, self.ended)
            time.sleep(0.01)
        return self.found[topic]


@dataclass
class Secure:
    """The broker, its authority, and what it takes to be somebody there."""

    folder: Path
    home: Home
    store: Store
    process: subprocess.Popen[bytes] | None = None

    @property
    def place(self) -> BrokerPlace:
        return self.store.place

    def broker(self, granted: Granted, port: int | None = None) -> Broker:
        """Return the broker as the holder of a credential sees it."""
        if granted.password is not None:
            return Broker(
                "127.0.0.1",
                port or self.place.password_port or 0,
                tls=True,
                username=granted.login.identity,
                password=granted.password,
                ca_file=str(self.store.ca_file),
            )
        assert granted.issued is not None
        return self.known_by(granted.issued, granted.login.identity, port)

    def known_by(self, issued: Issued, name: str, port: int | None = None) -> Broker:
        """Return the broker as the holder of any certificate sees it."""
        stem = self.folder / f"{name}-{issued.serial:x}"
        certificate, key = stem.with_suffix(".pem"), stem.with_suffix(".key")
        certificate.write_bytes(issued.certificate)
        key.write_bytes(issued.key)
        return Broker(
            "127.0.0.1",
            port or self.place.port,
            tls=True,
            ca_file=str(self.store.ca_file),
            cert_file=str(certificate),
            key_file=str(key),
        )

    def nobody(self, port: int | None = None) -> Broker:
        """Return the broker as somebody without any credential sees it."""
        return Broker("127.0.0.1", port or self.place.port, True, ca_file=str(self.store.ca_file))  # noqa: FBT003

    def device(self, name: str, *, password: bool = False) -> Broker:
        """Let a device in."""
        return self.broker(self.store.grant_device(name, "0" * 64, password=password))


def make_secure(folder: Path) -> Secure:
    """Write the broker's folder, beside a home with keys."""
    home = Home.open(folder / "home", broker="mqtts://127.0.0.1", fleet=FLEET, environ={})
    generate_keys(home)
    secure = Secure(folder, home, Store(home))
    secure.store.configure(_place(folder))
    return secure


def _place(folder: Path) -> BrokerPlace:
    return BrokerPlace(
        hosts=("127.0.0.1",),
        port=quiet_port(),
        password_port=quiet_port(),
        written_to=folder / "broker",
        folder=str(folder / "broker"),
        data=str(folder / "broker" / "data"),
        user=getpass.getuser(),
    )


@contextlib.contextmanager
def serving(secure: Secure) -> Iterator[Secure]:
    """Run mosquitto with what was written; a port that was taken meanwhile is exchanged."""
    program = find_mosquitto()
    assert program is not None
    config, log = secure.place.written_to / "mosquitto.conf", secure.folder / "mosquitto.log"
    for _ in range(5):
        ports = (secure.place.port, secure.place.password_port or 0)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [program, "-c", str(config)], stdout=output, stderr=subprocess.STDOUT
            )
        try:
            while process.poll() is None and not all(map(accepts, ports)):
                time.sleep(0.01)
            _wait_for_list(secure, 0)
            if process.poll() is None:
                # It listens before it minds signals: SIGHUP would end one that answers nobody yet.
                connects(secure.nobody())
                secure.process = process
                yield secure
                return
        finally:
            process.terminate()
            process.wait(10)
        secure.store.configure(_place(secure.folder))
    raise RuntimeError(f"mosquitto did not start: {log.read_text()}")


def reload(secure: Secure) -> None:
    """Let the broker read its files again, and wait until it has."""
    assert secure.process is not None
    read = _lists_read(secure)
    secure.process.send_signal(signal.SIGHUP)
    _wait_for_list(secure, read)


def _wait_for_list(secure: Secure, read: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while _lists_read(secure) == read:
        assert time.monotonic() < deadline, "the broker has not read its files"
        time.sleep(0.01)


def _lists_read(secure: Secure) -> int:
    """Return how often the broker has read its access list: it warns of two lines each time."""
    warnings = (secure.folder / "mosquitto.log").read_text().count("does not contain '%c' or '%u'")
    return warnings // len(SHARED_READS)


def quiet_port() -> int:
    """Return a port on all addresses that nobody has, below those that connections are given."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)  # noqa: S311 - no secret
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("", port))
            return port
    raise RuntimeError("no port is free")


def plain(secure: Secure) -> Broker:
    """Return the TLS port, spoken to without TLS."""
    return Broker("127.0.0.1", secure.place.port)


def connects(broker: Broker, client_id: str = "anybody") -> bool:
    """Whether the broker lets such a client in."""
    with Client(broker, client_id) as client:
        return client.is_let_in()
