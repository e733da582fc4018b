"""Where a model comes from, and how what was made of it gets its place: whole, or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from controller.catalog import Catalog, valid_name
from controller.compress.errors import CompressError

_SUFFIX = ".tflite"


def is_path(words: str) -> bool:
    """Whether words name a file, not a model of the catalog."""
    return words.endswith(_SUFFIX) or "/" in words


def find_model(catalog: Catalog, words: str) -> tuple[Path, str]:
    """Return the file of a model, and its name.

    Args:
        catalog: where models have names.
        words: path of a `.tflite` file, or a name in the catalog.

    Raises:
        CatalogError, ArtifactError: there is no such model, or its file is damaged.
        CompressError: there is no such file.
    """
    if not is_path(words):
        return catalog.artifact_path(catalog.model(words).artifact), words
    path = Path(words)
    if not path.is_file():
        raise CompressError(f"cannot use {words}: there is no such file")
    return path, valid_name(path.stem)


def check_free(paths: Iterator[Path] | list[Path], *, force: bool) -> None:
    """Check that files may be written.

    Raises:
        CompressError: one is there already.
    """
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise CompressError(
            f"cannot write {there[0]}: it is there already; --force takes its place"
        )


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write files: all of them, or none. Each is there whole before any gets its name.

    Raises:
        CompressError: a folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            ready = [(_beside(path, content, stack), path) for path, content in files.items()]
            placed: list[Path] = []
            with _undoing(placed):
                for beside, path in ready:
                    beside.replace(path)
                    placed.append(path)
        except OSError as error:
            where = error.filename2 or error.filename
            raise CompressError(f"cannot write {where}: {error.strerror}") from error


@contextlib.contextmanager
def _undoing(placed: list[Path]) -> Iterator[None]:
    """Take back what was placed before one could not be."""
    try:
        yield
    except OSError:
        for path in placed:
            path.unlink()
        raise


def _beside(path: Path, content: bytes, stack: contextlib.ExitStack) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    stack.callback(Path(name).unlink, missing_ok=True)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(name).chmod(0o644)
    return Path(name)
