"""How one artifact comes: from what is here already, from its sources, from the broker."""

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import SourceError, WaitError
from agent.storage.allowance import Order
from agent.storage.artifacts import ArtifactStore
from agent.storage.copies import copy_known
from agent.storage.partial import Partial
from agent.storage.ration import Free, Ration
from protocols.bundle import ArtifactRef
from protocols.chunks import CHUNK_BYTES, Digests, chunk_count, list_ref
from protocols.errors import ArtifactError
from protocols.pull import Meter, Puller, Sink
from protocols.sources import artifact_url

if TYPE_CHECKING:
    from agent.storage.web import Web

log = logging.getLogger("sluice.fetch")

REST_S = 60.0
"""A source that failed is left alone so long."""

_GO_ON_AFTER_S = 0.5
"""After an interruption, where something had come."""


class Rests:
    """What has failed, and is left alone for a while: URLs, and whole sources."""

    def __init__(self, rest_s: float = REST_S) -> None:
        self._rest_s = rest_s
        self._until_s: dict[str, float] = {}

    def tire(self, url: str) -> None:
        """Leave it alone for a while."""
        self._until_s[url] = time.monotonic() + self._rest_s

    def is_awake(self, url: str) -> bool:
        """Whether it may be asked."""
        return self._until_s.get(url, 0.0) <= time.monotonic()


@dataclass(frozen=True, slots=True)
class Terms:
    """What every download is bound to.

    Attributes:
        ration: what its bytes are counted against.
        give_up_s: silence of the broker after which an attempt is given up.
        ca_file: for sources by HTTPS; None: the system's.
        rests: which sources have failed.
    """

    ration: Ration
    give_up_s: float
    ca_file: Path | None = None
    rests: Rests = field(default_factory=Rests)


@dataclass(frozen=True, slots=True)
class _Job:
    """One artifact, with what is needed to take it in."""

    order: Order
    partial: Partial
    digests: Digests | None
    take: Sink

    @property
    def done(self) -> bool:
        return len(self.partial.have) == chunk_count(self.order.ref.size_bytes)


class _DoubtfulError(Exception):
    """The whole does not match, and not all of it came from the broker in one go."""


class Courier:
    """Gets artifacts, one after the other, over sessions that they share. Close it.

    Args:
        store: where artifacts go.
        terms: what they are bound to.
        puller: makes a session with the broker; called once, when one is needed.
        pause: waits so many seconds, or raises if what is fetched is no longer wanted.
    """

    def __init__(
        self,
        store: ArtifactStore,
        terms: Terms,
        puller: Callable[[], Puller],
        pause: Callable[[float], None],
    ) -> None:
        self._store, self._terms, self._make_puller, self._pause = store, terms, puller, pause
        self._free = Free(terms.ration)
        self._put_off: set[str] = set()
        self._sessions = contextlib.ExitStack()
        self._puller: Puller | None = None
        self._web: Web | None = None

    def close(self) -> None:
        """End the sessions, and write down what was fetched."""
        self._sessions.close()
        self._terms.ration.settle()

    def get(
        self,
        order: Order,
        donors: tuple[ArtifactRef, ...] = (),
        told: Callable[[], None] = lambda: None,
    ) -> None:
        """Have an artifact in the store, its chunk list before it.

        Args:
            order: what is wanted.
            donors: artifacts that may be here and have chunks in common with it.
            told: called after each chunk.

        Raises:
            ArtifactError: its bytes are others, wherever they come from.
            LinkError: the broker does not give it, nor does any source.
            StoreError: the disk does not take it.
            WaitError: it must wait for another day. Until that, or until something else has come
                that may have chunks in common with it, this is said without a look at disk or
                network.
        """
        sha256 = order.ref.sha256
        if sha256 in self._put_off:
            self._terms.ration.check_day(min(CHUNK_BYTES, order.ref.size_bytes))
        listed = list_ref(order.ref)
        if listed is not None and not self._store.has(listed):
            self._fetch(Order(listed, order.sources, small=True), (), told)
        try:
            self._fetch(order, donors, told)
        except WaitError:
            self._put_off.add(sha256)
            raise
        self._put_off.clear()

    def _fetch(
        self, order: Order, donors: tuple[ArtifactRef, ...], told: Callable[[], None]
    ) -> None:
        if self._store.has(order.ref):
            return
        try:
            self._attempt(order, donors, told)
        except _DoubtfulError as doubt:
            # An earlier run may have been torn by a power cut, a source may serve another file.
            log.warning("%s; it is fetched once more, from the broker", doubt)
            self._attempt(replace(order, sources=()), donors, told)

    def _attempt(
        self, order: Order, donors: tuple[ArtifactRef, ...], told: Callable[[], None]
    ) -> None:
        ref, digests = order.ref, self._store.digests(order.ref)
        with self._store.partial(ref, digests) as partial:

            def take(number: int, chunk: bytes) -> None:
                self._pause(0.0)
                partial.write(number, chunk)
                told()

            job = _Job(order, partial, digests, take)
            if digests is not None:
                missing = frozenset(range(len(digests))) - partial.have
                copy_known(self._store, missing, digests, donors, take)
            self._from_sources(job)
            doubtful = digests is None and bool(partial.have)
            if not job.done:
                self._from_broker(job)
            try:
                partial.finish()
            except ArtifactError as error:
                if doubtful:
                    raise _DoubtfulError(str(error)) from error
                raise

    def _from_broker(self, job: _Job) -> None:
        if self._puller is None:
            self._puller = self._sessions.enter_context(self._make_puller())
        ref, have = job.order.ref, frozenset(job.partial.have)
        give_up_s, meter = self._terms.give_up_s, self._meter(job.order)
        self._puller.pull(ref, job.take, have, give_up_s, job.digests, meter)

    def _from_sources(self, job: _Job) -> None:
        """Take what the sources give, one after the other."""
        rests = self._terms.rests
        for source in job.order.sources:
            url = artifact_url(source, job.order.ref.sha256)
            while not job.done and rests.is_awake(source) and rests.is_awake(url):
                before = len(job.partial.have)
                try:
                    self._from_url(url, job)
                except SourceError as error:
                    log.warning("%s", error)
                    if len(job.partial.have) > before:
                        self._pause(_GO_ON_AFTER_S)
                        continue
                    rests.tire(url)
                    if isinstance(error.__cause__, OSError):
                        rests.tire(source)  # nothing at all can be had there

    def _from_url(self, url: str, job: _Job) -> None:
        if self._web is None:
            from agent.storage.web import Web  # noqa: PLC0415 - a device without sources needs none

            self._web = Web(self._terms.ca_file, self._pause)
            self._sessions.callback(self._web.close)
        ref, have = job.order.ref, job.partial.have
        self._web.fetch(url, ref, have, job.digests, job.take, self._meter(job.order))

    def _meter(self, order: Order) -> Meter:
        return self._free if order.small else self._terms.ration
