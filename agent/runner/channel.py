"""Messages and file descriptors between supervisor and runner, over a Unix stream socketpair.

A frame is a header (payload length in bytes, number of descriptors) and the payload, a message in
JSON. The descriptors travel with the header's first byte (SCM_RIGHTS), so they cannot be taken for
another frame's.
"""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Sequence

from protocols.message import Message

MAX_BYTES = 64 << 20
"""Of one payload: sixty-four bundles of at most 1 MiB each."""

MAX_FDS = 16
_HEADER = struct.Struct("!IB")


class Channel:
    """One end of the socketpair. Any thread may send; one thread receives."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """Return the socket's descriptor, to wait on."""
        return self._sock.fileno()

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send a message and copies of descriptors; the caller still owns its own.

        Raises:
            OSError: the other side is gone.
        """
        self.send_bytes(message.encode(), fds)

    def send_bytes(self, payload: bytes, fds: Sequence[int] = ()) -> None:
        """Send a message that is encoded already, as it was received; see `send`."""
        header = _HEADER.pack(len(payload), len(fds))
        with self._sending:
            sent = socket.send_fds(self._sock, [header], fds) if fds else self._sock.send(header)
            self._sock.sendall(header[sent:] + payload)

    def receive(self) -> tuple[bytes, list[int]] | None:
        """Wait for the next message; None when the other side is gone.

        The descriptors are new ones of this process, which the caller must close.
        """
        fds: list[int] = []
        try:
            header = self._exactly(_HEADER.size, fds)
            if header is None:
                return None
            length, count = _HEADER.unpack(header)
            payload = self._exactly(length, fds) if length <= MAX_BYTES else None
        except ConnectionError:
            payload = None
        if payload is None or count != len(fds):
            for fd in fds:
                os.close(fd)
            return None
        return payload, fds

    def close(self) -> None:
        """Close this end; a thread that waits in `receive` gets None."""
        with contextlib.suppress(OSError):  # the other end is gone already
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _exactly(self, count: int, fds: list[int]) -> bytes | None:
        received = bytearray()
        while len(received) < count:
            missing = count - len(received)
            piece, more, _flags, _address = socket.recv_fds(self._sock, missing, MAX_FDS)
            for fd in more:
                os.set_inheritable(fd, False)  # noqa: FBT003 - it takes no keyword
            fds += more
            if not piece:
                return None
            received += piece
        return bytes(received)
