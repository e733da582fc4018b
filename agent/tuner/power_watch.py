"""Power while something else runs: read on a thread of its own, a few times a second."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from agent.tuner.energy import SPANS, Span
from protocols.profile import EnergyMethod

_EVERY_S = 0.2
_LAST_WITHIN_S = 10.0
"""A reading under way is waited for so long: Android's takes its time."""


class Readable(Protocol):
    """What `agent.sensors.power_now.PowerReader` is."""

    @property
    def method(self) -> EnergyMethod | None:
        """By which power is found; None: nothing tells it."""

    def watts(self) -> float | None:
        """Return what the whole device takes now."""


class PowerWatch:
    """Watches the device's power.

    Args:
        reader: whose `watts` may take a while.
        method: the reader's.
    """

    def __init__(self, reader: Readable, method: EnergyMethod) -> None:
        self._reader, self.method = reader, method
        self.span: Span = SPANS[method]

    def idle_w(self) -> list[float]:
        """Watch while nothing runs; return the readings once they have settled."""
        with self.watching() as readings:
            began_s = time.perf_counter()
            time.sleep(self.span.seconds)
        return within(readings, began_s + self.span.settle_s, began_s + self.span.seconds)

    @contextmanager
    def watching(self) -> Iterator[list[tuple[float, float]]]:
        """Collect readings, with their time by `perf_counter`, until the end."""
        readings: list[tuple[float, float]] = []
        over = threading.Event()
        thread = threading.Thread(target=self._collect, args=(readings, over), daemon=True)
        thread.start()
        try:
            yield readings
        finally:
            over.set()
            thread.join(_LAST_WITHIN_S)

    def _collect(self, readings: list[tuple[float, float]], over: threading.Event) -> None:
        while not over.is_set():
            asked_s, watts = time.perf_counter(), self._reader.watts()
            if watts is not None:
                readings.append((asked_s, watts))
            over.wait(_EVERY_S)


def within(readings: list[tuple[float, float]], begin_s: float, end_s: float) -> list[float]:
    """Return the watts that were read in a span of time."""
    return [watts for time_s, watts in readings if begin_s <= time_s <= end_s]
