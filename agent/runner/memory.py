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

moving = threading.Lock()
"""Held while a model is loaded or dropped, so that each is measured alone."""


def rss_bytes() -> int:
    """Return the resident set of this process."""
    return int(_STATM.read_text().split()[1]) * _PAGE_BYTES


def give_back() -> None:
    """Collect garbage and return free heap pages to the system, where the C library can (glibc).

    Without the trim a sequence of loads and unloads was measured to stay at twice its needs.
    """
    gc.collect()
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)


def available_bytes() -> int | None:
    """Return what the kernel says can be had without swapping (MemAvailable); None: unknown."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None
