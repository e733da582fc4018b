"""What the device says: status, inventory, telemetry, events and its reported document."""

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from protocols.device import (
    CascadeStats,
    Event,
    EventKind,
    Inventory,
    Reported,
    Rungs,
    Sample,
    Status,
    Telemetry,
)
from protocols.topics import DeviceKind, Topics

log = logging.getLogger("sluice.events")

_EVENTS_KEPT = 256
"""Events of the time without a broker that are kept: the newest."""

_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / (1 << 20)


class Publish(Protocol):
    """What `Link.publish` is."""

    def __call__(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Publish without waiting."""


class Publisher:
    """Publishes for one device. Without a broker events are kept, and the last report waits.

    Args:
        publish: takes topic, payload, QoS and whether it is retained.
        topics: of the fleet.
        will: the status of this run of the agent once it is gone: who we are.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        publish: Publish,
        topics: Topics,
        will: Status,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._publish, self._topics, self._will = publish, topics, will
        self._device, self._boot_id = will.device, will.boot_id
        self._clock = clock
        self._started_s = time.monotonic()
        self._events: deque[Event] = deque(maxlen=_EVENTS_KEPT)
        self._event_seq = 0
        self._telemetry_seq = 0
        self._reported = b""
        self._online = False

    def connected(self, inventory: Inventory) -> None:
        """Say all that a new connection must know, in the order in which readers want it."""
        self._online = True
        self.say_online()
        self.describe(inventory)
        if self._reported:
            self._send("reported", self._reported, retain=True)
        while self._events:
            self._send("events", self._events.popleft().encode())

    def describe(self, inventory: Inventory) -> None:
        """Publish the retained inventory; without a broker the next connection brings it."""
        if self._online:
            self._send("inventory", inventory.encode(), retain=True)

    def disconnected(self) -> None:
        """Keep events from now on."""
        self._online = False

    def say_online(self) -> None:
        """Publish the retained status."""
        self._send("status", self._will.with_(online=True).encode(), retain=True)

    def say_offline(self) -> None:
        """Publish the retained status of an agent that ends on purpose."""
        if self._online:
            self._send("status", self._will.encode(), retain=True)

    def report(self, reported: Reported) -> None:
        """Publish the reported document if it says something new."""
        payload = reported.encode()
        if payload == self._reported:
            return
        self._reported = payload
        if self._online:
            self._send("reported", payload, retain=True)

    def event(
        self,
        kind: EventKind,
        message: str,
        *,
        cascade: str | None = None,
        stage: str | None = None,
        returned_bytes: int | None = None,
    ) -> None:
        """Say that something happened, and why."""
        log.info("%s: %s", kind, message)
        event = Event(
            device=self._device,
            boot_id=self._boot_id,
            seq=self._event_seq,
            ts=self._clock(),
            kind=kind,
            cascade=cascade,
            stage=stage,
            message=message,
            returned_bytes=returned_bytes,
        )
        self._event_seq += 1
        if self._online:
            self._send("events", event.encode())
        else:
            self._events.append(event)

    def measure(
        self,
        sample: Sample,
        rungs: Rungs,
        cascades: tuple[CascadeStats, ...],
        runner_rss_mib: float | None,
    ) -> None:
        """Publish telemetry; without a broker it is lost, as every measurement of the past."""
        if not self._online:
            return
        telemetry = Telemetry(
            device=self._device,
            boot_id=self._boot_id,
            seq=self._telemetry_seq,
            ts=self._clock(),
            clock_synced=clock_synced(),
            uptime_s=round(time.monotonic() - self._started_s, 3),
            sample=sample,
            rungs=rungs,
            cascades=cascades,
            supervisor_rss_mib=own_rss_mib(),
            runner_rss_mib=runner_rss_mib,
        )
        self._telemetry_seq += 1
        self._publish(self._topics.device(self._device, "telemetry"), telemetry.encode(), qos=0)

    def _send(self, kind: DeviceKind, payload: bytes, *, retain: bool = False) -> None:
        self._publish(self._topics.device(self._device, kind), payload, qos=1, retain=retain)


def own_rss_mib() -> float | None:
    """Return this process's resident memory; None where /proc does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - every 5 s
            return round(int(file.read().split()[1]) * _PAGE_MIB, 2)
    except (OSError, IndexError, ValueError):
        return None


def synced_time_s() -> float | None:
    """Return Unix time in seconds; None while nothing says that the clock is right."""
    return time.time() if clock_synced() else None


def clock_synced() -> bool | None:
    """Return whether the kernel calls its clock synchronized (adjtimex); None: it does not tell."""
    try:
        import ctypes  # noqa: PLC0415

        buffer = (ctypes.c_char * 512)()
        state = ctypes.CDLL(None).adjtimex(buffer)
    except (ImportError, OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


_TIME_ERROR = 5
"""What adjtimex returns while the clock is not synchronized."""
