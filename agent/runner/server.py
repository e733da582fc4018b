"""The inference endpoint's sockets: listening ones inherited, connections taken and given back.

One thread waits on each listening socket and one serves each connection. A connection that waits
for its next request can be handed over to another process at any moment without loss: bytes that
have arrived meanwhile are still in the kernel's buffer.
"""

import contextlib
import select
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

from agent.runner import http1
from agent.runner.http1 import HttpError, Request, Response
from agent.runner.oip import error_response

MAX_CONNECTIONS = 256
"""For one more, the one that has been idle longest is closed; where none is idle, it waits."""

IDLE_S = 300.0
STALL_S = 10.0
"""A client that has begun a request and sends or takes nothing for so long is cut off."""

REQUEST_S = 60.0
"""A request must be here as a whole after that time, and its answer taken after the same again."""

MAX_BODIES_BYTES = 32 << 20
"""Of all the bodies that are under way at once."""

_READ_BYTES = 1 << 18
_MILLISECONDS = 1000
_LOST_RACE_S = 0.005
_SOON = (("Retry-After", "1"),)

Answerer = Callable[[Request], Response]
GiveBack = Callable[[int], None]


class _Gone(Exception):  # noqa: N818 - not an error: the end of a connection
    """The client has closed, or took too long."""


class Server:
    """Serves requests on sockets that it did not open.

    Args:
        answer: what to answer; called on any thread.
        give_back: takes the descriptor of an idle connection while the server drains.
    """

    def __init__(self, answer: Answerer, give_back: GiveBack) -> None:
        self._answer, self._give_back = answer, give_back
        self._draining = threading.Event()
        self._waker, self._woken = socket.socketpair()
        self._changed = threading.Condition()
        self._connections = 0
        self._idle: dict[int, socket.socket] = {}
        """By descriptor, the one that has been idle longest first."""
        self._listeners = 0
        self._bodies_bytes = 0

    def listen(self, listener: socket.socket) -> None:
        """Accept connections from now on."""
        listener.settimeout(0)
        with self._changed:
            self._listeners += 1
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        """Go on with a connection that is here already."""
        connection.settimeout(0)
        with self._changed:
            self._connections += 1
        try:
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        except RuntimeError as error:  # the system has no thread to spare
            sys.stderr.write(f"cannot serve a connection: {error}\n")
            connection.close()
            self._forget_connection()

    def drain(self) -> None:
        """Accept no more, finish what is under way, give idle connections back; then return."""
        self._draining.set()
        self._waker.close()  # every poll that has the other end wakes up, now and later
        with self._changed:
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._connections and not self._listeners)

    # --- threads

    def _accept(self, listener: socket.socket) -> None:
        poll = self._poll(listener, select.POLLIN)
        while not self._draining.is_set():
            poll.poll()
            self._make_room()
            if self._draining.is_set():
                break
            try:
                connection, _address = listener.accept()
            except OSError:  # another process was faster, the client is gone, or no descriptors
                self._draining.wait(_LOST_RACE_S)
                continue
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.serve(connection)
        with self._changed:
            self._listeners -= 1
            self._changed.notify_all()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._talk(connection)
        except (_Gone, OSError):
            pass
        finally:
            self._forget_connection()

    def _make_room(self) -> None:
        """Wait until one more connection may be served."""
        with self._changed:
            while self._connections >= MAX_CONNECTIONS and not self._draining.is_set():
                if self._idle:
                    oldest = self._idle.pop(next(iter(self._idle)))
                    with contextlib.suppress(OSError):  # it has gone by itself
                        oldest.shutdown(socket.SHUT_RD)  # what has come already is still answered
                self._changed.wait()

    def _forget_connection(self) -> None:
        with self._changed:
            self._connections -= 1
            self._changed.notify_all()

    def _talk(self, connection: socket.socket) -> None:
        """Answer request after request until the client or the server has enough."""
        parser = http1.Parser()
        poll = self._poll(connection, select.POLLIN)
        while True:
            if parser.idle:
                self._wait_idle(connection, poll)
                if self._draining.is_set():
                    self._give_back(connection.fileno())
                    return
            if not self._exchange(connection, parser):
                return

    def _wait_idle(self, connection: socket.socket, poll: "select.poll") -> None:
        """Wait until something comes, or the server drains."""
        with self._changed:
            self._idle[connection.fileno()] = connection
            if self._connections >= MAX_CONNECTIONS:
                self._changed.notify_all()
        try:
            if not self._draining.is_set() and not poll.poll(IDLE_S * _MILLISECONDS):
                raise _Gone
        finally:
            with self._changed:
                self._idle.pop(connection.fileno(), None)

    def _exchange(self, connection: socket.socket, parser: http1.Parser) -> bool:
        """Take one request in and answer it; false: the connection ends."""
        try:
            with self._room(parser) as room:
                received = self._receive(connection, parser, room)
                response = self._respond(received.request)
            keep_alive, head_only = received.keep_alive, received.request.method == "HEAD"
        except HttpError as error:
            response = error_response(error.status, str(error), error.headers)
            keep_alive = head_only = False
        _send(connection, http1.encode(response, keep_alive=keep_alive, head_only=head_only))
        if not keep_alive:
            _linger(connection)
        return keep_alive

    def _receive(
        self, connection: socket.socket, parser: http1.Parser, room: Callable[[], None]
    ) -> http1.Received:
        """Read until a request is whole."""
        deadline_s = time.monotonic() + REQUEST_S
        continued = False
        while (received := parser.next()) is None:
            room()
            if parser.wants_continue and not continued:
                continued = True
                _send(connection, http1.CONTINUE)
            parser.feed(_read(connection, deadline_s))
        return received

    @contextlib.contextmanager
    def _room(self, parser: http1.Parser) -> Iterator[Callable[[], None]]:
        """Count a connection's body among those under way; the yielded call updates the count.

        Raises:
            HttpError: 503, too many bytes are under way.
        """
        held = 0

        def update() -> None:
            nonlocal held
            with self._changed:
                more = parser.body_bytes - held
                if more > 0 and self._bodies_bytes + more > MAX_BODIES_BYTES:
                    raise HttpError(
                        503, "cannot infer: too many large requests are under way", _SOON
                    )
                self._bodies_bytes += more
                held += more

        try:
            yield update
        finally:
            with self._changed:
                self._bodies_bytes -= held

    def _respond(self, request: Request) -> Response:
        try:
            return self._answer(request)
        except Exception:  # noqa: BLE001 - the client gets no traceback, the log does
            sys.stderr.write(traceback.format_exc())
            return error_response(500, "cannot infer: internal error; see the agent's log")

    def _poll(self, sock: socket.socket, events: int) -> "select.poll":
        poll = select.poll()
        poll.register(sock, events)
        poll.register(self._woken, select.POLLIN)
        return poll


def _read(connection: socket.socket, deadline_s: float) -> bytes:
    while True:
        try:
            data = connection.recv(_READ_BYTES)
        except BlockingIOError:
            _wait(connection, select.POLLIN, min(STALL_S, deadline_s - time.monotonic()))
            continue
        if not data:
            raise _Gone
        return data


def _send(connection: socket.socket, data: bytes) -> None:
    view, deadline_s = memoryview(data), time.monotonic() + REQUEST_S
    while view:
        try:
            view = view[connection.send(view) :]
        except BlockingIOError:
            _wait(connection, select.POLLOUT, min(STALL_S, deadline_s - time.monotonic()))


def _wait(connection: socket.socket, events: int, timeout_s: float) -> None:
    poll = select.poll()
    poll.register(connection, events)
    if timeout_s <= 0 or not poll.poll(timeout_s * _MILLISECONDS):
        raise _Gone


def _linger(connection: socket.socket) -> None:
    """Let the client read the answer: closing with unread bytes would reset the connection."""
    connection.shutdown(socket.SHUT_WR)
    deadline_s = time.monotonic() + 1.0
    with contextlib.suppress(_Gone):
        while time.monotonic() < deadline_s:
            _wait(connection, select.POLLIN, deadline_s - time.monotonic())
            if not connection.recv(_READ_BYTES):
                return
