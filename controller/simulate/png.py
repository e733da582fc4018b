"""A drawing as PNG, by librsvg's program where that is installed: nothing of ours can draw text."""

import shutil
import subprocess

from controller.errors import ControllerError

PROGRAM = "rsvg-convert"
_ZOOM = 2
"""Pixels of the PNG for each of the drawing's, on a side."""
_TIMEOUT_S = 60.0


def find_program() -> str:
    """Return where the program is.

    Raises:
        ControllerError: it is not installed.
    """
    found = shutil.which(PROGRAM)
    if found is None:
        raise ControllerError(
            f"cannot draw a PNG: {PROGRAM} is not installed (Debian: librsvg2-bin, Termux and "
            "Homebrew: librsvg); a file whose name ends in .svg needs nothing"
        )
    return found


def as_png(svg: str, program: str) -> bytes:
    """Return an SVG document as PNG, twice as large.

    Args:
        svg: the document.
        program: what `find_program` found.

    Raises:
        ControllerError: the program has failed.
    """
    try:
        done = subprocess.run(  # noqa: S603 - a program that we name, and our own document
            [program, "--format=png", f"--zoom={_ZOOM}"],
            input=svg.encode(),
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ControllerError(f"cannot draw a PNG: {error}") from error
    if done.returncode or not done.stdout:
        why = done.stderr.decode(errors="replace").strip() or f"{program} gave {done.returncode}"
        raise ControllerError(f"cannot draw a PNG: {why}")
    return done.stdout
