"""Exit codes of `ctl`, and the one line that an error becomes."""

import errno
import sys
import traceback
from enum import IntEnum

from controller.errors import BrokerError, ControllerError, HomeError
from protocols.errors import ArtifactError, MessageError, SluiceError, TopicError, TrustError


class ExitCode(IntEnum):
    """How a command ended, for scripts."""

    DONE = 0
    ERROR = 1
    INVALID = 2
    """Invalid input, or a cascade that cannot fit."""
    STOPPED = 3
    """Aborted, or refused, rejected, quarantined or reverted by a device."""
    PENDING = 4
    """Timed out, or devices are still pending."""


_INVALID = (ArtifactError, ControllerError, MessageError, TopicError, TrustError)
_FAILED = (BrokerError, HomeError)


def code_of(error: BaseException) -> ExitCode:
    """Return the exit code that an error ends a command with."""
    if isinstance(error, TimeoutError):
        return ExitCode.PENDING
    invalid = isinstance(error, _INVALID) and not isinstance(error, _FAILED)
    return ExitCode.INVALID if invalid else ExitCode.ERROR


def is_broken_pipe(error: BaseException) -> bool:
    """Whether the reader of our output has gone, as `| head` does."""
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def explain(error: BaseException) -> str:
    """Return an error as one line: "cannot X: why"."""
    text = " ".join(str(error).split())
    if isinstance(error, SluiceError):
        return text
    if isinstance(error, OSError) and error.strerror:
        where = f" {error.filename}" if error.filename else ""
        return f"cannot go on: {error.strerror}:{where}" if where else f"cannot go on: {text}"
    kind = type(error).__name__
    return f"cannot go on: {kind}: {text} (unexpected; --debug shows where)"


def report(error: BaseException, *, debug: bool) -> ExitCode:
    """Print an error on stderr, with its traceback where debugging, and return the exit code."""
    from controller.cli.output import error_line  # noqa: PLC0415 - rich, only when needed

    if debug:
        traceback.print_exception(error, file=sys.stderr)
    error_line(explain(error))
    return code_of(error)
