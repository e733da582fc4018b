"""Fetching artifacts, on a thread and an MQTT session that live only while something is missing."""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Literal

from agent.errors import StoreError
from agent.inbox import FetchDone, FetchFailed, FetchProgress
from agent.storage.artifacts import ArtifactStore
from protocols.bundle import ArtifactRef
from protocols.errors import ArtifactError, LinkError
from protocols.link import Broker
from protocols.pull import Puller
from protocols.topics import Topics

log = logging.getLogger("sluice.fetch")

_PROGRESS_EVERY_S = 0.5
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0

Post = Callable[[FetchDone | FetchFailed | FetchProgress], None]


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
        jitter_s: the longest wait before a fetch begins; spreads a fleet.
        give_up_s: silence after which an attempt is given up.
    """

    def __init__(  # noqa: PLR0913 - what a fetch consists of
        self,
        broker: Broker,
        topics: Topics,
        device: str,
        store: ArtifactStore,
        post: Post,
        *,
        jitter_s: float,
        give_up_s: float,
    ) -> None:
        self._broker, self._topics, self._device = broker, topics, device
        self._store, self._post = store, post
        self._jitter_s, self._give_up_s = jitter_s, give_up_s
        self._wanted: tuple[ArtifactRef, ...] = ()
        self._current: ArtifactRef | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def want(self, refs: tuple[ArtifactRef, ...]) -> None:
        """Fetch these, and no others from now on: what was under way and is not among them ends."""
        with self._changed:
            if set(refs) == set(self._wanted) and (not refs or self._thread is not None):
                return
            self._wanted = refs
            self._changed.notify()
            if refs and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="fetch", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Give up whatever is under way and wait until the thread has ended."""
        self.want(())
        if (thread := self._thread) is not None:
            thread.join(5)

    def _run(self) -> None:
        try:
            self._pause(random.uniform(0, self._jitter_s))  # noqa: S311 - spreads load, no secret
            self._work()
        finally:
            with self._changed:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _work(self) -> None:
        who = f"{self._topics.fleet}-{self._device}"
        with Puller(self._broker, self._topics, who, self._is_cancelled) as puller:
            wait_s = _FIRST_WAIT_S
            while (ref := self._next()) is not None:
                if self._fetch(puller, ref):
                    wait_s = _FIRST_WAIT_S
                else:
                    self._pause(wait_s)
                    wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _next(self) -> ArtifactRef | None:
        """Return what to fetch now; with nothing to do the thread resigns."""
        with self._changed:
            if not self._wanted:
                self._thread = None
                return None
            self._current = self._wanted[0]
            return self._current

    def _fetch(self, puller: Puller, ref: ArtifactRef) -> bool:
        """Fetch one artifact; return whether to go on at once."""
        try:
            self._pull(puller, ref)
        except CancelledError:
            return True
        except (LinkError, OSError) as error:
            if not self._settle(ref, last=True):
                return True
            self._post(FetchFailed(ref, str(error)))
            return False
        except (ArtifactError, StoreError) as error:
            if self._settle(ref):
                phase: Literal["rejected", "refused"]
                phase = "rejected" if isinstance(error, ArtifactError) else "refused"
                self._post(FetchFailed(ref, str(error), phase))
            return True
        if self._settle(ref):
            self._post(FetchDone(ref))
        return True

    def _pull(self, puller: Puller, ref: ArtifactRef) -> None:
        with self._store.partial(ref) as partial:
            resumed = bool(partial.have)
            sink = self._sink(ref, partial.write)
            puller.pull(ref, sink, partial.have, self._give_up_s)
            try:
                partial.finish()
            except ArtifactError:
                if not resumed:
                    raise
                log.warning("artifact %s does not match after a resume", ref.sha256[:12])
            else:
                return
        self._pull(puller, ref)  # what an earlier run left behind may have been torn by a power cut

    def _sink(
        self, ref: ArtifactRef, write: Callable[[int, bytes], None]
    ) -> Callable[[int, bytes], None]:
        said = time.monotonic()

        def sink(number: int, chunk: bytes) -> None:
            nonlocal said
            if self._is_cancelled():
                raise CancelledError
            write(number, chunk)
            if time.monotonic() - said >= _PROGRESS_EVERY_S:
                said = time.monotonic()
                self._post(FetchProgress(ref))

        return sink

    def _settle(self, ref: ArtifactRef, *, last: bool = False) -> bool:
        """Take a reference off the list, or put it last; false if nobody wants it any more."""
        with self._changed:
            if ref not in self._wanted:
                return False
            rest = tuple(r for r in self._wanted if r != ref)
            self._wanted = (*rest, ref) if last else rest
            return True

    def _is_cancelled(self) -> bool:
        return self._current not in self._wanted

    def _pause(self, seconds: float) -> None:
        """Wait, or until something else is wanted."""
        with self._changed:
            before = self._wanted
            self._changed.wait_for(lambda: self._wanted != before, seconds)
