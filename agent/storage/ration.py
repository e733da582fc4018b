"""Counts what is fetched against the limits, and remembers a day's bytes across restarts."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from agent.errors import WaitError
from agent.storage.allowance import DAY_S, Bucket, Limits, Spent, filled, on_day, taken, used_up
from agent.storage.files import DISK, Disk, write_atomically
from protocols.errors import MessageError

log = logging.getLogger("sluice.fetch")

_CLOCK_SET_AFTER_S = 1.7e9
"""As in the inner loop: a wall clock before this has not been set since the machine started."""

_WRITE_EVERY_BYTES = 1 << 20
"""So much a kill may leave uncounted."""


class Ration:
    """A `protocols.pull.Meter` for one thread. `limits` may be set from another.

    Args:
        path: where the day's bytes are kept.
        disk: that is written to.
        now: monotonic clock.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        path: Path,
        disk: Disk = DISK,
        now: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._disk, self._now, self._clock = path, disk, now, clock
        self.limits = Limits()
        self._bucket: Bucket | None = None
        self._spent = self._written = self._read()
        self._since_s = now()

    def may_take(self, count: int) -> bool:
        """Whether so many bytes may be asked for now; if so, they are counted.

        Raises:
            WaitError: not before another day.
        """
        limits = self.limits
        self.check_day(count)
        if limits.kib_per_s is not None:
            self._bucket = filled(self._bucket, limits.kib_per_s, self._now())
            if self._bucket.balance_bytes < count:
                return False
        self.correct(count)
        return True

    def check_day(self, count: int) -> None:
        """Check that the day has so many bytes left; none are counted.

        Raises:
            WaitError: it has not.
        """
        self._begin_day()
        if why := used_up(self._spent, self.limits.mib_per_day, count):
            raise WaitError(why)

    def correct(self, count: int) -> None:
        """Count so many bytes more, or fewer, than were asked for."""
        if not count:
            return
        if self._bucket is not None:
            self._bucket = taken(self._bucket, count)
        fetched = max(0, self._spent.fetched_bytes + count)
        self._spent = self._spent.with_(fetched_bytes=fetched)
        if abs(fetched - self._written.fetched_bytes) >= _WRITE_EVERY_BYTES:
            self.settle()

    def settle(self) -> None:
        """Write the count down, where a day has a limit: it costs the disk two flushes.

        A disk that is full takes it later, and fetches nothing anyway.
        """
        if self._spent == self._written or self.limits.mib_per_day is None:
            return
        try:
            write_atomically(self._path, self._spent.encode(), self._disk)
        except OSError as error:
            log.warning("cannot write %s: %s", self._path, error.strerror)
        self._written = self._spent

    def _begin_day(self) -> None:
        ts, now_s = self._clock(), self._now()
        day = int(ts // DAY_S) if ts >= _CLOCK_SET_AFTER_S else None
        spent = on_day(self._spent, day, now_s - self._since_s)
        if spent.fetched_bytes < self._spent.fetched_bytes:
            self._since_s = now_s
        self._spent = spent

    def _read(self) -> Spent:
        try:
            return Spent.decode(self._path.read_bytes())
        except FileNotFoundError:
            return Spent()
        except (OSError, MessageError) as error:
            log.warning("%s; this day's bytes are counted from nothing", error)
            return Spent()


class Free:
    """Counts like a ration and refuses nothing: for manifests and chunk lists."""

    def __init__(self, ration: Ration) -> None:
        self._ration = ration

    def may_take(self, count: int) -> bool:
        """Count some bytes."""
        self._ration.correct(count)
        return True

    def correct(self, count: int) -> None:
        """Count so many bytes more, or fewer, than were asked for."""
        self._ration.correct(count)
