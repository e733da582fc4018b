"""Chunks that are here already, in whatever artifact: copied, not fetched."""

from collections.abc import Iterable

from agent.errors import StoreError
from agent.storage.artifacts import ArtifactStore
from protocols.bundle import ArtifactRef
from protocols.chunks import Digests
from protocols.errors import ArtifactError
from protocols.pull import Sink


def copy_known(
    store: ArtifactStore,
    missing: frozenset[int],
    digests: Digests,
    donors: tuple[ArtifactRef, ...],
    take: Sink,
) -> None:
    """Copy every chunk that is missing and that one of the donors has.

    Args:
        store: where the donors may be.
        missing: the chunks to find.
        digests: of the artifact that they belong to.
        donors: artifacts whose chunk lists may be here; those that are not are passed over.
        take: takes the chunks, each checked.
    """
    wanted: dict[bytes, list[int]] = {}
    for number in sorted(missing):
        wanted.setdefault(digests[number], []).append(number)
    for donor in donors:
        for place, digest in enumerate(_digests_of(store, donor)):
            numbers = wanted.get(digest, [])
            if numbers and _copy(store, donor, place, numbers, digests, take):
                del wanted[digest]


def _digests_of(store: ArtifactStore, donor: ArtifactRef) -> Iterable[bytes]:
    try:
        return (store.digests(donor) or ()) if store.has(donor) else ()
    except (ArtifactError, StoreError):
        return ()


def _copy(
    store: ArtifactStore,
    donor: ArtifactRef,
    place: int,
    numbers: list[int],
    digests: Digests,
    take: Sink,
) -> bool:
    """Copy one chunk to every place that it belongs to; return whether it was what it should be."""
    try:
        chunk = store.read_chunk(donor, place)
        digests.check(numbers[0], chunk)
    except (ArtifactError, StoreError):
        return False
    for number in numbers:
        take(number, chunk)
    return True
