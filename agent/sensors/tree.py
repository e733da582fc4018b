"""Reading a machine's `/proc` and `/sys`, which lie, vanish and refuse: text, numbers or None."""

import math
from pathlib import Path


class Tree:
    """The files that describe a machine, below a root.

    The root is `/` on a device. The demo and the tests put a scripted machine below another one;
    nothing else about them differs.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.is_real = root.resolve() == Path("/")

    def text(self, path: str) -> str | None:
        """Return a file's content without blanks and NULs around it; None: it cannot be read."""
        try:
            content = (self._root / path).read_bytes()
        except OSError:
            return None
        return content.decode(errors="replace").strip("\0 \t\r\n")

    def number(self, path: str) -> float | None:
        """Return the number that a file holds; None: it cannot be read or is no finite number."""
        return as_number(self.text(path))

    def names(self, folder: str) -> list[str]:
        """Return what a folder holds, sorted; nothing where it cannot be read."""
        try:
            return sorted(entry.name for entry in (self._root / folder).iterdir())
        except OSError:
            return []

    def has(self, path: str) -> bool:
        """Return whether there is such a file, folder or device."""
        try:
            return (self._root / path).exists()
        except OSError:
            return False

    def glob(self, pattern: str) -> list[str]:
        """Return the paths that match, sorted, relative to the root."""
        try:
            return sorted(p.relative_to(self._root).as_posix() for p in self._root.glob(pattern))
        except OSError:
            return []


def as_number(text: str | None) -> float | None:
    """Return text as a finite number, or None."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
