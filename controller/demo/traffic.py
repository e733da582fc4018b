"""Clients of the demo: real test images, streamed through a device's inference endpoint."""

import http.client
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_UNAVAILABLE = 503
_OK = 200


@dataclass(frozen=True)
class Answer:
    """One image and what came back for it. `predicted` is None where there was no answer."""

    scene: str
    label: int
    predicted: int | None
    took_ms: float
    stage: str | None
    degraded: bool
    refusal: str | None = None
    failure: str | None = None


@dataclass
class Client:
    """One keep-alive connection to a device that posts an image every `interval_s`."""

    address: tuple[str, int]
    cascade: str
    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    interval_s: float
    scene: str = ""
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._connection = http.client.HTTPConnection(*self.address, timeout=20)
        self._bodies: list[str] = []

    def prepare(self) -> None:
        """Ask what the input is called and make the bodies of all requests."""
        self._connection.request("GET", f"/v2/models/{self.cascade}")
        metadata = json.loads(self._connection.getresponse().read())
        name = metadata["inputs"][0]["name"]
        self._bodies = [_body(name, image) for image in self.images]

    def start(self) -> None:
        """Stream in the background."""
        self._thread.start()

    def stop(self) -> None:
        """End after the request that is under way."""
        self._stop.set()
        self._thread.join()
        self._connection.close()

    def ask_each_once(self, scene: str, count: int) -> Sequence[Answer]:
        """Post `count` images one after the other, without a pause."""
        return [self._ask(scene, number % len(self.images)) for number in range(count)]

    def _run(self) -> None:
        number = 0
        due = time.monotonic()
        while not self._stop.is_set():
            self.answers.append(self._ask(self.scene, number % len(self.images)))
            number += 1
            due = max(due + self.interval_s, time.monotonic() - self.interval_s)
            self._stop.wait(max(0.0, due - time.monotonic()))

    def _ask(self, scene: str, index: int) -> Answer:
        label = int(self.labels[index])
        start = time.perf_counter()
        try:
            status, document = self._post(self._bodies[index])
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            failure = f"{type(error).__name__}: {error}"
            return Answer(scene, label, None, 0.0, None, degraded=False, failure=failure)
        took_ms = (time.perf_counter() - start) * 1000
        why = str(document.get("error", ""))
        if status == _UNAVAILABLE:
            return Answer(scene, label, None, took_ms, None, degraded=False, refusal=why)
        if status != _OK:
            failure = f"{status} {why}"
            return Answer(scene, label, None, took_ms, None, degraded=False, failure=failure)
        parameters = document["parameters"]
        return Answer(
            scene,
            label,
            int(np.argmax(document["outputs"][0]["data"])),
            took_ms,
            str(parameters["stage"]),
            degraded=bool(parameters["degraded"]),
        )

    def _post(self, body: str) -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", f"/v2/models/{self.cascade}/infer", body, headers)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())


def _body(name: str, image: NDArray[np.float32]) -> str:
    return json.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "shape": [1, *image.shape],
                    "datatype": "FP32",
                    "data": [float(value) for value in image.ravel()],
                }
            ]
        }
    )
