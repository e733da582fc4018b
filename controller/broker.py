"""The embedded broker: mosquitto where it is installed, else amqtt. For a laptop, demo and tests.

It lets everybody in, so it listens on loopback unless a person asks for more; a fleet's own broker
is set up with `ctl broker config`. mosquitto keeps retained documents on disk and writes them every
second, so that not even a SIGKILL loses older ones; amqtt keeps nothing.
"""

import contextlib
import ipaddress
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from controller.errors import BrokerError

Kind = Literal["mosquitto", "amqtt"]

LOOPBACK = "127.0.0.1"
READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
MESSAGE_SIZE_LIMIT_BYTES = 2 << 20
"""Room for the largest document of 1 MiB in base64, far above a chunk of 64 KiB."""

_SBIN = "/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"
_ATTEMPTS = 3


@dataclass(slots=True)
class EmbeddedBroker:
    """A broker process that we started."""

    kind: Kind
    host: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """What a client connects to."""
        host = LOOPBACK if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 - compared
        return f"mqtt://[{host}]:{self.port}" if ":" in host else f"mqtt://{host}:{self.port}"

    @property
    def persistent(self) -> bool:
        """Whether retained documents survive a restart."""
        return self.kind == "mosquitto"

    def stop(self) -> None:
        """End it, the kind way first."""
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def find_mosquitto() -> str | None:
    """Return where mosquitto is: Debian keeps it where only root's PATH leads."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=_SBIN)


def start_broker(
    data_dir: Path,
    *,
    host: str = LOOPBACK,
    port: int = 0,
    kind: Kind | None = None,
    everywhere: bool = False,
) -> EmbeddedBroker:
    """Start a broker and return once it accepts connections; it ends with this process.

    Args:
        data_dir: for its configuration, log and retained documents; made if it is not there.
        host: address to listen on.
        port: 0 takes a free one.
        kind: None takes mosquitto if it is installed, else amqtt.
        everywhere: allow a host that other machines can reach: anybody may then publish there.

    Raises:
        BrokerError: it cannot be started, with the reason.
    """
    if not everywhere and not _is_loopback(host):
        raise BrokerError(
            f"cannot start the embedded broker on {host}: it lets everybody in, so without "
            "--insecure it listens on 127.0.0.1 alone; for a network that is not all yours set up "
            "a broker with ctl broker config"
        )
    chosen = kind or ("mosquitto" if find_mosquitto() else "amqtt")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BrokerError(f"cannot start the embedded broker in {data_dir}: {error}") from error
    for attempt in range(1, _ATTEMPTS + 1):
        free = port or _free_port(host)
        _check_free(host, free)
        try:
            return _start(chosen, host, free, data_dir)
        except BrokerError:
            if port or attempt == _ATTEMPTS:  # a free port may be taken before we have it
                raise
    raise AssertionError("unreachable")


@contextlib.contextmanager
def embedded_broker(
    *,
    host: str = LOOPBACK,
    port: int = 0,
    data_dir: Path | None = None,
    kind: Kind | None = None,
) -> Iterator[str]:
    """Run a broker inside the block; yield its URL. Arguments as for `start_broker`.

    Without a `data_dir` nothing stays afterwards.
    """
    with contextlib.ExitStack() as stack:
        if data_dir is None:
            data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-")))
        broker = start_broker(data_dir, host=host, port=port, kind=kind)
        stack.callback(broker.stop)
        yield broker.url


def run_broker(
    data_dir: Path,
    *,
    host: str = LOOPBACK,
    port: int = 0,
    kind: Kind | None = None,
    everywhere: bool = False,
    started: Callable[[EmbeddedBroker], None] = lambda _: None,
) -> None:
    """Run a broker until SIGTERM or SIGINT, on the main thread.

    Its arguments are those of `start_broker`, and `started`, which is called once the broker
    accepts connections.

    Raises:
        BrokerError: it cannot be started, or ended by itself.
    """
    stopped = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stopped.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        broker = start_broker(data_dir, host=host, port=port, kind=kind, everywhere=everywhere)
        try:
            started(broker)
            while not stopped.wait(0.5):
                if broker.process.poll() is not None:
                    raise BrokerError(_ended(broker.kind, broker.process, data_dir))
        finally:
            broker.stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(kind: Kind, host: str, port: int, data_dir: Path) -> EmbeddedBroker:
    command = _mosquitto(host, port, data_dir) if kind == "mosquitto" else _amqtt(host, port)
    with _log(kind, data_dir).open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "controller.tether", str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C in a terminal is for us: the broker ends when we say so.
            process_group=0,
        )
    broker = EmbeddedBroker(kind, host, port, process)
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not _accepts(host, port):
        if process.poll() is not None:
            raise BrokerError(_ended(kind, process, data_dir))
        if time.monotonic() > deadline:
            broker.stop()
            raise BrokerError(
                f"cannot start {kind} on {host}:{port}: it does not accept connections after "
                f"{READY_TIMEOUT_S:g} s; see {_log(kind, data_dir)}"
            )
        time.sleep(0.01)
    return broker


def _mosquitto(host: str, port: int, data_dir: Path) -> list[str]:
    binary = find_mosquitto()
    if binary is None:
        raise BrokerError(
            "cannot start mosquitto: it is not on PATH; install it, or pip install 'amqtt<0.13' "
            "for amqtt"
        )
    config = data_dir / "mosquitto.conf"
    try:
        config.write_text(_mosquitto_config(host, port, data_dir.absolute()))
    except OSError as error:
        raise BrokerError(f"cannot write {config}: {error}") from error
    return [binary, "-c", str(config)]


def _mosquitto_config(host: str, port: int, data_dir: Path) -> str:
    lines = (
        f"user {pwd.getpwuid(os.getuid()).pw_name}",
        f"listener {port} {host}",
        "allow_anonymous true",
        "set_tcp_nodelay true",
        f"message_size_limit {MESSAGE_SIZE_LIMIT_BYTES}",
        "max_queued_messages 0",
        "persistence true",
        f"persistence_location {data_dir}/",
        "autosave_interval 1",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
    )
    return "".join(f"{line}\n" for line in lines)


def _amqtt(host: str, port: int) -> list[str]:
    if find_spec("amqtt") is None:
        raise BrokerError(
            "cannot start the embedded broker: neither mosquitto nor amqtt is installed; install "
            "mosquitto, or pip install 'amqtt<0.13'"
        )
    return [sys.executable, "-m", "controller.amqtt_broker", host, str(port)]


def _ended(kind: Kind, process: subprocess.Popen[bytes], data_dir: Path) -> str:
    log = _log(kind, data_dir)
    said = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return (
        f"cannot run {kind}: it ended with code {process.returncode}"
        f"{f' ({said[-1][:200]})' if said else ''}; see {log}"
    )


def _log(kind: Kind, data_dir: Path) -> Path:
    return data_dir / f"{kind}.log"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _free_port(host: str) -> int:
    with socket.create_server((host, 0), family=_family(host)) as server:
        port: int = server.getsockname()[1]
        return port


def _check_free(host: str, port: int) -> None:
    """Bind the port once: else we might take another's broker there for our own."""
    try:
        socket.create_server((host, port), family=_family(host)).close()
    except OSError as error:
        raise BrokerError(
            f"cannot start the embedded broker on {host}:{port}: {error.strerror}; choose another "
            "--port, or 0 for a free one"
        ) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True
