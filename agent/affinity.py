"""Which CPUs a thread may use, and how nice it is to others. Says what holds, not what was asked.

Linux gives both to each thread. Where the platform has no such thing, or refuses, nothing changes
and the return value says so.
"""

import contextlib
import os
from collections.abc import Iterable

CALLING_THREAD = 0


def set_cpus(cpus: Iterable[int], thread_id: int = CALLING_THREAD) -> tuple[int, ...] | None:
    """Let a thread use these CPUs only.

    Args:
        cpus: CPU numbers. Those that do not exist are ignored by the kernel; with no other it
            refuses, and the thread keeps what it had.
        thread_id: as the kernel numbers threads (`threading.get_native_id`).

    Returns:
        The CPUs that the thread may use now, in order; None: this platform does not tell.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    with contextlib.suppress(OSError, ValueError, OverflowError):
        os.sched_setaffinity(thread_id, cpus)
    return get_cpus(thread_id)


def get_cpus(thread_id: int = CALLING_THREAD) -> tuple[int, ...] | None:
    """Return the CPUs that a thread may use, in order; None: unknown, or no such thread."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    try:
        return tuple(sorted(os.sched_getaffinity(thread_id)))
    except OSError:
        return None


def set_nice(nice: int, thread_id: int = CALLING_THREAD) -> int | None:
    """Set a thread's nice value, 0 to 19.

    Without the right to (CAP_SYS_NICE, or `LimitNICE=`) a thread can become nicer and never less
    nice again. New threads inherit the value of the thread that makes them, so whoever wants to go
    back makes the thread anew from one that has never been made nicer.

    Returns:
        The value that holds now; None: this platform does not tell.
    """
    with contextlib.suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, thread_id, nice)
    return get_nice(thread_id)


def get_nice(thread_id: int = CALLING_THREAD) -> int | None:
    """Return a thread's nice value; None: unknown, or no such thread."""
    try:
        return os.getpriority(os.PRIO_PROCESS, thread_id)
    except (AttributeError, OSError):
        return None
