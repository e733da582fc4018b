"""A broker behind a bad path: a TCP relay that swallows chosen messages on their way back."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

Packet = bytes
_PUBLISH = 3


@contextlib.contextmanager
def lossy_path(port: int, swallow: Callable[[str], bool]) -> Iterator[int]:
    """Relay to a broker on this machine; yield the port of the relay.

    Args:
        port: of the broker.
        swallow: asked with the topic of every message to a client; true drops it.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server, port, swallow), daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def _accept(server: socket.socket, port: int, swallow: Callable[[str], bool]) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            upstream = socket.create_connection(("127.0.0.1", port))
            for source, target, deaf in (
                (client, upstream, lambda _topic: False),
                (upstream, client, swallow),
            ):
                threading.Thread(target=_relay, args=(source, target, deaf), daemon=True).start()


def _relay(source: socket.socket, target: socket.socket, swallow: Callable[[str], bool]) -> None:
    with source, target, source.makefile("rb") as stream, contextlib.suppress(OSError):
        while packet := _read(stream.read):
            topic = _topic(packet)
            if topic is None or not swallow(topic):
                target.sendall(packet)
        target.shutdown(socket.SHUT_RDWR)


def _read(read: Callable[[int], bytes]) -> Packet:
    """Read one MQTT packet: a type, a length in 7-bit digits, the rest."""
    head, length, shift = read(1), 0, 0
    while head:
        digit = read(1)
        if not digit:
            break
        head += digit
        length |= (digit[0] & 0x7F) << shift
        shift += 7
        if digit[0] < 0x80:
            return head + read(length)
    return b""


def _topic(packet: Packet) -> str | None:
    if packet[0] >> 4 != _PUBLISH:
        return None
    start = next(n for n in range(1, len(packet)) if packet[n] < 0x80) + 1
    length = int.from_bytes(packet[start : start + 2], "big")
    return packet[start + 2 : start + 2 + length].decode()
