"""May a device fetch now, and how fast? Pure: time is an argument.

Three rules. A large download waits for a battery that is full enough and a link that costs nothing;
bytes a second are a token bucket; bytes a day are counted by the UTC day. The limits of schedule
and configuration hold side by side: the lower one counts.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from pydantic import Field

from protocols.bundle import ArtifactRef
from protocols.chunks import CHUNK_BYTES
from protocols.device import WAITS, Sample
from protocols.message import Message
from protocols.schedule import Downloads

_KIB, _MIB = 1 << 10, 1 << 20
DAY_S = 86_400
_BURST_S = 1.0
"""A bucket holds what may come in this time, and one chunk at least."""


@dataclass(frozen=True, slots=True)
class Order:
    """An artifact that is wanted, and where it may be had besides the broker."""

    ref: ArtifactRef
    sources: tuple[str, ...] = ()
    small: bool = False
    """A manifest or a chunk list: it passes every limit."""
    bundle: str = field(default="", compare=False)
    """Digest of the manifest of the first bundle that needs it: what needs it together comes whole
    or not at all."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How fast, and how much; None: no limit."""

    kib_per_s: float | None = None
    mib_per_day: float | None = None

    def stricter(self, other: "Limits") -> "Limits":
        """Return the lower limits of two."""
        return Limits(
            _lower(self.kib_per_s, other.kib_per_s), _lower(self.mib_per_day, other.mib_per_day)
        )


def limits_of(downloads: Downloads) -> Limits:
    """Return the limits that a schedule sets."""
    return Limits(downloads.kib_per_s, downloads.mib_per_day)


def obstacle(left_bytes: int, downloads: Downloads, sample: Sample) -> str:
    """Say why a download must wait; empty: it need not.

    What a sensor does not say is no obstacle. The words stay the same for as long as the reason
    does, so that it is told once.

    Args:
        left_bytes: what the device has still to fetch.
        downloads: the rules.
        sample: the device now.
    """
    if left_bytes <= downloads.large_mib * _MIB:
        return ""
    what = f"{WAITS}{left_bytes / _MIB:.0f} MiB to fetch is a large download"
    percent, plugged = sample.battery_percent, sample.battery_plugged
    if percent is not None and percent < downloads.battery_percent and not plugged:
        return f"{what}, and the battery is below {downloads.battery_percent:g} % and not plugged"
    if sample.metered and not downloads.metered:
        return f"{what}, and the link is metered"
    return ""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Bytes that may be asked for now; below zero: more came than was asked for."""

    balance_bytes: float
    at_s: float


def filled(bucket: Bucket | None, kib_per_s: float, now_s: float) -> Bucket:
    """Return a bucket with what has come into it by now; None: a new one, which is full."""
    rate = kib_per_s * _KIB
    most = max(CHUNK_BYTES, rate * _BURST_S)
    if bucket is None:
        return Bucket(most, now_s)
    return Bucket(min(most, bucket.balance_bytes + rate * max(0.0, now_s - bucket.at_s)), now_s)


def taken(bucket: Bucket, count: int) -> Bucket:
    """Return a bucket without some bytes."""
    return replace(bucket, balance_bytes=bucket.balance_bytes - count)


class Spent(Message):
    """The bytes of a day, as they are kept on disk."""

    KIND: ClassVar[str] = "count of downloads"

    day: int | None = Field(None, description="days since 1970, UTC; null: no clock was set")
    fetched_bytes: int = Field(0, ge=0)


def on_day(spent: Spent, day: int | None, counted_s: float) -> Spent:
    """Return what is spent of today: another day begins at nothing.

    A clock that is set, or set back, while bytes are counted begins no new day.

    Args:
        spent: what was counted last.
        day: today; None: the wall clock is not set, and a day ends 24 hours after it began.
        counted_s: so long has this count lasted, by the monotonic clock.
    """
    if day is None:
        return Spent() if counted_s >= DAY_S else spent
    if spent.day == day:
        return spent
    if spent.day is not None and day > spent.day:
        return Spent(day=day)
    return spent.with_(day=day)


def used_up(spent: Spent, mib_per_day: float | None, count: int) -> str:
    """Say that some more bytes would be too many for the day; empty: they would not."""
    if mib_per_day is None or spent.fetched_bytes + count <= mib_per_day * _MIB:
        return ""
    until = "the next day, UTC" if spent.day is not None else "24 hours after the first of them"
    return f"{WAITS}the {mib_per_day:g} MiB of this day are used up; it goes on {until}"


def _lower(one: float | None, other: float | None) -> float | None:
    return min((limit for limit in (one, other) if limit is not None), default=None)
