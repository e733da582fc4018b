"""Which CPUs a thread may use, and how nice it is to others. Says what holds, not what was asked.

Linux gives both to each thread. Where the platform has no such thing, or refuses, nothing changes
and the return value says so.
"""

import contextlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path

CALLING_THREAD = 0
_TASKS = Path("/proc/self/task")


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


def thread_ids() -> set[int]:
    """Return the ids of this process's threads; none where the system does not list them."""
    try:
        return {int(task.name) for task in _TASKS.iterdir()}
    except OSError:
        return set()


def confine(cpus: Collection[int]) -> None:
    """Let every thread of this process use these CPUs only, and all that are made later.

    A thread that another one makes meanwhile inherits the old mask, so they are listed again until
    there is no new one. One that is refused (none of the CPUs is there) keeps what it had.
    """
    done = set[int]()
    while left := thread_ids() - done:
        for thread_id in left:
            if get_cpus(thread_id) != tuple(sorted(cpus)):
                set_cpus(cpus, thread_id)
        done |= left


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
