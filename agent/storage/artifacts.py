"""The artifact store: immutable files named by their SHA-256, and those that are still arriving.

STATE/artifacts/<sha256>        whole, verified, never written again; chunk lists among them
STATE/partial/<sha256>          its bytes so far, each chunk at its place
STATE/partial/<sha256>.have     one byte a chunk: 1 once the chunk is written
"""

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from agent.errors import StoreError
from agent.storage.files import DISK, Disk
from agent.storage.partial import Partial, digest, read_marks
from protocols.bundle import ArtifactRef
from protocols.chunks import CHUNK_BYTES, Digests, chunk_length, list_ref, with_lists

log = logging.getLogger("sluice.store")

_SPARE_BYTES = 4 << 20
"""What a download leaves free: the ledger must still be writable afterwards."""

_MIB = 1 << 20
_BLOCK_BYTES = 512
"""The unit of `st_blocks`."""


class ArtifactStore:
    """The artifacts on this device's disk. Safe for one thread that writes and one that reads."""

    def __init__(self, root: Path, disk: Disk = DISK) -> None:
        self._disk = disk
        self.folder = root / "artifacts"
        self._partial = root / "partial"
        self._checked: set[str] = set()
        for folder in (self.folder, self._partial):
            folder.mkdir(parents=True, exist_ok=True)

    def has(self, ref: ArtifactRef) -> bool:
        """Whether an artifact is here and sound.

        Its bytes are compared with its name once in the life of this process: a card that lost
        some must not hand a broken model to the interpreter (some of those run, with wrong
        answers). A file that does not match is dropped, so that it is fetched again.
        """
        path = self.folder / ref.sha256
        try:
            if path.stat().st_size != ref.size_bytes:
                path.unlink()
                return False
            if ref.sha256 not in self._checked and digest(path) != ref.sha256:
                log.warning("artifact %s on disk is damaged: it is dropped", ref.sha256[:12])
                path.unlink()
                return False
        except OSError:
            return False
        self._checked.add(ref.sha256)
        return True

    def read(self, ref: ArtifactRef) -> bytes:
        """Return an artifact's bytes.

        Raises:
            StoreError: it is not here.
        """
        try:
            return (self.folder / ref.sha256).read_bytes()
        except OSError as error:
            raise StoreError(f"cannot read artifact {ref.sha256[:12]}: {error}") from error

    def digests(self, ref: ArtifactRef) -> Digests | None:
        """Return what an artifact's chunks must be; None: nothing says so, or not here.

        Raises:
            ArtifactError: the list is not one of this artifact.
        """
        if ref.chunks is None:
            return None
        listed = list_ref(ref)
        if listed is None:
            return Digests(ref)
        return Digests(ref, self.read(listed)) if self.has(listed) else None

    def read_chunk(self, ref: ArtifactRef, number: int) -> bytes:
        """Return a chunk of an artifact that is here, or fewer bytes where the file has no more.

        Raises:
            StoreError: it cannot be read.
        """
        try:
            with (self.folder / ref.sha256).open("rb", buffering=0) as file:
                file.seek(number * CHUNK_BYTES)
                return file.read(chunk_length(ref, number))
        except OSError as error:
            raise StoreError(f"cannot read artifact {ref.sha256[:12]}: {error}") from error

    def check_room(self, refs: Iterable[ArtifactRef], what: str) -> None:
        """Check that the disk has room for artifacts that are not here yet, and their chunk lists.

        Raises:
            StoreError: it has not.
        """
        needed = sum(max(0, ref.size_bytes - self._taken_bytes(ref)) for ref in with_lists(refs))
        free = max(0, shutil.disk_usage(self.folder).free - _SPARE_BYTES)
        if needed > free:
            raise StoreError(
                f"cannot store {what}: needs {needed / _MIB:.1f} MiB, {free / _MIB:.1f} MiB free "
                f"in {self.folder.parent}; make room there or deploy smaller variants"
            )

    def reserve(self, refs: Iterable[ArtifactRef]) -> None:
        """Take the room of all artifacts that are to come, before the first byte of any.

        Raises:
            StoreError: there is not enough, or the disk fails.
        """
        missing = [ref for ref in with_lists(refs) if not (self.folder / ref.sha256).exists()]
        self.check_room(missing, "what is missing")
        for ref in missing:
            if self._taken_bytes(ref) < ref.size_bytes:
                with self.partial(ref) as partial:
                    partial.reserve()

    def fetched_bytes(self, ref: ArtifactRef) -> int:
        """Return how many of an artifact's bytes are here, whole or in part."""
        if (self.folder / ref.sha256).exists():
            return ref.size_bytes
        marks = read_marks(self._marks(ref))
        return min(ref.size_bytes, marks.count(1) * CHUNK_BYTES)

    def collect(self, keep: Iterable[str], *, partial: bool = False) -> int:
        """Delete every artifact that is not to be kept; return bytes freed.

        Args:
            keep: digests.
            partial: delete only what has not come whole.
        """
        kept, freed = set(keep), 0
        for folder in (self._partial,) if partial else (self.folder, self._partial):
            for path in folder.iterdir():
                if path.name.split(".")[0] not in kept:
                    freed += path.stat().st_blocks * _BLOCK_BYTES
                    path.unlink(missing_ok=True)
        return freed

    def partial(self, ref: ArtifactRef, digests: Digests | None = None) -> Partial:
        """Return the place where an artifact arrives; use it as a context manager.

        Args:
            ref: the artifact.
            digests: of its chunks, against which what has come before is checked anew.
        """
        return Partial(self._partial / ref.sha256, ref, digests, self._accept, self._disk)

    def _accept(self, ref: ArtifactRef, path: Path) -> None:
        """Move a file whose bytes are verified and on disk to its place."""
        self._disk.replace(path, self.folder / ref.sha256)
        self._checked.add(ref.sha256)

    def _taken_bytes(self, ref: ArtifactRef) -> int:
        """Return how much room an artifact has already."""
        for folder in (self.folder, self._partial):
            try:
                return (folder / ref.sha256).stat().st_blocks * _BLOCK_BYTES
            except OSError:
                continue
        return 0

    def _marks(self, ref: ArtifactRef) -> Path:
        return self._partial / f"{ref.sha256}.have"
