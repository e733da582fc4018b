"""The bundles of the deployments: which ones a session has, and which it still has to get."""

import logging
import time
from collections.abc import Callable, Iterable
from functools import partial

from controller.home import Home
from controller.library import fetch_bundle, load_bundle
from protocols.bundle import Bundle, BundleRef
from protocols.envelope import KeySet
from protocols.errors import SluiceError

log = logging.getLogger("sluice.shelf")

FETCH_AGAIN_S = 10.0

Job = Callable[[], None]


class Shelf:
    """Bundles by the SHA-256 of their envelopes: from the catalog, else pulled from the broker.

    Args:
        home: broker and catalog.
        keys: that must have signed them; None: none can be read.
        later: takes what must not be waited for; None: nothing is pulled.
        came: called by such a job with the bundle, or None where it could not be had.
    """

    def __init__(
        self,
        home: Home,
        keys: KeySet | None,
        later: Callable[[Job], None] | None,
        came: Callable[[BundleRef, Bundle | None], None],
    ) -> None:
        self._home, self._keys, self._later, self._came = home, keys, later, came
        self._not_before_s: dict[str, float] = {}
        self.bundles: dict[str, Bundle] = {}

    def trust(self, keys: KeySet) -> None:
        """Check what comes from now on with other keys. What was signed well once stays known."""
        self._keys = keys

    def want(self, refs: Iterable[BundleRef]) -> bool:
        """Have these; return whether there are new ones now. Others come when they come."""
        before = len(self.bundles)
        for ref in refs:
            if ref.artifact.sha256 not in self.bundles:
                self._want(ref)
        return len(self.bundles) > before

    def have(self, ref: BundleRef, bundle: Bundle | None) -> None:
        """Take what came; None: try again after a while."""
        sha256 = ref.artifact.sha256
        if bundle is None:
            self._not_before_s[sha256] = time.monotonic() + FETCH_AGAIN_S
        else:
            self._not_before_s.pop(sha256, None)
            self.bundles[sha256] = bundle

    def _want(self, ref: BundleRef) -> None:
        sha256 = ref.artifact.sha256
        if self._keys is None or time.monotonic() < self._not_before_s.get(sha256, 0.0):
            return
        try:
            bundle = load_bundle(self._home, ref, self._keys)
        except SluiceError as error:
            log.warning("%s", error)
            bundle = None
        if bundle is not None:
            self.have(ref, bundle)
        elif self._later is not None:
            self._not_before_s[sha256] = float("inf")
            self._later(partial(self._fetch, ref, self._keys))

    def _fetch(self, ref: BundleRef, keys: KeySet) -> None:
        bundle = None
        try:
            bundle = fetch_bundle(self._home, ref, keys)
        except SluiceError as error:
            log.warning("cannot carry out deployments of %s@%s: %s", ref.name, ref.version, error)
        self._came(ref, bundle)
