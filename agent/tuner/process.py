"""The tuner's process as the supervisor has it: started, heard by a thread, ended when it must."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

from pydantic import ValidationError

from agent.errors import ChildError
from agent.inbox import TunerExited, TunerSaid
from agent.tuner.request import LINE, TuneRequest

log = logging.getLogger("sluice.tuner")

_NICE = 5
"""A little out of the way of requests that come in meanwhile; alone it costs the tuner nothing."""

Post = Callable[[TunerSaid | TunerExited], None]


class TunerProcess:
    """One run of the tuner. What it says, and its end, come to `post` on another thread.

    Args:
        request: what to measure.
        post: takes what it says.

    Raises:
        ChildError: the process cannot be started.
    """

    def __init__(self, request: TuneRequest, post: Post) -> None:
        self._request, self._post = request, post
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agent.tuner"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,
            )
        except OSError as error:
            raise ChildError(f"cannot start the tuner: {error}") from error
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICE)
        threading.Thread(target=self._talk, name="tuner", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _talk(self) -> None:
        process = self._process
        with process, contextlib.suppress(BrokenPipeError):
            if process.stdin is not None:
                process.stdin.write(self._request.encode())
                process.stdin.close()
            for line in process.stdout or ():
                try:
                    self._post(TunerSaid(process.pid, LINE.validate_json(line)))
                except ValidationError as error:
                    log.warning("cannot read a line of the tuner: %s", error)
        self._post(TunerExited(process.pid, process.wait()))
