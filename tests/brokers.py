"""A real broker for a test: mosquitto where it is installed, else the embedded amqtt."""

import contextlib
import getpass
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from controller.broker import Kind, embedded_broker, find_mosquitto


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running_broker(
    folder: Path, port: int | None = None, kind: Kind | None = None, more: str = ""
) -> Iterator[str]:
    """Run a broker with a configuration of its own; yield its URL.

    Args:
        folder: for its configuration and log.
        port: None takes a free one.
        kind: None takes mosquitto if it is installed.
        more: lines for mosquitto's configuration, after those that let everybody in.
    """
    binary = find_mosquitto()
    if kind == "amqtt" or (kind is None and binary is None):
        with embedded_broker(data_dir=folder, port=port or 0, kind="amqtt") as url:
            yield url
        return
    port = port or free_port()
    config = folder / f"mosquitto-{port}.conf"
    config.write_text(
        f"user {getpass.getuser()}\nlistener {port} 127.0.0.1\nallow_anonymous true\n"
        f"set_tcp_nodelay true\nmax_queued_messages 0\n{more}"
    )
    assert binary is not None, "mosquitto is not installed"
    with running([binary, "-c", str(config)], folder / f"mosquitto-{port}.log", port):
        yield f"mqtt://127.0.0.1:{port}"


@contextlib.contextmanager
def running(command: list[str], log: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a broker's process; yield it once it listens."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 20
        while not accepts(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start: {log.read_text()}")
            time.sleep(0.01)
        yield process
    finally:
        process.terminate()
        process.wait(10)
