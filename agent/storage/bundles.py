"""The bundles on this device, verified once in the life of the process."""

from collections.abc import Callable

from agent.storage.artifacts import ArtifactStore
from agent.trust import KeySets
from protocols.bundle import ArtifactRef, Bundle
from protocols.desired import DesiredCascade
from protocols.envelope import BUNDLE, Holds, verify
from protocols.errors import MessageError, TrustError


class BundleStore:
    """The store, seen as bundles: what `reconcile.choose` asks.

    Args:
        store: where they are.
        trust: the keys that must have signed them.
        holds: checks one signature.
        has_served: whether a bundle of this digest was accepted before and has served well. Such a
            one goes on after a key that signed it was taken away: what serves is never stopped for
            that. Any other one needs the keys that are trusted now.
    """

    def __init__(
        self,
        store: ArtifactStore,
        trust: KeySets,
        holds: Holds,
        has_served: Callable[[str], bool],
    ) -> None:
        self._store, self._trust, self._holds = store, trust, holds
        self._has_served = has_served
        self._bundles: dict[str, Bundle | TrustError | MessageError] = {}

    def renew(self, trust: KeySets) -> None:
        """Trust other keys: everything is looked at anew but what has served."""
        self._trust = trust
        self._bundles = {
            sha256: found
            for sha256, found in self._bundles.items()
            if isinstance(found, Bundle) and self._has_served(sha256)
        }

    def has(self, ref: ArtifactRef) -> bool:
        """Whether an artifact is here and sound."""
        return self._store.has(ref)

    def check_room(self, refs: tuple[ArtifactRef, ...], what: str) -> None:
        """Check that the disk has room for artifacts; raises StoreError."""
        if refs:
            self._store.check_room(refs, what)

    def bundle(self, wanted: DesiredCascade) -> Bundle:
        """Return a bundle whose envelope is here.

        Raises:
            TrustError: the release role has not signed it.
            MessageError: it is no bundle.
            StoreError, ChildError: it could not be read, or its signature not be checked.
        """
        ref = wanted.bundle.artifact
        known = self._bundles.get(ref.sha256)
        if known is None:
            known = self._bundles[ref.sha256] = self._open(ref)
        if isinstance(known, Bundle):
            return known
        raise known

    def keep(self, artifacts: frozenset[str], *, partial: bool = False) -> int:
        """Forget every artifact that is not named; return the bytes that the disk got back.

        Args:
            artifacts: digests.
            partial: forget only what has not come whole.
        """
        if not partial:
            self._bundles = {k: v for k, v in self._bundles.items() if k in artifacts}
        return self._store.collect(artifacts, partial=partial)

    def _open(self, ref: ArtifactRef) -> Bundle | TrustError | MessageError:
        envelope = self._store.read(ref)
        now, *before = self._trust.newest_first
        candidates = (now, *before) if self._has_served(ref.sha256) else (now,)
        errors: list[TrustError | MessageError] = []
        for keys in candidates:
            try:
                return Bundle.decode(verify(envelope, BUNDLE, keys, self._holds))
            except (TrustError, MessageError) as error:
                errors.append(error)
        return errors[0]
