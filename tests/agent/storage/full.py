"""A disk that is full at one write, and afterwards, until there is room."""

import errno
from pathlib import Path

from agent.storage.files import Disk


class FullDisk(Disk):
    """Counts everything that may need room, and refuses from one of them on."""

    def __init__(self, full_at: int | None = None) -> None:
        self.full_at = full_at
        self.acts: list[str] = []

    def _act(self, what: str) -> None:
        self.acts.append(what)
        if self.full_at is not None and len(self.acts) > self.full_at:
            raise OSError(errno.ENOSPC, "No space left on device")

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        if not path.exists():
            self._act(f"make {path.name}")
        return super().open(path, flags, mode)

    def write(self, file: int, content: bytes, at: int) -> None:
        try:
            self._act("write")
        except OSError:
            super().write(file, content[: len(content) // 2], at)  # a torn one
            raise
        super().write(file, content, at)

    def reserve(self, file: int, size_bytes: int) -> None:
        self._act("reserve")
        super().reserve(file, size_bytes)

    def sync(self, file: int) -> None:
        self._act("sync")
        super().sync(file)

    def replace(self, path: Path, target: Path) -> None:
        self._act("replace")
        super().replace(path, target)

    def sync_folder(self, folder: Path) -> None:
        self._act("sync folder")
        super().sync_folder(folder)
