"""The state folder: ours alone, and written so that a power cut leaves old content or new."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import BinaryIO

from agent.errors import StartError


def claim(state_dir: Path) -> BinaryIO:
    """Make sure that no other agent works on a state folder; it is ours until the file is closed.

    Raises:
        StartError: another one does, or the folder cannot be written.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        with contextlib.ExitStack() as undo:
            lock = undo.enter_context((state_dir / "lock").open("wb"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            undo.pop_all()
            return lock
    except BlockingIOError as error:
        raise StartError(
            f"cannot start: another sluice-agent works on {state_dir}; stop it, or give this one "
            "another state_dir"
        ) from error
    except OSError as error:
        raise StartError(f"cannot start: state folder {state_dir}: {error.strerror}") from error


_CANNOT_RESERVE = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV})


class Disk:
    """Every write of the state folder goes through one of these; all raise OSError."""

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        """Open a file; return its descriptor. `mode` is that of a new one."""
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def write(self, file: int, content: bytes, at: int) -> None:
        """Write all of some bytes at their place."""
        while content:
            written = os.pwrite(file, content, at)
            content, at = content[written:], at + written

    def reserve(self, file: int, size_bytes: int) -> None:
        """Take the room of a whole file, where the file system can; what is in it stays."""
        if not hasattr(os, "posix_fallocate"):
            return
        try:
            os.posix_fallocate(file, 0, size_bytes)
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise

    def sync(self, file: int) -> None:
        """Make what was written last."""
        os.fsync(file)

    def replace(self, path: Path, target: Path) -> None:
        """Put a file into another's place, and make that last."""
        path.replace(target)
        self.sync_folder(target.parent)

    def sync_folder(self, folder: Path) -> None:
        """Make renames inside a folder last."""
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


DISK = Disk()


def write_atomically(path: Path, content: bytes, disk: Disk = DISK) -> None:
    """Replace a file's content: temporary file beside it, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        file = disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            disk.write(file, content, 0)
            disk.sync(file)
        finally:
            os.close(file)
        disk.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)  # a disk that is full needs its room
        raise
