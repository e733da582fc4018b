"""A real runner process and the supervisor's end of its channel."""

import contextlib
import http.client
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from numpy.typing import NDArray

from agent.runner import blackbox
from agent.runner.channel import Channel
from agent.runner.control import (
    FROM_RUNNER,
    Apply,
    AskStats,
    Assign,
    Assignment,
    CascadePlan,
    FromRunner,
    StageChanged,
    Stats,
    Take,
    ToRunner,
)
from protocols.device import CascadeStats

Found = TypeVar("Found", bound=FromRunner)
DEADLINE_S = 30.0


def wait_for(what: str, look: Callable[[], bool], timeout_s: float = DEADLINE_S) -> None:
    """Look again and again until it is so."""
    deadline = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.005)


def listen() -> socket.socket:
    """Return a listening socket on a free port of this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.listen(128)
    return listener


@dataclass
class RunnerUnderTest:
    """One runner process."""

    process: subprocess.Popen[bytes]
    channel: Channel
    listener: socket.socket
    blackbox: int
    seen: list[FromRunner] = field(default_factory=list)
    handed: list[int] = field(default_factory=list)
    clients: list["Client"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._inbox: queue.SimpleQueue[FromRunner | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while (received := self.channel.receive()) is not None:
            payload, fds = received
            self.handed += fds
            self._inbox.put(FROM_RUNNER.validate_json(payload))
        self._inbox.put(None)

    @property
    def address(self) -> tuple[str, int]:
        """Where it answers."""
        host, port = self.listener.getsockname()
        return host, port

    def say(self, message: ToRunner, *fds: int) -> None:
        self.channel.send(message, fds)

    def expect(self, kind: type[Found], timeout_s: float = DEADLINE_S) -> Found:
        """Wait for the next message of a kind; others are kept in `seen`."""
        deadline = time.monotonic() + timeout_s
        while True:
            message = self._inbox.get(timeout=max(0.01, deadline - time.monotonic()))
            assert message is not None, f"the runner ended, no {kind.__name__}: {self.seen}"
            self.seen.append(message)
            if isinstance(message, kind):
                return message

    def change(self, change: str, stage: str) -> StageChanged:
        """Wait for a stage to be loaded, unloaded or retuned."""
        while True:
            event = self.expect(StageChanged)
            if (event.change, event.stage) == (change, stage):
                return event

    def assign(self, *pairs: tuple[Assignment, CascadePlan]) -> None:
        self.say(
            Assign(assignments=tuple(a for a, _ in pairs), plans=tuple(plan for _, plan in pairs))
        )

    def apply(self, *plans: CascadePlan, cause: str = "test") -> None:
        self.say(Apply(plans=plans, cause=cause))

    def take(self) -> None:
        self.say(Take())

    def stats(self) -> CascadeStats:
        """Return the statistics of its first cascade."""
        self.say(AskStats())
        return self.expect(Stats).cascades[0]

    def stats_rss_mib(self) -> float:
        """Return the process's resident set."""
        self.say(AskStats())
        return self.expect(Stats).rss_mib

    def client(self) -> "Client":
        """Return a new keep-alive connection, closed when the test ends."""
        client = Client(http.client.HTTPConnection(*self.address, timeout=DEADLINE_S))
        self.clients.append(client)
        return client

    def wait(self) -> int:
        return self.process.wait(DEADLINE_S)


@dataclass
class Client:
    """One keep-alive connection."""

    connection: http.client.HTTPConnection

    def ask(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, body, named)
        response = self.connection.getresponse()
        content = response.read()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, content

    def infer(self, cascade: str, sample: NDArray[Any], datatype: str = "FP32") -> tuple[int, Any]:
        """Ask in JSON for one sample without a batch axis."""
        tensor = {
            "name": "x",
            "datatype": datatype,
            "shape": list(sample.shape),
            "data": sample.ravel().tolist(),
        }
        body = json.dumps({"inputs": [tensor]}).encode()
        status, _headers, content = self.ask("POST", f"/v2/models/{cascade}/infer", body)
        return status, json.loads(content)


@contextlib.contextmanager
def running(listener: socket.socket | None = None) -> Iterator[RunnerUnderTest]:
    """Start a runner and end it afterwards."""
    own = listener is None
    listener = listener or listen()
    ours, theirs = socket.socketpair()
    box = blackbox.create()
    process = subprocess.Popen(
        [
            sys.executable,
            *("-m", "agent.runner", "--control", str(theirs.fileno())),
            *("--listen", str(listener.fileno()), "--blackbox", str(box)),
        ],
        pass_fds=(theirs.fileno(), listener.fileno(), box),
    )
    theirs.close()
    runner = RunnerUnderTest(process, Channel(ours), listener, box)
    try:
        yield runner
    finally:
        process.kill()
        process.wait()
        runner._reader.join(DEADLINE_S)
        ours.close()
        os.close(box)
        for client in runner.clients:
            client.connection.close()
        for fd in runner.handed:
            with contextlib.suppress(OSError):
                os.close(fd)
        if own:
            listener.close()
