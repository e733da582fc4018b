"""A cascade's artifacts as files, each named by its SHA-256: for any static server."""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from controller.catalog import StoredBundle
from controller.deployments import named_artifacts
from controller.errors import ControllerError
from controller.home import Home
from controller.library import read_artifact


@dataclass(frozen=True, slots=True)
class Exported:
    """One file of an export."""

    sha256: str
    what: str
    size_bytes: int
    written: bool
    """False: it was there already."""


def export(home: Home, stored: StoredBundle, folder: Path) -> tuple[Exported, ...]:
    """Write every artifact of a bundle into a folder; what is there already, and sound, stays.

    The manifest is written last, and each file whole or not at all: a server may serve the folder
    meanwhile.

    Raises:
        CatalogError, ArtifactError: an artifact is not in the catalog, or damaged there.
        ControllerError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tuple(
            Exported(
                ref.sha256,
                what,
                ref.size_bytes,
                _write(folder, ref.sha256, read_artifact(home, ref)),
            )
            for ref, what in named_artifacts(stored.ref, stored.bundle)
        )
    except OSError as error:
        raise ControllerError(
            f"cannot export to {folder}: {error.strerror or error}; what is written so far is whole"
        ) from error


def _write(folder: Path, sha256: str, content: bytes) -> bool:
    path, scratch = folder / sha256, folder / f".{sha256}.new"
    with contextlib.suppress(OSError):
        if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return False
    try:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    return True
