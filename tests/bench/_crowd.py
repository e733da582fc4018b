"""Many clients that ask at once, and a check of every answer."""

import json
import socket
import threading
import time
from collections import Counter
from typing import Self

import numpy as np

from tests.agent.runner.cascades import Built
from tests.bench.inference import request_binary
from tests.end_to_end.stack import wait_for

_AFTER_A_REFUSAL_S = 0.05


class Crowd:
    """Clients of one cascade of two stages, `small` and `big`, of which no sample is sure.

    Every answer must be the big model's, or the small one's and marked degraded; or a 503.
    """

    def __init__(self, address: tuple[str, int], built: Built, clients: int) -> None:
        self._address, self._built = address, built
        self._stop = threading.Event()
        self._counting = threading.Lock()
        self._counted: Counter[str] = Counter()
        self.under_way = 0
        self.wrong: list[str] = []
        self._threads = [
            threading.Thread(target=self._ask, args=(number,), daemon=True)
            for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for_whole(self, count: int) -> None:
        """Wait until so many more answers of the whole cascade have come."""
        before = self._counted["whole"]
        wait_for("whole answers", lambda: self._counted["whole"] >= before + count, 60)

    def counts(self) -> str:
        """Return what came, in words."""
        kinds = ("whole", "degraded", "refused", "broken")
        told = ", ".join(f"{self._counted[kind]} {kind}" for kind in kinds)
        return f"answers: {told}, {len(self.wrong)} wrong {self.wrong[:1] or ''}"

    def _ask(self, number: int) -> None:
        requests = [request_binary(sample) for sample in self._built.x]
        while not self._stop.is_set():
            try:
                with socket.create_connection(self._address, 30) as connection:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    while not self._stop.is_set():
                        number = (number + 1) % len(requests)
                        with self._counting:
                            self.under_way += 1
                        try:
                            kind = self._judge(number, *_exchange(connection, requests[number]))
                        finally:
                            with self._counting:
                                self.under_way -= 1
                        with self._counting:
                            self._counted[kind] += 1
                        if kind == "refused":
                            time.sleep(_AFTER_A_REFUSAL_S)
            except OSError:
                self._counted["broken"] += 1
                time.sleep(_AFTER_A_REFUSAL_S)

    def _judge(self, number: int, status: int, head: bytes, body: bytes) -> str:
        if status == 503:
            return "refused"
        length = int(head.partition(b"inference-header-content-length: ")[2].split(b"\r\n")[0])
        told = json.loads(body[:length])["parameters"]
        values = np.frombuffer(body[length:], np.float32)
        expected = self._built.chances(told["stage"], number)
        degraded = told.get("degraded", False)
        if not np.array_equal(values, expected) or degraded != (told["stage"] == "small"):
            self.wrong.append(f"sample {number}: {told} {values} instead of {expected}")
        return "degraded" if degraded else "whole"


def _exchange(connection: socket.socket, request: bytes) -> tuple[int, bytes, bytes]:
    """Return status, head (in lower case) and body of one answer."""
    connection.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(1 << 16)
        if not piece:
            raise ConnectionError("the endpoint has closed")
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    head = head.lower()
    length = int(head.partition(b"\r\ncontent-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(1 << 16)
    return int(head.split(b" ")[1]), head, body
