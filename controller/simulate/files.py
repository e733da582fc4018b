"""Traces on disk: read whole, written line by line so that a file never ends within one."""

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from controller.errors import ControllerError
from controller.simulate.trace import Trace, TraceLine, encode_line, parse_trace
from protocols.errors import MessageError


def read_trace(path: Path) -> Trace:
    """Read a trace's file.

    Raises:
        MessageError: "cannot read trace X: why", with the number of the line that is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MessageError(f"cannot read trace {path}: {error.strerror or error}") from error
    return parse_trace(content.split(b"\n"), str(path))


class TraceWriter:
    """Writes lines to a file or to stdout, each at once. Use it as a context manager.

    A line goes into a file in one write, which the system does not break when the process is
    killed; one that the disk has taken in part is taken back.

    Args:
        path: of the file, which is emptied on entry; None: stdout.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file = -1
        self._size = 0

    def __enter__(self) -> Self:
        """Open the file.

        Raises:
            ControllerError: it cannot be written.
        """
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            except OSError as error:
                raise self._error(error.strerror or str(error)) from error
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._path is not None:
            os.close(self._file)

    def write(self, line: TraceLine) -> None:
        """Write one line.

        Raises:
            ControllerError: it could not be written whole; what was before it stays.
        """
        content = encode_line(line)
        if self._path is None:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
            return
        try:
            written = os.write(self._file, content)
        except OSError as error:
            raise self._error(error.strerror or str(error)) from error
        if written < len(content):
            os.ftruncate(self._file, self._size)
            raise self._error("there is no room left for a whole line")
        self._size += written

    def _error(self, why: str) -> ControllerError:
        return ControllerError(f"cannot write trace {self._path}: {why}")
