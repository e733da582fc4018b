"""The state folder: ours alone, and written so that a power cut leaves old content or new."""

import contextlib
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


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file's content: temporary file beside it, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # a disk that is full needs its room
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder last."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
