"""The mosquitto configuration: the fleet's documents survive a broker that is killed."""

import getpass
import queue
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from controller.broker import find_mosquitto
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


def test_the_commented_lines_give_tls_and_passwords(tmp_path: Path) -> None:
    program, passwd = find_mosquitto(), shutil.which("mosquitto_passwd")
    if program is None or passwd is None:
        pytest.skip("mosquitto is not installed")
    plain, tls = free_port(), free_port()
    text = re.sub(r"^#(\w)", r"\1", CONFIG.read_text(), flags=re.MULTILINE)
    for old, new in {
        "allow_anonymous true": "allow_anonymous false",
        "listener 1883": f"listener {plain}",
        "listener 8883": f"listener {tls} 127.0.0.1",
        "/etc/mosquitto/sluice.passwords": f"{tmp_path}/passwords",
        "/etc/mosquitto/certs": str(tmp_path),
        "/var/lib/mosquitto": str(tmp_path),
    }.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "sluice.conf").write_text(f"user {getpass.getuser()}\n{text}")
    subprocess.run([passwd, "-b", "-c", tmp_path / "passwords", "pi-1", "secret"], check=True)
    make_certificate(tmp_path)
    with running([program, "-c", str(tmp_path / "sluice.conf")], tmp_path / "log", tls):
        url = f"mqtts://pi-1:secret@127.0.0.1:{tls}"
        known = Broker.parse(url, str(tmp_path / "broker.pem"))
        with Session(known) as session:
            session.link.publish_and_wait("sluice/topic", b"hidden")
            assert session.wait_for("sluice/topic") == b"hidden"
        for stranger in (replace(known, password=known.url), replace(known, username=None)):
            reasons: queue.Queue[str] = queue.Queue()
            link = Link(stranger, "stranger", lambda *_: None, on_disconnected=reasons.put)
            link.start()
            assert reasons.get(timeout=WAIT_S).startswith("refused by mqtts://")
            link.stop()


def make_certificate(folder: Path) -> None:
    """Write a self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "broker.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "broker.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
