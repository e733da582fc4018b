"""The listening sockets of the inference endpoint: opened once, inherited by every runner.

The supervisor owns them, so that a runner that dies or is replaced refuses no connection: they wait
in the backlog.
"""

import contextlib
import errno
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.config import Config
from agent.errors import StartError

BACKLOG = 1024
_LAST_PORT = 65535
_SOCKET_MODE = 0o660


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket and the URL that reaches it."""

    socket: socket.socket
    url: str
    path: Path | None = None

    def close(self) -> None:
        """Stop listening and take the socket's file away."""
        self.socket.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def listen(config: Config) -> tuple[Listener, ...]:
    """Open the sockets that the configuration asks for.

    Raises:
        StartError: one of them cannot be had.
    """
    tcp, unix = config.inference.tcp, config.unix_path()
    listeners = [] if tcp is None else [listen_tcp(tcp)]
    if unix is not None:
        listeners.append(listen_unix(unix))
    return tuple(listeners)


def listen_tcp(address: str) -> Listener:
    """Listen on `host:port`; port 0 takes a free one.

    Raises:
        StartError: the address is none, not this machine's, or in use.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or int(port) > _LAST_PORT:
        raise StartError(f"cannot start: [inference] tcp: {address!r} is not host:port")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with _closing_on_error(socket.socket(family, kind, protocol)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            listener.listen(BACKLOG)
    except OSError as error:
        raise StartError(f"cannot start: {_why(error, address)}") from error
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return Listener(listener, f"http://{shown}:{port}/")


def listen_unix(path: Path) -> Listener:
    """Listen on a Unix socket that its group may use; a file that nobody listens on is replaced.

    Raises:
        StartError: another process listens there, or the path cannot be used.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        with _closing_on_error(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listener:
            listener.bind(str(path))
            path.chmod(_SOCKET_MODE)
            listener.listen(BACKLOG)
    except OSError as error:
        raise StartError(f"cannot start: {_why(error, str(path))}") from error
    return Listener(listener, f"unix://{path}", path)


@contextlib.contextmanager
def _closing_on_error(opened: socket.socket) -> Iterator[socket.socket]:
    try:
        yield opened
    except BaseException:
        opened.close()
        raise


def _remove_stale(path: Path) -> None:
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise FileExistsError(errno.EEXIST, "a file that is no socket is in the way")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise OSError(errno.EADDRINUSE, "in use")


def _why(error: OSError, where: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"{where} is in use; is another sluice-agent running? stop it or set another address "
            "in [inference]"
        )
    return f"{where}: {error.strerror or error}"
