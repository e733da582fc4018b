"""A runner's process: spawned with the listening sockets, heard by a thread of its own."""

import itertools
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from agent.errors import ChildError
from agent.inbox import RunnerExited, RunnerSaid
from agent.runner import blackbox
from agent.runner.channel import Channel
from agent.runner.control import FROM_RUNNER, ToRunner

log = logging.getLogger("sluice.child")

_SEND_WITHIN_S = 5
_TIMEVAL = struct.Struct("ll")
_numbers = itertools.count(1)

Post = Callable[[RunnerSaid | RunnerExited], None]


class RunnerProcess:
    """One runner. Its messages, and its end, come to `post` on another thread.

    Args:
        listeners: descriptors of the listening sockets, which it inherits.
        post: takes what it says.
        sysroot: the folder that has `proc` and `sys`, where it reads how much memory there is.

    Raises:
        ChildError: the process cannot be started.
    """

    def __init__(self, listeners: Sequence[int], post: Post, sysroot: Path = Path("/")) -> None:
        self.id = next(_numbers)
        self._post = post
        self._blackbox = blackbox.create()
        ours, theirs = socket.socketpair()
        # A runner that reads no more must not stop the supervisor as well.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(_SEND_WITHIN_S, 0))
        with theirs:
            try:
                self._process = _spawn(theirs.fileno(), listeners, self._blackbox, sysroot)
            except OSError as error:
                ours.close()
                os.close(self._blackbox)
                raise ChildError(f"cannot start a runner: {error}") from error
        self._channel = Channel(ours)
        name = f"runner-{self.id}"
        threading.Thread(target=self._listen, name=name, daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, message: ToRunner, fds: tuple[int, ...] = ()) -> None:
        """Say something; a runner that is gone does not hear it, one that hangs is ended."""
        try:
            self._channel.send(message, fds)
        except BlockingIOError:
            log.warning("runner %d does not read its messages: it is ended", self.pid)
            self.kill()
        except OSError as error:
            log.debug("runner %d does not hear us: %s", self.pid, error)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def _listen(self) -> None:
        while (received := self._channel.receive()) is not None:
            payload, fds = received
            try:
                self._post(RunnerSaid(self.id, FROM_RUNNER.validate_json(payload), tuple(fds)))
            except ValidationError as error:
                log.warning("cannot read a message of runner %d: %s", self.pid, error)
                for fd in fds:
                    os.close(fd)
        code = self._process.wait()
        suspects = blackbox.suspects(self._blackbox)
        os.close(self._blackbox)
        self._channel.close()
        self._post(RunnerExited(self.id, code, suspects))


def _spawn(
    control: int, listeners: Sequence[int], box: int, sysroot: Path
) -> subprocess.Popen[bytes]:
    """Start the process in a group of its own: a terminal's Ctrl-C is for the supervisor alone."""
    listen = [word for fd in listeners for word in ("--listen", str(fd))]
    words = ["--control", str(control), *listen, "--blackbox", str(box)]
    words += ["--sysroot", str(sysroot)]
    return subprocess.Popen(  # noqa: S603 - our own module and numbers
        [sys.executable, "-m", "agent.runner", *words],
        stdin=subprocess.DEVNULL,
        pass_fds=(control, box, *listeners),
        process_group=0,
    )
