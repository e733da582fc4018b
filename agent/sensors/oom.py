"""The kernel's count of OOM kills: it tells a SIGKILL for want of memory from a person's."""

from pathlib import Path

_VMSTAT = Path("/proc/vmstat")


class OomCount:
    """Remembers the count (`oom_kill` in /proc/vmstat, cgroup kills included)."""

    def __init__(self) -> None:
        self._last = _read()

    def rose(self) -> bool:
        """Whether the kernel has killed for want of memory since this was last asked."""
        before, self._last = self._last, _read()
        return self._last > before


def _read() -> int:
    try:
        lines = _VMSTAT.read_text().splitlines()
        return next((int(x.split()[1]) for x in lines if x.startswith("oom_kill ")), 0)
    except (OSError, IndexError, ValueError):
        return 0
