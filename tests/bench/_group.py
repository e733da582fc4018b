"""A memory control group of our own, below the one that we are in: version 2 or version 1."""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path("/sys/fs/cgroup")
_LEAVE_S = 10.0


class GroupError(Exception):
    """No group can be made here."""


@dataclass(frozen=True)
class Group:
    """A folder of the kernel's; whoever is in it shares the limit."""

    folder: Path
    limit_bytes: int
    unified: bool
    """Version 2."""

    @classmethod
    @contextlib.contextmanager
    def made(cls, name: str, limit_mib: int) -> Iterator[Self]:
        """Make a group with a limit and no swap; remove it when all have left.

        Raises:
            GroupError: it is not permitted, or there is no memory controller.
        """
        parent, unified = _own()
        folder = parent / f"{name}-{os.getpid()}"
        group = cls(folder, limit_mib << 20, unified)
        try:
            folder.mkdir()
            limit = "memory.max" if unified else "memory.limit_in_bytes"
            (folder / limit).write_text(str(group.limit_bytes))
        except OSError as error:
            with contextlib.suppress(OSError):
                folder.rmdir()
            raise GroupError(f"no control group can be made in {parent}: {error}") from error
        with contextlib.suppress(OSError):  # where there is no swap, there is no such file
            swap = "memory.swap.max" if unified else "memory.swappiness"
            (folder / swap).write_text("0")
        try:
            yield group
        finally:
            group.remove()

    @property
    def files(self) -> tuple[str, str, str]:
        """What tells the usage, what the inactive files, and by which word."""
        usage = "memory.current" if self.unified else "memory.usage_in_bytes"
        word = "inactive_file" if self.unified else "total_inactive_file"
        return str(self.folder / usage), str(self.folder / "memory.stat"), word

    def take(self, pid: int) -> None:
        """Let a process, and what it starts from now on, be in the group."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def oom_kills(self) -> int:
        """Return how often the kernel has killed in it."""
        name = "memory.events" if self.unified else "memory.oom_control"
        found = re.search(r"^oom_kill (\d+)$", (self.folder / name).read_text(), re.MULTILINE)
        return int(found[1]) if found else 0

    def remove(self) -> None:
        """Remove it; who was in it must have ended."""
        by_s = time.monotonic() + _LEAVE_S
        while True:
            try:
                self.folder.rmdir()
            except OSError:
                if time.monotonic() > by_s:
                    raise
                time.sleep(0.05)
            else:
                return


def _own() -> tuple[Path, bool]:
    """Return the folder of the group that we are in, and whether it is of version 2."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _seen(ROOT / "memory", path), False
        if not controllers and (ROOT / "cgroup.controllers").exists():
            return _seen(ROOT, path), True
    raise GroupError("no memory controller is mounted below /sys/fs/cgroup")


def _seen(base: Path, path: str) -> Path:
    """Return a group's folder; in a container its own group may be the root that is seen."""
    folder = base / path.lstrip("/")
    return folder if folder.is_dir() else base
