"""The bundles on this device, verified once in the life of the process."""

from agent.storage.artifacts import ArtifactStore
from protocols.bundle import ArtifactRef, Bundle
from protocols.desired import DesiredCascade
from protocols.envelope import BUNDLE, Holds, KeySet, verify
from protocols.errors import MessageError, TrustError


class BundleStore:
    """The store, seen as bundles: what `reconcile.choose` asks."""

    def __init__(self, store: ArtifactStore, keys: KeySet, holds: Holds) -> None:
        self._store, self._keys, self._holds = store, keys, holds
        self._bundles: dict[str, Bundle | TrustError | MessageError] = {}

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

    def keep(self, artifacts: frozenset[str]) -> int:
        """Forget every artifact that is not named; return the bytes that the disk got back."""
        self._bundles = {k: v for k, v in self._bundles.items() if k in artifacts}
        return self._store.collect(artifacts)

    def _open(self, ref: ArtifactRef) -> Bundle | TrustError | MessageError:
        try:
            return Bundle.decode(verify(self._store.read(ref), BUNDLE, self._keys, self._holds))
        except (TrustError, MessageError) as error:
            return error
