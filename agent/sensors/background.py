"""Readings that take time, or may never come: taken on a thread of their own, one at a time."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.errors import HungError
from agent.sensors.reading import NOTHING, Reading

log = logging.getLogger("sluice.sensors")

_SLOWEST_S = 600.0
"""However often it has failed, it is tried so often. So often, too, its failing is told."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was read. A `fault` says what of it was nonsense, and is null in the reading."""

    reading: Reading
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to read, how long one reading may take, and how many hangs are enough."""

    every_s: float
    limit_s: float
    hangs: int = 3

    @property
    def fresh_s(self) -> float:
        """So long a reading holds: until two more should have come."""
        return 2 * self.every_s + self.limit_s


@dataclass(slots=True)
class _Attempt:
    """One reading under way. Its thread sets the outcome, once, at its end."""

    begun_s: float
    outcome: Report | Exception | None = None


@dataclass(slots=True)
class Background:
    """The latest reading of a slow source, for the thread that decides: it never waits.

    A source that does not answer is not asked again before it does; one that raises is asked ever
    less often; one that has hung `pace.hangs` times in a row is left alone until the agent starts
    again. Meanwhile nothing is known. A loss is told once, and again not before ten minutes.

    Args:
        name: for a person.
        take: reads; may raise anything and take for ever.
        pace: how often, and how long.
    """

    name: str
    take: Callable[[], Report]
    pace: Pace
    _attempt: _Attempt | None = None
    _reading: Reading = NOTHING
    _read_s: float = 0.0
    _due_s: float = float("-inf")
    _failures: int = 0
    _hangs: int = 0
    _lost: bool = False
    _told_s: float = float("-inf")
    _complaints: list[str] = field(default_factory=list)

    def latest(self, now_s: float) -> Reading:
        """Return the reading that holds, and begin another one if it is time.

        Args:
            now_s: monotonic clock.
        """
        attempt = self._attempt
        if attempt is not None and attempt.outcome is not None:
            self._attempt = None
            self._finish(attempt.outcome, now_s)
        elif attempt is not None and now_s - attempt.begun_s > self.pace.limit_s:
            self._lose(f"no answer within {self.pace.limit_s:g} s", now_s)
        if self._attempt is None and now_s >= self._due_s and self._hangs < self.pace.hangs:
            self._begin(now_s)
        return self._reading if now_s - self._read_s <= self.pace.fresh_s else NOTHING

    @property
    def asks(self) -> bool:
        """Whether a reading is under way, or has come and nobody has looked at it."""
        return self._attempt is not None

    def complaints(self) -> tuple[str, ...]:
        """Return the losses that have not been told yet."""
        told, self._complaints = tuple(self._complaints), []
        return told

    def _begin(self, now_s: float) -> None:
        attempt = self._attempt = _Attempt(now_s)
        self._due_s = now_s + self.pace.every_s
        try:
            threading.Thread(target=self._run, args=(attempt,), name=self.name, daemon=True).start()
        except RuntimeError as error:  # no more threads
            attempt.outcome = error

    def _run(self, attempt: _Attempt) -> None:
        try:
            attempt.outcome = self.take()
        except BaseException as error:  # noqa: BLE001 - a stranger's code: it may even exit
            attempt.outcome = error if isinstance(error, Exception) else RuntimeError(repr(error))

    def _finish(self, outcome: Report | Exception, now_s: float) -> None:
        if isinstance(outcome, Report):
            self._failures = self._hangs = 0
            self._reading, self._read_s = outcome.reading, now_s
            if outcome.fault:
                self._lose(outcome.fault, now_s, outcome.reading)
            else:
                self._lost = False
            return
        self._failures += 1
        self._hangs = self._hangs + 1 if isinstance(outcome, HungError) else 0
        slower_s = self.pace.every_s * 2 ** min(self._failures, 10)
        self._due_s = now_s + max(self.pace.every_s, min(_SLOWEST_S, slower_s))
        self._lose(_words(outcome), now_s)
        if self._hangs >= self.pace.hangs:
            log.warning("%s has hung %d times: not asked any more", self.name, self._hangs)

    def _lose(self, why: str, now_s: float, reading: Reading = NOTHING) -> None:
        self._reading = reading
        if not self._lost and now_s - self._told_s >= _SLOWEST_S:
            self._complaints.append(f"cannot read {self.name}: {why}")
            self._told_s = now_s
        self._lost = True


def _words(error: Exception) -> str:
    """Say what was raised, at a length that an event can have."""
    text = str(error) if type(error).__module__ == "agent.errors" else repr(error)
    return text[:200]
