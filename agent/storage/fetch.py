"""Fetching artifacts, on a thread and over sessions that live only while something is missing."""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Literal

from agent.errors import StoreError, WaitError
from agent.inbox import FetchDone, FetchFailed, FetchProgress, FetchWaits
from agent.storage.allowance import Limits, Order
from agent.storage.artifacts import ArtifactStore
from agent.storage.download import Courier, Terms
from protocols.bundle import ArtifactRef
from protocols.errors import ArtifactError, LinkError
from protocols.link import Broker
from protocols.pull import Puller
from protocols.topics import Topics

log = logging.getLogger("sluice.fetch")

_PROGRESS_EVERY_S = 0.5
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0
_JITTER_S_PER_MIB = 1.0
"""What is small may come at once: spreading it gains nothing, and a person waits for it."""

_MIB = 1 << 20

Post = Callable[[FetchDone | FetchFailed | FetchProgress | FetchWaits], None]


class CancelledError(Exception):
    """What is being fetched is no longer wanted."""


class Fetcher:
    """Fetches what is wanted, one artifact after the other, until it is here.

    Args:
        broker: where the chunks are.
        topics: of the fleet.
        device: for the session's name.
        store: where the artifacts go.
        post: takes the messages; called on the fetching thread.
        terms: what downloads are bound to.
        jitter_s: the longest wait before a fetch begins; spreads a fleet.
        own: limits that hold beside those of the schedule.
    """

    def __init__(  # noqa: PLR0913 - what a fetch consists of
        self,
        broker: Broker,
        topics: Topics,
        device: str,
        store: ArtifactStore,
        post: Post,
        terms: Terms,
        *,
        jitter_s: float,
        own: Limits = Limits(),  # noqa: B008 - frozen
    ) -> None:
        self._broker, self._topics, self._device = broker, topics, device
        self._store, self._post, self._terms = store, post, terms
        self._jitter_s, self._own = jitter_s, own
        self._wanted: tuple[Order, ...] = ()
        self._donors: tuple[ArtifactRef, ...] = ()
        self._current: Order | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def limit(self, limits: Limits) -> None:
        """Keep to these limits, and to our own, from now on."""
        self._terms.ration.limits = limits.stricter(self._own)

    def want(self, orders: tuple[Order, ...], donors: tuple[ArtifactRef, ...] = ()) -> None:
        """Fetch these, and no others from now on: what was under way and is not among them ends.

        Args:
            orders: what is wanted.
            donors: artifacts that may be here, and have chunks in common with what is wanted.
        """
        with self._changed:
            self._donors = donors
            if set(orders) == set(self._wanted) and (not orders or self._thread is not None):
                return
            self._wanted = orders
            self._changed.notify()
            if orders and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="fetch", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Give up whatever is under way and wait until the thread has ended."""
        self.want(())
        if (thread := self._thread) is not None:
            thread.join(5)

    def _run(self) -> None:
        try:
            self._wait(random.uniform(0, self._longest_jitter_s()))  # noqa: S311 - spreads load
            self._work()
        finally:
            with self._changed:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _longest_jitter_s(self) -> float:
        size_bytes = sum(order.ref.size_bytes for order in self._wanted)
        return min(self._jitter_s, size_bytes / _MIB * _JITTER_S_PER_MIB)

    def _work(self) -> None:
        courier = Courier(self._store, self._terms, self._puller, self._pause)
        try:
            wait_s = _FIRST_WAIT_S
            while (order := self._next()) is not None:
                if self._fetch(courier, order):
                    wait_s = _FIRST_WAIT_S
                else:
                    self._wait(wait_s)
                    wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
        finally:
            courier.close()

    def _puller(self) -> Puller:
        who = f"{self._topics.fleet}-{self._device}"
        return Puller(self._broker, self._topics, who, self._is_cancelled)

    def _next(self) -> Order | None:
        """Return what to fetch now; with nothing to do the thread resigns."""
        with self._changed:
            if not self._wanted:
                self._thread = None
                return None
            self._current = self._wanted[0]
            return self._current

    def _fetch(self, courier: Courier, order: Order) -> bool:
        """Fetch one artifact; return whether to go on at once."""
        ref = order.ref
        try:
            self._reserve(order)
            courier.get(order, self._donors, self._teller(ref))
        except CancelledError:
            return True
        except WaitError as error:
            if self._settle(order, last=True):
                self._post(FetchWaits(ref, str(error)))
            return False
        except (LinkError, OSError) as error:
            if not self._settle(order, last=True):
                return True
            self._post(FetchFailed(ref, str(error)))
            return False
        except (ArtifactError, StoreError) as error:
            if self._settle(order, alone=isinstance(error, ArtifactError)):
                phase: Literal["rejected", "refused"]
                phase = "rejected" if isinstance(error, ArtifactError) else "refused"
                self._post(FetchFailed(ref, str(error), phase))
            return True
        if self._settle(order):
            self._post(FetchDone(ref))
        return True

    def _reserve(self, order: Order) -> None:
        """Take the room of all that is wanted, of one bundle after the other.

        First come, first served; one that does not fit leaves its room to those after it.

        Raises:
            StoreError: there is none for the bundle that this order belongs to.
        """
        wanted = self._wanted
        for bundle in dict.fromkeys(one.bundle for one in wanted):
            try:
                self._store.reserve(one.ref for one in wanted if one.bundle == bundle)
            except StoreError:
                if bundle == order.bundle:
                    raise

    def _teller(self, ref: ArtifactRef) -> Callable[[], None]:
        said = time.monotonic()

        def tell() -> None:
            nonlocal said
            if time.monotonic() - said >= _PROGRESS_EVERY_S:
                said = time.monotonic()
                self._post(FetchProgress(ref))

        return tell

    def _settle(self, order: Order, *, last: bool = False, alone: bool = True) -> bool:
        """Take an order off the list, or put it last; false if nobody wants it any more.

        Args:
            order: what is settled.
            last: put it last.
            alone: whether the rest of its bundle stays on the list.
        """
        with self._changed:
            if order not in self._wanted:
                return False
            rest = tuple(
                one
                for one in self._wanted
                if one != order and (alone or one.bundle != order.bundle)
            )
            self._wanted = (*rest, order) if last else rest
            return True

    def _is_cancelled(self) -> bool:
        return self._current not in self._wanted

    def _pause(self, seconds: float) -> None:
        """Wait in the middle of a fetch.

        Raises:
            CancelledError: nobody wants it any more.
        """
        if seconds:
            with self._changed:
                self._changed.wait_for(self._is_cancelled, seconds)
        if self._is_cancelled():
            raise CancelledError

    def _wait(self, seconds: float) -> None:
        """Wait, or until something else is wanted."""
        with self._changed:
            before = self._wanted
            self._changed.wait_for(lambda: self._wanted != before, seconds)
