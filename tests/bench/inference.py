"""What the endpoint adds to a bare `invoke`, and what moving stages costs while it is asked."""

import json
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.runner.control import Ready
from protocols.inference.runtime import open_model
from tests import models
from tests.agent.runner.cascades import Built, Piece, build
from tests.agent.runner.harness import RunnerUnderTest, running
from tests.agent.runner.samples import samples

ROUNDS, IN_A_ROUND = 60, 50
MOVES = 7

X = samples(8, 8, 8)
TINY = models.classifier(models.random_layers(64, 32, 10, seed=1), sample_shape=(8, 8, 1))
BIG = models.classifier(models.random_layers(64, 2000, 2000, 10, seed=2))


class Wire:
    """A keep-alive connection that sends bytes made beforehand: it costs next to nothing itself."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        """Return the body of an answer; it must be a 200."""
        self._socket.sendall(request)
        received = self._socket.recv(1 << 16)
        head, _, body = received.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ValueError(f"the endpoint answered {received!r}")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += self._socket.recv(1 << 16)
        return body

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


def request_json(sample: NDArray[np.float32]) -> bytes:
    """Return an inference request whose data are JSON."""
    tensor = {"name": "x", "datatype": "FP32", "shape": list(sample.shape), "data": sample.tolist()}
    return _post(json.dumps({"inputs": [tensor]}).encode(), b"")


def request_binary(sample: NDArray[np.float32]) -> bytes:
    """Return an inference request whose data, and those of its answer, are binary."""
    size = {"binary_data_size": sample.nbytes}
    tensor = {"name": "x", "datatype": "FP32", "shape": list(sample.shape), "parameters": size}
    document = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    return _post(json.dumps(document).encode(), sample.tobytes())


def main() -> None:
    """Print the endpoint's medians beside the bare interpreter's, then the cost of moves."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _endpoint(build(folder, [Piece("only", TINY)], X))
        pieces = [Piece("small", TINY, "max_prob", 2.0), Piece("big", BIG)]
        _moves(build(folder, pieces, X))


def _endpoint(built: Built) -> None:
    variant = built.bundle.stages[0].variants[0]
    model = open_model(built.folder / variant.artifact.sha256)
    given = [X[0].reshape(model.inputs[0].shape)]
    with _serving(built) as runner:
        wire = Wire(runner.address)
        as_json, as_binary = request_json(X[0]), request_binary(X[0])
        ways: dict[str, Callable[[], object]] = {
            "bare invoke": lambda: model.run(given),
            "health (HTTP alone)": lambda: wire.ask(b"GET /v2/health/live HTTP/1.1\r\n\r\n"),
            "endpoint, binary": lambda: wire.ask(as_binary),
            "endpoint, JSON": lambda: wire.ask(as_json),
        }
        took: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS):  # interleaved: what else the machine does hits all alike
            for way, run in ways.items():
                took[way] += [_timed_us(run) for _ in range(IN_A_ROUND)]
        wire.close()
    print(f"a tiny model ({len(TINY) / 1e3:.0f} KB), one client, one thread, microseconds")
    for way, times_us in took.items():
        p95_us = statistics.quantiles(times_us, n=20)[-1]
        print(f"  {way:20} p50 {statistics.median(times_us):7.0f}   p95 {p95_us:7.0f}")


def _moves(built: Built) -> None:
    with _serving(built) as runner, _asking(runner) as answered_ms:
        changes, loads, unloads, returned = [], [], [], []
        for number in range(MOVES):
            runner.apply(built.plan("resident", "resident", nice=1 + number % 2))
            changes.append(runner.change("threads", "big").took_ms)
            runner.apply(built.plan("resident", "out", nice=1 + number % 2))
            gone = runner.change("unloaded", "big")
            unloads.append(gone.took_ms)
            returned.append((gone.returned_bytes or 0) / 2**20)
            runner.apply(built.plan("resident", "resident", nice=1 + number % 2))
            loads.append(runner.change("loaded", "big").took_ms)
    print(f"a {len(BIG) / 1e6:.0f} MB stage moved while one client asks, medians of {MOVES}")
    print(f"  change of threads    {statistics.median(changes):7.1f} ms")
    print(f"  unload               {statistics.median(unloads):7.1f} ms", end="")
    print(f"   ({statistics.median(returned):.1f} MiB came back)")
    print(f"  load                 {statistics.median(loads):7.1f} ms")
    p95_ms = statistics.quantiles(answered_ms, n=20)[-1]
    print(
        f"  answers meanwhile    p50 {statistics.median(answered_ms):.2f} ms, p95 {p95_ms:.2f} ms",
        end="",
    )
    print(f", longest {max(answered_ms):.1f} ms, {len(answered_ms)} in all, none failed")


@contextmanager
def _serving(built: Built) -> Iterator[RunnerUnderTest]:
    with running() as runner:
        runner.assign((built.assignment(), built.plan()))
        runner.expect(Ready)
        runner.take()
        yield runner


@contextmanager
def _asking(runner: RunnerUnderTest) -> Iterator[list[float]]:
    """Ask all the time; yield the milliseconds of each answer."""
    stop, took_ms = threading.Event(), list[float]()

    def ask() -> None:
        wire, request = Wire(runner.address), request_binary(X[0])
        while not stop.is_set():
            took_ms.append(_timed_us(lambda: wire.ask(request)) / 1e3)
        wire.close()

    thread = threading.Thread(target=ask)
    thread.start()
    yield took_ms
    stop.set()
    thread.join()


def _timed_us(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) * 1e6


def _post(header: bytes, tail: bytes) -> bytes:
    head = (
        "POST /v2/models/digits/infer HTTP/1.1\r\n"
        f"Content-Length: {len(header) + len(tail)}\r\n"
        f"Inference-Header-Content-Length: {len(header)}\r\n\r\n"
    )
    return head.encode() + header + tail


if __name__ == "__main__":
    main()
