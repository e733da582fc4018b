"""An artifact that is arriving, chunk by chunk, in any order, over any number of runs.

A chunk's mark is written after its bytes. A power cut can still leave a mark without the bytes:
where there is a chunk list, what is marked is read and checked when the artifact is taken up again;
where there is none, a file that was resumed and does not match is fetched once more from nothing.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

from agent.errors import StoreError
from agent.storage.files import Disk
from protocols.bundle import ArtifactRef
from protocols.chunks import CHUNK_BYTES, Digests, check, chunk_count, chunk_length
from protocols.errors import ArtifactError


class Partial:
    """The file and its marks. Use it as a context manager; inside, `have` is what has come.

    Args:
        path: of the file; its marks lie beside it.
        ref: the artifact.
        digests: of its chunks; None: not known.
        accept: takes the file once all of it is verified.
        disk: that is written to.
    """

    def __init__(
        self,
        path: Path,
        ref: ArtifactRef,
        digests: Digests | None,
        accept: Callable[[ArtifactRef, Path], None],
        disk: Disk,
    ) -> None:
        self._path, self._marks_path = path, path.with_name(f"{path.name}.have")
        self._ref, self._digests, self._accept, self._disk = ref, digests, accept, disk
        self.have: set[int] = set()

    def __enter__(self) -> Self:
        try:
            with contextlib.ExitStack() as undo:
                fresh = not self._path.exists()
                self._file = self._disk.open(self._path, os.O_RDWR | os.O_CREAT)
                undo.callback(os.close, self._file)
                # Marks of a file that has gone say nothing of this one.
                flags = os.O_RDWR | os.O_CREAT | (os.O_TRUNC if fresh else 0)
                self._marks = self._disk.open(self._marks_path, flags)
                undo.callback(os.close, self._marks)
                self.have = self._look()
                self._close = undo.pop_all()
        except OSError as error:
            raise self._failed(error) from error
        return self

    def __exit__(self, *_exc: object) -> None:
        self._close.close()

    def reserve(self) -> None:
        """Take the room of the whole artifact.

        Raises:
            StoreError: the disk is full or fails.
        """
        before = os.fstat(self._file).st_size
        try:
            self._disk.reserve(self._file, self._ref.size_bytes)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, before)  # others may need what little there was
            raise self._failed(error) from error

    def write(self, number: int, chunk: bytes) -> None:
        """Put chunk `number`, which is verified where it can be, at its place.

        Raises:
            StoreError: the disk is full or fails.
        """
        try:
            self._disk.write(self._file, chunk, number * CHUNK_BYTES)
            self._disk.write(self._marks, b"\1", number)
        except OSError as error:
            raise self._failed(error) from error
        self.have.add(number)

    def finish(self) -> None:
        """Move the whole into the store; without a chunk list, verify it against its digest first.

        With one, every chunk was: what is written comes verified, what was there was read again.

        Raises:
            ArtifactError: its bytes are others; they are dropped.
            StoreError: the disk fails.
        """
        try:
            self._check()
            self._disk.sync(self._file)
            self._accept(self._ref, self._path)
            self._marks_path.unlink(missing_ok=True)
        except ArtifactError:
            self._path.unlink(missing_ok=True)
            self._marks_path.unlink(missing_ok=True)
            raise
        except OSError as error:
            raise self._failed(error) from error

    def _check(self) -> None:
        size = os.fstat(self._file).st_size
        complete = self._digests is not None and len(self.have) == len(self._digests)
        found = self._ref.sha256 if complete else digest(self._path)
        check(self._ref, found, size)

    def _look(self) -> set[int]:
        """Return the chunks that are here."""
        whole = os.fstat(self._file).st_size
        marks = read_marks(self._marks_path)[: chunk_count(self._ref.size_bytes)]
        marked = {n for n, mark in enumerate(marks) if mark == 1 and n * CHUNK_BYTES < whole}
        return {number for number in marked if self._is_sound(number)}

    def _is_sound(self, number: int) -> bool:
        if self._digests is None:
            return True
        length = chunk_length(self._ref, number)
        try:
            self._digests.check(number, os.pread(self._file, length, number * CHUNK_BYTES))
        except ArtifactError:
            return False
        return True

    def _failed(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot store artifact {self._ref.sha256[:12]} in {self._path.parent.parent}: "
            f"{error.strerror or error}; what has come is kept"
        )


def digest(path: Path) -> str:
    """Return a file's SHA-256."""
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(CHUNK_BYTES):
            found.update(block)
    return found.hexdigest()


def read_marks(path: Path) -> bytes:
    """Return a partial artifact's marks; none where they cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
