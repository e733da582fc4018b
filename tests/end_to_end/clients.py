"""Clients of the inference endpoint, as other people's programs would be."""

import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answer:
    """What came back for one request."""

    status: int
    document: dict[str, Any]
    at_s: float

    @property
    def top1(self) -> int:
        """The class with the highest score."""
        return int(np.argmax(self.document["outputs"][0]["data"]))

    @property
    def version(self) -> str:
        """The bundle version that answered."""
        return str(self.document["model_version"])


def infer(
    connection: http.client.HTTPConnection, cascade: str, sample: NDArray[Any], datatype: str
) -> Answer:
    """Post one sample in JSON and return the answer."""
    body = {
        "inputs": [
            {
                "name": "x",
                "datatype": datatype,
                "shape": [1, *sample.shape],
                "data": sample.ravel().tolist(),
            }
        ]
    }
    connection.request(
        "POST",
        f"/v2/models/{cascade}/infer",
        json.dumps(body),
        {"Content-Type": "application/json"},
    )
    response = connection.getresponse()
    return Answer(response.status, json.loads(response.read()), time.monotonic())


@dataclass
class Load:
    """One keep-alive connection that asks again and again until it is told to stop.

    A connection that breaks is opened anew: `broken` counts those, `refused` those that could not
    be opened at all.
    """

    address: tuple[str, int]
    cascade: str
    samples: NDArray[Any]
    answers: list[tuple[int, Answer]] = field(default_factory=list)
    broken: list[float] = field(default_factory=list)
    refused: int = 0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        number = 0
        while not self._stop.is_set():
            try:
                if connection.sock is None:
                    connection.connect()
            except ConnectionError:
                self.refused += 1
                time.sleep(0.01)
                continue
            index = number % len(self.samples)
            try:
                answer = infer(connection, self.cascade, self.samples[index], "FP32")
            except (ConnectionError, http.client.HTTPException):
                self.broken.append(time.monotonic())
                connection.close()
                continue
            self.answers.append((index, answer))
            number += 1
        connection.close()
