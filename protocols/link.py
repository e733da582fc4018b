"""One MQTT session, as agent and controller both hold it: paho with our habits.

Within MQTT 3.1.1, so that every broker serves. Subscriptions are made anew at every connect (a
clean session loses them), reconnects are spread by jitter (a fleet must not return as one), and
TCP_NODELAY is set (without it small packets wait for each other: 1.30 s against 0.09 s measured for
a window of chunks).
"""

import hashlib
import random
import socket
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from protocols.errors import LinkError

PLAIN_PORT = 1883
TLS_PORT = 8883
_FIRST_DELAY_S = (0.2, 1.0)
_LAST_DELAY_S = (20.0, 40.0)

_jitter = random.Random()  # noqa: S311 - no secret
"""Of our own: what a program or a test draws from `random` must not depend on its connections."""

_SHORT_S = 5.0
_MOST_DOUBLINGS = 5
"""A session that ends within `_SHORT_S` doubles the delay before the next: two that use the same id
end each other, and must not do so twice a second for ever."""

_TELL_AGAIN_S = 60.0
"""That a broker still cannot be reached, for the same reason, is told so often."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is and who we are there. The password never shows in a repr."""

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    """PEM: our certificate, where the broker knows us by one."""
    key_file: str | None = None
    """PEM: its private key."""

    @classmethod
    def parse(cls, url: str, ca_file: str | None = None) -> "Broker":
        """Read `mqtt://[user[:password]@]host[:port]`, or `mqtts://` for TLS.

        Raises:
            LinkError: it is not such an URL.
        """
        parts = urlsplit(url if "://" in url else f"mqtt://{url}")
        try:
            port = parts.port
        except ValueError as error:
            raise LinkError(f"cannot use broker {_safe(url)!r}: {error}") from error
        if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname:
            raise LinkError(
                f"cannot use broker {_safe(url)!r}: want mqtt://host[:port] or mqtts://"
            )
        try:
            parts.hostname.encode("idna")
        except UnicodeError as error:
            raise LinkError(f"cannot use broker {_safe(url)!r}: no host has such a name") from error
        tls = parts.scheme == "mqtts"
        return cls(
            host=parts.hostname,
            port=port or (TLS_PORT if tls else PLAIN_PORT),
            tls=tls,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            ca_file=ca_file,
        )

    @property
    def url(self) -> str:
        """The URL without credentials, to show."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    def context(self) -> ssl.SSLContext:
        """Return how TLS is spoken there.

        Raises:
            LinkError: a certificate or key cannot be read, or they do not belong together.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                # Without the callback OpenSSL would ask the terminal for a key's password.
                context.load_cert_chain(self.cert_file, self.key_file, password=lambda: "")
        except OSError as error:
            files = ", ".join(f for f in (self.ca_file, self.cert_file, self.key_file) if f)
            why = error.strerror or error
            raise LinkError(f"cannot use certificates ({files}): {why}") from error
        return context

    def session_id(self, name: str) -> str:
        """Return the client id of a session: with a credential, one that nobody else can guess.

        A broker ends a session when another begins with its id, whoever that is: a device that
        could guess an id could keep others off. So it ends with a hash of name and credential.
        It stays the same as long as those do, so that a restart ends its own old session.
        """
        secret = self._secret()
        if not secret:
            return name
        key = hashlib.sha256(secret).digest()
        return f"{name}-{hashlib.blake2b(name.encode(), digest_size=16, key=key).hexdigest()}"

    def _secret(self) -> bytes:
        if self.key_file is not None:
            try:
                return Path(self.key_file).read_bytes()
            except OSError:
                return b""  # `context` says it
        return self.password.encode() if self.password else b""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when this session dies."""

    topic: str
    payload: bytes


class Link:
    """An MQTT session that stays up by itself. Callbacks come on paho's thread: hand over, return.

    Args:
        broker: where to connect.
        client_id: unique in the broker, completed by `Broker.session_id`; a second session of the
            same id ends the first.
        on_message: called with topic, payload and whether it is a retained one.
        on_connected: called after each connect, once the subscriptions have been sent.
        on_disconnected: called with the reason when a connection is lost or refused, and when the
            broker cannot be reached: at the first attempt, then once a minute.
        will: what the broker says when we are gone.
        keepalive_s: a frozen peer is noticed after about 1.5 times this.
    """

    def __init__(  # noqa: PLR0913 - a session has this many facts
        self,
        broker: Broker,
        client_id: str,
        on_message: Callable[[str, bytes, bool], None],
        *,
        on_connected: Callable[[], None] = lambda: None,
        on_disconnected: Callable[[str], None] = lambda _: None,
        will: Will | None = None,
        keepalive_s: int = 15,
    ) -> None:
        self._broker = broker
        self._keepalive_s = keepalive_s
        self._filters: dict[str, int] = {}
        self._on_message = on_message
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._connected_s: float | None = None
        self._short_sessions = 0
        self._told, self._told_s = "", 0.0
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=broker.session_id(client_id),
            protocol=paho.MQTTv311,
        )
        self._client.on_connect = self._connected
        self._client.on_connect_fail = self._failed
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._received
        self._client.on_socket_open = _no_delay
        if broker.username is not None:
            self._client.username_pw_set(broker.username, broker.password)
        if will is not None:
            self._client.will_set(will.topic, will.payload, qos=1, retain=True)

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and has not gone since."""
        return self._client.is_connected()

    def start(self) -> None:
        """Connect in the background, and again whenever the connection is lost.

        Raises:
            LinkError: a certificate or key cannot be used.
        """
        if self._broker.tls:
            self._client.tls_set_context(self._broker.context())
        self._spread()
        self._client.connect_async(self._broker.host, self._broker.port, self._keepalive_s)
        self._client.loop_start()

    def stop(self) -> None:
        """Write out what is queued and disconnect: the last will stays silent."""
        self._client.disconnect()
        self._client.loop_stop()
        # paho would leave the pipe to its thread open until the garbage collector comes by.
        self._client._reset_sockets(sockpair_only=True)  # noqa: SLF001

    def subscribe(self, *filters: str, qos: int = 1) -> None:
        """Subscribe now if connected, and again at every connect."""
        self._filters.update(dict.fromkeys(filters, qos))
        if self.connected and filters:
            self._client.subscribe([(f, qos) for f in filters])

    def unsubscribe(self, *filters: str) -> None:
        """Give subscriptions up."""
        for name in filters:
            self._filters.pop(name, None)
        if self.connected and filters:
            self._client.unsubscribe(list(filters))

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Publish without waiting. QoS 1 is kept in memory until the broker has it."""
        self._client.publish(topic, payload, qos=qos, retain=retain)

    def publish_and_wait(
        self, topic: str, payload: bytes, *, retain: bool = False, timeout_s: float = 10.0
    ) -> None:
        """Publish at QoS 1, once connected, and wait until the broker has it.

        Raises:
            LinkError: it has not confirmed in time.
        """
        deadline = time.monotonic() + timeout_s
        # paho never confirms what was published before there was a connection.
        if _comes_true(lambda: self.connected, deadline):
            info = self._client.publish(topic, payload, qos=1, retain=retain)
            if _comes_true(lambda: _confirmed(info), deadline):
                return
        raise LinkError(f"cannot publish to {self._broker.url}: no confirmation in {timeout_s:g} s")

    def _connected(
        self,
        _client: paho.Client,
        _data: object,
        _flags: object,
        reason: ReasonCode,
        _props: object,
    ) -> None:
        if reason.is_failure:
            self._spread()
            self._on_disconnected(f"refused by {self._broker.url}: {reason}")
            return
        self._connected_s, self._told = time.monotonic(), ""
        by_qos: dict[int, list[str]] = {}
        for name, qos in self._filters.copy().items():
            by_qos.setdefault(qos, []).append(name)
        for qos, names in by_qos.items():
            self._client.subscribe([(name, qos) for name in names])
        self._on_connected()

    def _disconnected(
        self,
        _client: paho.Client,
        _data: object,
        _flags: object,
        reason: ReasonCode,
        _props: object,
    ) -> None:
        doubt = ""
        if self._connected_s is None and self._broker.tls:
            # It has refused us by TLS, or what is there speaks none. paho does not say which.
            doubt = ", before it let us in: does it take our certificate?"
        if self._connected_s is not None:
            short = time.monotonic() - self._connected_s < _SHORT_S
            self._short_sessions = min(self._short_sessions + 1, _MOST_DOUBLINGS) if short else 0
            self._connected_s = None
        self._spread()
        self._on_disconnected(f"lost {self._broker.url}: {reason}{doubt}")

    def _failed(self, _client: paho.Client, _data: object) -> None:
        """Tell why the broker cannot be reached: paho calls this where it handles the error."""
        error = sys.exception()
        why = error.strerror or error if isinstance(error, OSError) else error
        reason = f"cannot reach {self._broker.url}: {why}"
        now_s = time.monotonic()
        if reason != self._told or now_s - self._told_s >= _TELL_AGAIN_S:
            self._told, self._told_s = reason, now_s
            self._on_disconnected(reason)

    def _received(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self._on_message(message.topic, bytes(message.payload), message.retain)

    def _spread(self) -> None:
        """Draw this session's next reconnect delays; paho doubles from the first to the last."""
        first = _jitter.uniform(*_FIRST_DELAY_S)
        first *= 2**self._short_sessions
        last = _jitter.uniform(*_LAST_DELAY_S)
        # reconnect_delay_set takes whole seconds, and it starts the doubling over.
        vars(self._client).update(_reconnect_min_delay=first, _reconnect_max_delay=last)


def _comes_true(condition: Callable[[], bool], deadline: float) -> bool:
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return met


def _confirmed(info: paho.MQTTMessageInfo) -> bool:
    try:
        return info.is_published()
    except (RuntimeError, ValueError):  # the connection went just before: it goes out at the next
        return False


def _no_delay(_client: paho.Client, _data: object, sock: object) -> None:
    if isinstance(sock, socket.socket) and sock.family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _safe(url: str) -> str:
    """Cut credentials out of an URL that is about to be shown."""
    head, at, tail = url.rpartition("@")
    return tail if at and head else url
