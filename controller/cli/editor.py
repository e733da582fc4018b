"""A text in a person's editor, opened again until it can be read: what they wrote is never lost."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from controller.cli.exits import explain
from controller.cli.output import error_line, note
from controller.errors import ControllerError
from protocols.errors import SluiceError

_MARK = "#! "
"""Begins the lines that say what is wrong with a text; they leave it before it is read again."""

Read = TypeVar("Read")


def edit_text(
    first: str, name: str, read: Callable[[str], Read], again: Callable[[Path], str]
) -> tuple[Read, Path]:
    """Let a person edit a text in $VISUAL, $EDITOR or vi; return what was read, and where it is.

    Args:
        first: the text to begin with.
        name: what its file's name begins with.
        read: reads a text; a SluiceError opens the editor again, with its words at the head.
        again: says how to go on with a text that is kept.

    Raises:
        ControllerError: there is no editor, or it failed.
        SluiceError: of `read`, where the person has left the text as wrong as it was.
        KeyboardInterrupt: Ctrl-C.
    """
    handle, place = tempfile.mkstemp(prefix=f"{name}-", suffix=".toml")
    os.close(handle)
    path = Path(place)
    path.write_text(first)
    refused: str | None = None
    while True:
        try:
            _run_editor(path)
        except (ControllerError, KeyboardInterrupt) as error:
            _give_up(path, first, again, error)
        written = _without_marks(path.read_text(errors="replace"))
        path.write_text(written)
        try:
            return read(written), path
        except SluiceError as error:
            if written == refused:
                _give_up(path, first, again, error)
            refused = written
            error_line(f"{explain(error)}; the editor opens again")
            path.write_text(f"{_MARK}{explain(error)}\n{written}")


def _give_up(
    path: Path, first: str, again: Callable[[Path], str], error: BaseException
) -> NoReturn:
    """End with an error; what the person has written stays."""
    written = _without_marks(path.read_text(errors="replace"))
    if written == first:
        path.unlink()
        note("Nothing was changed.")
    else:
        path.write_text(written)
        note(f"Nothing was changed. Your text is kept: {again(path)}")
    raise error


def _run_editor(path: Path) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        done = subprocess.run([*shlex.split(editor), str(path)], check=False)  # noqa: S603 - theirs
    except (OSError, ValueError, IndexError) as error:
        raise ControllerError(
            f"cannot open editor {editor!r}: {error}; set EDITOR, or use --file"
        ) from error
    if done.returncode:
        raise ControllerError(f"cannot take what {editor!r} wrote: it ended with {done.returncode}")


def _without_marks(written: str) -> str:
    return "".join(line for line in written.splitlines(keepends=True) if not line.startswith(_MARK))
