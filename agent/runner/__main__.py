"""The runner: the process that executes models. Started by the supervisor, never by a person.

    python -m agent.runner --control FD --listen FD [--listen FD ...] --blackbox FD [--sysroot DIR]

It ends when its control channel does, so that no orphan holds the sockets. SIGTERM and SIGINT are
ignored: whoever stops the service stops the supervisor, which lets this process drain.
"""

import argparse
import faulthandler
import os
import signal
import socket
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: its pool would only take memory

from agent.runner import memory
from agent.runner.blackbox import BlackBox
from agent.runner.channel import Channel
from agent.runner.process import Runner
from agent.runner.room import Room

SWITCH_INTERVAL_S = 0.0005
"""Threads here hand over to each other all the time; the default of 5 ms shows in p95."""


def main() -> None:
    """Run until drained or until the supervisor is gone."""
    parser = argparse.ArgumentParser(prog="agent.runner", description=__doc__)
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--listen", type=int, action="append", default=[])
    parser.add_argument("--blackbox", type=int, required=True)
    parser.add_argument("--sysroot", type=Path, default=Path("/"))
    arguments = parser.parse_args()
    faulthandler.enable()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    memory.settle()
    runner = Runner(
        Channel(socket.socket(fileno=arguments.control)),
        [socket.socket(fileno=fd) for fd in arguments.listen],
        BlackBox(arguments.blackbox),
        Room(arguments.sysroot),
    )
    runner.run()
    sys.stderr.flush()
    os._exit(0)  # interpreters and their pools need no farewell, and may not survive one


if __name__ == "__main__":
    main()
