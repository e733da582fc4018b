"""An agent whose disk is full for as long as the file `$FULL_DISK` exists: `-m` instead of `agent`.

If it holds a number, so many bytes of artifacts find room, and no more.

What waits a minute or more looks again after a second here.
"""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Concatenate, ParamSpec

import agent.cascades.verdicts
import agent.storage.artifacts
import agent.supervisor
from agent.__main__ import main
from agent.storage.files import Disk

_FULL = Path(os.environ["FULL_DISK"])
_measure = shutil.disk_usage

Given = ParamSpec("Given")


def _unless_full(
    act: Callable[Concatenate[Disk, Given], None],
) -> Callable[Concatenate[Disk, Given], None]:
    def checked(self: Disk, /, *args: Given.args, **kwargs: Given.kwargs) -> None:
        if _FULL.exists() and not _FULL.read_text():
            raise OSError(errno.ENOSPC, "No space left on device")
        act(self, *args, **kwargs)

    return checked


def _usage(folder: Path) -> SimpleNamespace:
    """Stand in for `shutil.disk_usage` where the disk is as large as is said."""
    said = _FULL.read_text() if _FULL.exists() else ""
    if not said:
        return SimpleNamespace(free=_measure(folder).free)
    files = [path.stat() for path in folder.parent.glob("*/*") if path.is_file()]
    used = sum(stat.st_blocks * 512 for stat in files)
    return SimpleNamespace(free=int(said) - used + agent.storage.artifacts._SPARE_BYTES)


for name in ("write", "reserve", "sync", "replace", "sync_folder"):
    setattr(Disk, name, _unless_full(getattr(Disk, name)))
shutil.disk_usage = _usage  # type: ignore[assignment]
agent.supervisor._AGAIN_EVERY_S = 1.0
agent.cascades.verdicts.PASSES_AFTER_S = 1.0

if __name__ == "__main__":
    main()
