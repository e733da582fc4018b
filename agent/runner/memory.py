"""What the process occupies, and how freed memory goes back to the system."""

import ctypes
import gc
import os
import threading
from pathlib import Path

MIB = 1 << 20
_STATM = Path("/proc/self/statm")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LIBC = ctypes.CDLL(None)

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Parameters of glibc's mallopt (malloc.h)."""

_BIONIC_PURGE = -101
"""Android's mallopt does with this what malloc_trim does elsewhere (bionic's malloc.h)."""

moving = threading.Lock()
"""Held while a model is loaded or dropped, so that each is measured alone."""


def rss_bytes() -> int:
    """Return the resident set of this process."""
    return int(_STATM.read_text().split()[1]) * _PAGE_BYTES


def settle() -> None:
    """Make the allocator return what is freed; call once, before other threads start.

    By itself glibc learns from the first freed 16 MB of weights to keep the next ones in the heap
    of the thread that asked, whose end malloc_trim does not reach: half of a model stayed. With a
    fixed threshold large buffers are mapped, and unmapped when they are freed.
    """
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.mallopt(_MMAP_THRESHOLD, MIB // 2)
        _LIBC.mallopt(_TRIM_THRESHOLD, MIB)
        _LIBC.mallopt(_ARENA_MAX, 2)


def give_back() -> None:
    """Collect garbage and return free heap pages to the system, where the C library can.

    Without the trim a sequence of loads and unloads was measured to stay at twice its needs.
    """
    gc.collect()
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
    elif hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_BIONIC_PURGE, 0)
