"""Becomes another program that ends when the process that started it ends, even by SIGKILL.

    python -m controller.tether PARENT_PID COMMAND [ARGUMENT ...]

Linux only (`prctl(PR_SET_PDEATHSIG)`, which survives exec); elsewhere the program just runs. The
signal comes when the *thread* that started us ends, so that must be one that stays.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the command."""
    parent, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):  # it ended before we were tied to it
            return
    os.execvp(command[0], command)  # noqa: S606 - our own caller says what to become


if __name__ == "__main__":
    main(sys.argv[1:])
