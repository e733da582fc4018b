"""Files that nobody else may read, each replaced as a whole."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from controller.errors import EnrolmentError

PRIVATE = 0o600


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one file: `made`, `replaced` or `kept`."""

    path: Path
    what: str


def put(path: Path, content: bytes) -> Written:
    """Write a private file, unless it says so already.

    Raises:
        EnrolmentError: it cannot be read or written.
    """
    if path.exists() and read(path) == content:
        return Written(path, "kept")
    return Written(path, "replaced" if write_private(path, content) else "made")


def read(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        EnrolmentError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise EnrolmentError(f"cannot read {path}: {error.strerror or error}") from error


def write_private(path: Path, content: bytes) -> bool:
    """Replace a file, mode 0600 from its first byte on; return whether it was there before.

    Raises:
        EnrolmentError: it cannot be written.
    """
    before = path.exists()
    try:
        staged = stage_private(path, content)
        staged.replace(path)
    except OSError as error:
        raise EnrolmentError(f"cannot write {path}: {error.strerror or error}") from error
    return before


def stage_private(path: Path, content: bytes) -> Path:
    """Write a file's content beside it, on disk, and return where: `replace` puts it in place.

    Raises:
        OSError: it cannot be written.
    """
    staged = path.with_name(f".{path.name}.new")
    staged.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with os.fdopen(os.open(staged, flags, PRIVATE), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        staged.unlink(missing_ok=True)
        raise
    return staged


def make_private_folder(path: Path) -> None:
    """Make a folder that is ours alone, unless it is there.

    Raises:
        EnrolmentError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise EnrolmentError(f"cannot make folder {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes of ours, waiting for them.

    Raises:
        EnrolmentError: it cannot be written.
    """
    make_private_folder(folder)
    try:
        file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, PRIVATE)
    except OSError as error:
        raise EnrolmentError(f"cannot write {folder}: {error.strerror or error}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
