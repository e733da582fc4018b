"""Which cascades were inside the interpreter when the runner died.

A wrong model can kill the process with a signal, and then nobody in it can say which one it was.
So each worker marks its slot in a small shared file before it enters the interpreter and clears it
afterwards; the supervisor, which holds the same file, reads it after the death.
"""

import mmap
import os
import tempfile
import threading

_SLOTS = 2048
_SLOT_BYTES = 64
_NAME_BYTES = _SLOT_BYTES - 1
SIZE_BYTES = _SLOTS * _SLOT_BYTES
"""A slot is a flag (1: inside the interpreter) and the cascade's name, padded with zeros."""


def create() -> int:
    """Return the descriptor of a new, empty black box; the caller closes it."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("sluice-blackbox")
    else:  # Android before 11
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, SIZE_BYTES)
    return fd


def clear(blackbox: int) -> None:
    """Forget what an earlier runner left."""
    os.ftruncate(blackbox, 0)
    os.ftruncate(blackbox, SIZE_BYTES)


def suspects(blackbox: int) -> tuple[str, ...]:
    """Name the cascades that were inside the interpreter when the last writer stopped."""
    content = os.pread(blackbox, SIZE_BYTES, 0)
    slots = (content[at : at + _SLOT_BYTES] for at in range(0, len(content), _SLOT_BYTES))
    names = {slot[1:].rstrip(b"\0").decode() for slot in slots if slot[0]}
    return tuple(sorted(names))


class BlackBox:
    """The runner's side."""

    def __init__(self, fd: int) -> None:
        clear(fd)
        self._map = mmap.mmap(fd, SIZE_BYTES)
        self._free = list(range(_SLOTS - 1, -1, -1))
        self._lock = threading.Lock()

    def claim(self, cascade: str) -> "Mark":
        """Return a slot for one worker thread of a cascade."""
        with self._lock:
            at = self._free.pop() * _SLOT_BYTES
        self._map[at : at + _SLOT_BYTES] = b"\0" + cascade.encode().ljust(_NAME_BYTES, b"\0")
        return Mark(self._map, at)

    def release(self, mark: "Mark") -> None:
        """Take a slot back; its worker has ended."""
        with self._lock:
            self._free.append(mark.at // _SLOT_BYTES)


class Mark:
    """One worker's slot: `with mark:` around every stay inside the interpreter."""

    def __init__(self, shared: mmap.mmap, at: int) -> None:
        self._map = shared
        self.at = at

    def __enter__(self) -> None:
        self._map[self.at] = 1

    def __exit__(self, *_exc: object) -> None:
        self._map[self.at] = 0
