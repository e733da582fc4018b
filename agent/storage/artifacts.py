"""The artifact store: immutable files named by their SHA-256, and those that are still arriving.

    STATE/artifacts/<sha256>        whole, verified, never written again
    STATE/partial/<sha256>          its bytes so far, each chunk at its place
    STATE/partial/<sha256>.have     one byte a chunk: 1 once the chunk is written

A chunk's mark is written after its bytes. A power cut can still leave a mark without the bytes, so
a file that was resumed and does not match is fetched once more from nothing before it is rejected.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from agent.errors import StoreError
from agent.storage.files import sync_folder
from protocols.bundle import ArtifactRef
from protocols.chunks import CHUNK_BYTES, check, chunk_count
from protocols.errors import ArtifactError

log = logging.getLogger("sluice.store")

_SPARE_BYTES = 4 << 20
"""What a download leaves free: the ledger must still be writable afterwards."""

_READ_BYTES = 1 << 20
_MIB = 1 << 20


class ArtifactStore:
    """The artifacts on this device's disk. Safe for one thread that writes and one that reads."""

    def __init__(self, root: Path) -> None:
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
            if ref.sha256 not in self._checked and _digest(path) != ref.sha256:
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

    def check_room(self, refs: Iterable[ArtifactRef], what: str) -> None:
        """Check that the disk has room for artifacts that are not here yet.

        Raises:
            StoreError: it has not.
        """
        needed = sum(ref.size_bytes - self.fetched_bytes(ref) for ref in refs)
        free = max(0, shutil.disk_usage(self.folder).free - _SPARE_BYTES)
        if needed > free:
            raise StoreError(
                f"cannot store {what}: needs {needed / _MIB:.1f} MiB, {free / _MIB:.1f} MiB free "
                f"in {self.folder.parent}; make room there or deploy smaller variants"
            )

    def fetched_bytes(self, ref: ArtifactRef) -> int:
        """Return how many of an artifact's bytes are here, whole or in part."""
        if (self.folder / ref.sha256).exists():
            return ref.size_bytes
        marks = _read_marks(self._marks(ref))
        return min(ref.size_bytes, marks.count(1) * CHUNK_BYTES)

    def collect(self, keep: Iterable[str]) -> int:
        """Delete every artifact, whole or partial, that is not to be kept; return bytes freed."""
        kept, freed = set(keep), 0
        for folder in (self.folder, self._partial):
            for path in folder.iterdir():
                if path.name.split(".")[0] not in kept:
                    freed += path.stat().st_blocks * 512
                    path.unlink(missing_ok=True)
        return freed

    def partial(self, ref: ArtifactRef) -> "Partial":
        """Return the place where an artifact arrives; use it as a context manager."""
        return Partial(self, ref, self._partial / ref.sha256, self._marks(ref))

    def accept(self, ref: ArtifactRef, path: Path) -> None:
        """Move a file whose bytes are verified and on disk to its place."""
        path.replace(self.folder / ref.sha256)
        sync_folder(self.folder)
        self._checked.add(ref.sha256)

    def _marks(self, ref: ArtifactRef) -> Path:
        return self._partial / f"{ref.sha256}.have"


class Partial:
    """An artifact that is arriving, chunk by chunk, in any order."""

    def __init__(self, store: ArtifactStore, ref: ArtifactRef, path: Path, marks: Path) -> None:
        self._store, self._ref = store, ref
        self._path, self._marks_path = path, marks
        self._count = chunk_count(ref.size_bytes)

    def __enter__(self) -> Self:
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._marks = os.open(self._marks_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._failed(error) from error
        whole = os.fstat(self._file).st_size
        marks = _read_marks(self._marks_path)[: self._count]
        self.have = frozenset(
            n for n, mark in enumerate(marks) if mark == 1 and n * CHUNK_BYTES < whole
        )
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._file)
        os.close(self._marks)

    def write(self, number: int, chunk: bytes) -> None:
        """Put chunk `number` at its place.

        Raises:
            StoreError: the disk is full or fails.
        """
        try:
            _write_all(self._file, chunk, number * CHUNK_BYTES)
            _write_all(self._marks, b"\1", number)
        except OSError as error:
            raise self._failed(error) from error

    def finish(self) -> None:
        """Verify the whole against its digest and move it into the store.

        Raises:
            ArtifactError: its bytes are others; they are dropped.
            StoreError: the disk fails.
        """
        try:
            size = os.fstat(self._file).st_size
            check(self._ref, _digest(self._path), size)
            os.fsync(self._file)
            self._store.accept(self._ref, self._path)
            self._marks_path.unlink(missing_ok=True)
        except ArtifactError:
            self._path.unlink(missing_ok=True)
            self._marks_path.unlink(missing_ok=True)
            raise
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> StoreError:
        return StoreError(f"cannot store artifact {self._ref.sha256[:12]}: {error}")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _read_marks(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _write_all(file: int, content: bytes, at: int) -> None:
    while content:
        written = os.pwrite(file, content, at)
        content, at = content[written:], at + written
