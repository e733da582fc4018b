"""An agent whose disk is full for as long as the file `$FULL_DISK` exists: `-m` instead of `agent`.

What waits a minute or more looks again after a second here.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec

import agent.cascades.verdicts
import agent.supervisor
from agent.__main__ import main
from agent.storage.files import Disk

_FULL = Path(os.environ["FULL_DISK"])


Given = ParamSpec("Given")


def _unless_full(
    act: Callable[Concatenate[Disk, Given], None],
) -> Callable[Concatenate[Disk, Given], None]:
    def checked(self: Disk, /, *args: Given.args, **kwargs: Given.kwargs) -> None:
        if _FULL.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        act(self, *args, **kwargs)

    return checked


for name in ("write", "reserve", "sync", "replace", "sync_folder"):
    setattr(Disk, name, _unless_full(getattr(Disk, name)))
agent.supervisor._AGAIN_EVERY_S = 1.0
agent.cascades.verdicts.PASSES_AFTER_S = 1.0

if __name__ == "__main__":
    main()
