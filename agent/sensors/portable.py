"""What psutil still knows where `/proc` is closed to us; None where it refuses as well.

On Termux `virtual_memory` works and `cpu_times` raises PermissionError. psutil costs a megabyte
of memory, so it is imported only on such a machine.
"""


def memory_bytes() -> tuple[float, float] | None:
    """Return total and available memory, in bytes."""
    try:
        import psutil  # noqa: PLC0415 - only where /proc refuses

        memory = psutil.virtual_memory()
    except (ImportError, OSError, RuntimeError):
        return None
    return float(memory.total), float(memory.available)


def cpu_times() -> tuple[float, float] | None:
    """Return busy time and all time of all CPUs together, in seconds since boot."""
    try:
        import psutil  # noqa: PLC0415 - only where /proc refuses

        times = psutil.cpu_times()
    except (ImportError, OSError, RuntimeError):
        return None
    guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    total = sum(times) - guest
    return total - times.idle - getattr(times, "iowait", 0.0), total
