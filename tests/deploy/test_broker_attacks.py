"""Attacks on a real mosquitto with the generated configuration: refused, and nothing changed.

Judged by delivery: a broker may confirm what it drops. Every test that says "nothing came" first
shows, on the same topics and at the same time, that what is allowed does come.
"""

import ssl
import time
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

from controller.broker import find_mosquitto
from controller.enrolment.authority import (
    create_authority,
    issue_client,
    issue_server,
    read_issued,
)
from protocols.device import Status
from protocols.link import Broker, Link, Will
from protocols.topics import RETAINED_KINDS
from tests.deploy.secure import (
    FLEET,
    TOPICS,
    WAIT_S,
    Client,
    Secure,
    connects,
    make_secure,
    plain,
    reload,
    serving,
)

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")

SHA = "0123456789abcdef" * 4
FORBIDDEN = (
    TOPICS.device("victim", "status"),
    TOPICS.device("victim", "inventory"),
    TOPICS.device("victim", "telemetry"),
    TOPICS.device("victim", "events"),
    TOPICS.device("victim", "reported"),
    TOPICS.device("victim", "desired"),
    TOPICS.device("victim", "pins"),
    TOPICS.device("mallory", "desired"),
    TOPICS.device("mallory", "pins"),
    TOPICS.deployment("digits-v1-abc"),
    TOPICS.rollout("digits-v1-abc"),
    TOPICS.roster("mallory"),
    TOPICS.roster("victim"),
    TOPICS.keys(1),
    TOPICS.audit("0000000000001-abc"),
    TOPICS.controller("office"),
    TOPICS.chunk(SHA, 0),
    "sluice/v1/other/devices/mallory/status",
    "$SYS/broker/uptime",
    "anything",
)
"""What no device may write, whoever it is."""


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """One broker for all tests that do not change it."""
    with serving(make_secure(tmp_path_factory.mktemp("secure"))) as running:
        yield running


@pytest.fixture(scope="module")
def owner(secure: Secure) -> Broker:
    """The broker as the fleet's owner sees it."""
    broker = secure.broker(secure.store.grant_person("owner", "release"))
    reload(secure)
    return broker


@pytest.fixture(params=["certificate", "password"])
def mallory(request: pytest.FixtureRequest, secure: Secure) -> Broker:
    """A device with a good credential of either kind, and bad intentions."""
    broker = secure.device("mallory", password=request.param == "password")
    if request.param == "password":
        reload(secure)
    return broker


def publish(broker: Broker, topic: str, payload: bytes) -> None:
    """Publish retained at QoS 1 on a session of its own: a broker may end it for that."""
    with Client(broker, f"publisher-{topic}") as client:
        assert client.is_let_in()
        info = client.client.publish(topic, payload, qos=1, retain=True)
        deadline = time.monotonic() + WAIT_S
        while not info.is_published() and not client.down.is_set():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_device_writes_its_own_topics_and_nothing_else(owner: Broker, mallory: Broker) -> None:
    with Client(owner, "owner") as watching:
        assert watching.is_let_in(), watching.ended
        watching.subscribe("#")
        for topic in FORBIDDEN:
            publish(mallory, topic, b"forged")
        mine = TOPICS.device("mallory", "status")
        marker = mallory.url.encode()
        publish(mallory, mine, marker)
        watching.wait_for(mine, marker)  # what came before it would have come before
        forged = {t for t, p in watching.found.items() if p == b"forged"}
    assert forged == set()
    with Client(owner, "owner-later") as later:
        assert later.is_let_in()
        later.subscribe("sluice/#")
        end = TOPICS.controller("marker")
        later.client.publish(end, b"after all that is retained", qos=1)
        later.wait_for(end)
        assert later.found[mine] == marker
        assert b"forged" not in later.found.values(), "nothing is retained either"


def test_a_device_reads_its_own_documents_and_nothing_else(owner: Broker, mallory: Broker) -> None:
    with Client(owner, "owner") as writing, Client(mallory, "mallory") as reading:
        assert writing.is_let_in()
        assert reading.is_let_in()
        filters = ("#", "sluice/#", "sluice/v1/+/devices/+/desired", "$SYS/#", f"{TOPICS.root}/+/+")
        reading.subscribe(*filters, *(TOPICS.device("victim", kind) for kind in RETAINED_KINDS))
        secrets = (
            *(TOPICS.device("victim", k) for k in (*RETAINED_KINDS, "telemetry", "events")),
            TOPICS.device("mallory", "pins"),
            TOPICS.deployment("d-1"),
            TOPICS.rollout("d-1"),
            TOPICS.roster("victim"),
            TOPICS.roster("mallory"),
            TOPICS.audit("0000000000001-abc"),
            TOPICS.controller("office"),
        )
        for topic in secrets:
            writing.client.publish(topic, b"not for mallory", qos=1, retain=True)
        status, desired = (TOPICS.device("mallory", kind) for kind in ("status", "desired"))
        allowed = (TOPICS.chunk(SHA, 3), TOPICS.keys(2), status, desired)
        for topic in allowed:
            writing.client.publish(topic, b"for mallory", qos=1)
        for topic in allowed:
            reading.wait_for(topic)
        assert set(reading.found) == set(allowed)
        # And what is retained does not come to one that subscribes later.
        with Client(mallory, "later") as later:
            assert later.is_let_in()
            later.subscribe(*filters)
            writing.client.publish(allowed[-1], b"marker", qos=1)
            later.wait_for(allowed[-1], b"marker")
            assert set(later.found) <= {status, desired}


def test_a_will_is_not_a_way_around(owner: Broker, mallory: Broker) -> None:
    status, own = TOPICS.device("victim", "status"), TOPICS.device("mallory", "status")
    with Client(owner, "owner") as watching:
        assert watching.is_let_in(), watching.ended
        watching.subscribe("sluice/#")
        for topic in (status, own):
            client = Client(mallory, f"will-{topic}")
            client.client.will_set(topic, b"willed", qos=1, retain=True)
            with client:
                assert client.is_let_in()
                sock = client.client.socket()
                assert isinstance(sock, ssl.SSLSocket)
                sock.shutdown(2)  # dies without a word
                client.down.wait(WAIT_S)
        watching.wait_for(own, b"willed")
        assert watching.found.get(status) != b"willed"


def test_nobody_without_a_certificate_of_the_fleet(secure: Secure) -> None:
    now_s = time.time()
    elsewhere = create_authority(FLEET, now_s)
    good = secure.device("pi-1")
    assert connects(good)
    assert not connects(secure.nobody())
    assert not connects(secure.known_by(issue_client(elsewhere, "pi-1", now_s), "pi-1"))
    # The broker's own certificate is no client's.
    folder = secure.place.written_to
    server = replace(
        good, cert_file=str(folder / "broker.pem"), key_file=str(folder / "broker.key")
    )
    assert not connects(server)
    # A certificate is no password, and the port for passwords takes none.
    assert secure.place.password_port is not None
    assert not connects(replace(good, port=secure.place.password_port))
    assert not connects(secure.nobody(secure.place.password_port))


def test_it_listens_nowhere_else(secure: Secure) -> None:
    """A setting in the wrong place would make mosquitto open port 1883 too."""
    assert secure.process is not None
    sockets = psutil.Process(secure.process.pid).net_connections("tcp")
    ports = {s.laddr.port for s in sockets if s.status == psutil.CONN_LISTEN}
    assert ports == {secure.place.port, secure.place.password_port}


def test_plain_text_to_the_tls_ports_gets_nothing(secure: Secure) -> None:
    assert connects(secure.device("pi-1"))
    assert not connects(plain(secure))
    assert secure.place.password_port is not None
    assert not connects(replace(plain(secure), port=secure.place.password_port))


def test_a_wrong_password_and_another_devices_name(secure: Secure) -> None:
    good = secure.device("pi-9", password=True)
    secure.device("pi-8", password=True)
    reload(secure)
    assert connects(good)
    assert not connects(replace(good, password="wrong"))  # noqa: S106 - that is the point
    assert not connects(replace(good, password=""))
    assert not connects(replace(good, username="pi-8"))
    assert not connects(replace(good, username="@owner"))
    # A user name beside a certificate changes nothing: the certificate says who it is.
    by_certificate = replace(secure.device("pi-1"), username="pi-8", password=good.password)
    with Client(by_certificate, "liar") as liar:
        assert liar.is_let_in()
        for name in ("pi-8", "pi-1"):
            liar.subscribe(TOPICS.device(name, "desired"))
        owner = secure.broker(secure.store.grant_person("teller", "release"))
        reload(secure)
        with Client(owner, "teller") as telling:
            assert telling.is_let_in()
            for name in ("pi-8", "pi-1"):
                telling.client.publish(TOPICS.device(name, "desired"), b"yours", qos=1)
            liar.wait_for(TOPICS.device("pi-1", "desired"))
        assert set(liar.found) == {TOPICS.device("pi-1", "desired")}


def test_a_device_cannot_take_another_ones_session(secure: Secure) -> None:
    lost: list[str] = []
    victim_broker, mallory = secure.device("victim"), secure.device("mallory")
    name = f"sluice-{FLEET}-victim"
    will = Status(device="victim", online=False, boot_id="b", version="1")
    victim = Link(
        victim_broker,
        name,
        lambda *_: None,
        on_disconnected=lost.append,
        will=Will(TOPICS.device("victim", "status"), will.encode()),
    )
    victim.start()
    try:
        deadline = time.monotonic() + WAIT_S
        while not victim.connected:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        # All that it can know or work out: the name, and what it would be with its own key.
        for guess in (name, mallory.session_id(name), "victim", f"{name}-{'0' * 32}"):
            assert connects(mallory, guess)
        time.sleep(0.3)
        victim.publish_and_wait(TOPICS.device("victim", "status"), b"{}", timeout_s=WAIT_S)
        assert lost == []
        # The one that would end it is the victim's own.
        assert connects(victim_broker, victim_broker.session_id(name))
        deadline = time.monotonic() + WAIT_S
        while not lost:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        victim.stop()


def test_a_controller_cannot_write_what_people_decide(secure: Secure, owner: Broker) -> None:
    serve = secure.broker(secure.store.grant_person("server", "controller"))
    reload(secure)
    refused = (
        TOPICS.deployment("forged"),
        TOPICS.device("victim", "pins"),
        TOPICS.roster("victim"),
    )
    with Client(owner, "owner") as watching:
        assert watching.is_let_in(), watching.ended
        watching.subscribe("sluice/#")
        for topic in refused:
            publish(serve, topic, b"by the server")
        allowed = TOPICS.device("victim", "desired")
        publish(serve, allowed, b"by the server")
        watching.wait_for(allowed, b"by the server")
        found = {t for t, p in watching.found.items() if p == b"by the server"}
    assert found == {allowed}


def test_a_device_cannot_pass_as_the_broker(secure: Secure) -> None:
    """Its certificate is good for a client alone: another client would refuse it as a server."""
    device = secure.device("mallory")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert device.cert_file is not None
    server.load_cert_chain(device.cert_file, device.key_file)
    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        _shake_hands(server, secure.nobody().context())
    folder = secure.place.written_to
    real = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    real.load_cert_chain(folder / "broker.pem", folder / "broker.key")
    strict = secure.nobody().context()
    strict.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 and newer have it
    _shake_hands(real, strict)
    named_otherwise = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = secure.store.ca_file.read_bytes(), (secure.home.pki_dir / "ca.key").read_bytes()
    other = issue_server(read_issued(*authority), ["elsewhere.lan"], time.time())
    for name, content in (("other.pem", other.certificate), ("other.key", other.key)):
        (secure.folder / name).write_bytes(content)
    named_otherwise.load_cert_chain(secure.folder / "other.pem", secure.folder / "other.key")
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        _shake_hands(named_otherwise, secure.nobody().context())


def test_a_revoked_credential_is_worth_nothing(
    secure: Secure, owner: Broker, mallory: Broker
) -> None:
    good = secure.device("pi-1")
    desired, status = TOPICS.device("mallory", "desired"), TOPICS.device("mallory", "status")
    with (
        Client(owner, "owner") as watching,
        Client(mallory, "mallory") as session,
        Client(good, "pi-1") as other,
    ):
        assert all(one.is_let_in() for one in (watching, session, other))
        session.subscribe(desired)
        watching.subscribe("sluice/#")
        watching.client.publish(desired, b"before", qos=1)
        session.wait_for(desired, b"before")
        assert secure.store.revoke("mallory")
        reload(secure)
        # What it holds still is worth nothing, and it cannot come again.
        session.client.publish(status, b"after", qos=1)
        watching.client.publish(desired, b"after", qos=1)
        other.client.publish(TOPICS.device("pi-1", "status"), b"after", qos=1)
        watching.wait_for(TOPICS.device("pi-1", "status"), b"after")
        assert watching.found.get(status) != b"after"
        assert session.found[desired] == b"before"
        assert not connects(mallory, "again")
        assert connects(good, "another of pi-1")
        assert watching.ended == other.ended == [], "nobody else has noticed"
    # Added again, it gets another credential; the old one stays revoked.
    anew = secure.device("mallory")
    reload(secure)
    assert connects(anew)
    assert not connects(mallory)


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Let two sides of TLS talk in memory, as the client calls the server 127.0.0.1."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    two = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [one, two]
    for _ in range(20):
        for side in tuple(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
        if not waiting:
            return
    raise AssertionError("the handshake does not end")
