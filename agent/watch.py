"""Tells when a sensor that worked gives nothing any more."""

from agent.reporting.publisher import Publisher
from protocols.device import Sample
from protocols.schedule import LADDER_OF, Signal


class LossWatch:
    """Remembers which of the governor's signals this machine has shown."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._seen: set[Signal] = set()

    def look(self, sample: Sample) -> None:
        """Say once which signals are gone; one that comes back may be lost again."""
        for signal in LADDER_OF:
            if getattr(sample, signal) is not None:
                self._seen.add(signal)
            elif signal in self._seen:
                self._seen.discard(signal)
                self._publisher.event(
                    "sensor-lost",
                    f"{signal} cannot be read any more: no recovery on its ladder until it can",
                )
