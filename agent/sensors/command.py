"""Programs that tell what no file does: run with a limit, in a process group of their own."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping

from agent.errors import HungError, SensorError

_LONGEST_BYTES = 1 << 16


def find_program(name: str, environ: Mapping[str, str]) -> str | None:
    """Return where a program is on the path, None: it is not installed."""
    return shutil.which(name, path=environ.get("PATH", os.defpath))


class Command:
    """A program with its arguments.

    Args:
        argv: the program's path and its arguments.
        limit_s: how long it may take, children that keep its output open included.
    """

    def __init__(self, *argv: str, limit_s: float) -> None:
        self._argv, self._limit_s = argv, limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def output(self) -> str:
        """Run it and return what it prints; whatever happens, nothing of it is left running.

        Raises:
            HungError: it takes too long, and was killed with all its children.
            SensorError: it cannot be started, ends with another code than 0, or never stops
                printing.
        """
        deadline_s = time.monotonic() + self._limit_s
        try:
            process = subprocess.Popen(  # noqa: S603 - programs that we name
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as error:
            raise SensorError(f"{self._argv[0]} does not start: {error}") from error
        with process:
            self._process = process
            if self._closed:
                self._kill()
            try:
                return self._result(process, deadline_s)
            finally:
                self._kill()

    def close(self) -> None:
        """Kill what runs, now and later."""
        self._closed = True
        self._kill()

    def _result(self, process: subprocess.Popen[bytes], deadline_s: float) -> str:
        content = self._read(process, deadline_s)
        try:
            code = process.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise self._hung() from error
        if code != 0:
            raise SensorError(f"{self._argv[0]} ends with code {code}")
        return content.decode(errors="replace")

    def _read(self, process: subprocess.Popen[bytes], deadline_s: float) -> bytes:
        if process.stdout is None:
            return b""
        fd, content = process.stdout.fileno(), b""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while len(content) < _LONGEST_BYTES:
            left_ms = 1000 * (deadline_s - time.monotonic())
            if left_ms <= 0 or not poll.poll(left_ms):
                raise self._hung()
            chunk = os.read(fd, _LONGEST_BYTES)
            if not chunk:
                return content
            content += chunk
        raise SensorError(f"{self._argv[0]} prints more than {_LONGEST_BYTES >> 10} KiB")

    def _kill(self) -> None:
        """Kill the group, unless its first process has been waited for: its number is free then."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

    def _hung(self) -> HungError:
        return HungError(f"{self._argv[0]} does not answer within {self._limit_s:g} s")
