"""The catalog in the home folder: models by name, bundles by name and version, their artifacts.

    catalog/artifacts/<sha256>              models, golden samples, bundle envelopes
    catalog/models/<name>.json              what is known of a model
    catalog/bundles/<name>/<version>.json   which artifact is the envelope

Every file is written beside its place and renamed, so that it is there whole or not at all.
"""

import contextlib
import difflib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from controller.errors import CatalogError
from controller.home import Home
from controller.library import keep_artifact, read_bundle
from controller.trial import Facts
from protocols.bundle import ArtifactRef, Bundle, BundleRef, Needs, TensorSpec
from protocols.chunks import artifact_ref, chunk_list, list_ref, with_lists
from protocols.envelope import KeySet, open_unverified
from protocols.errors import ArtifactError, SluiceError
from protocols.message import Message, Name
from protocols.topics import check_name

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_NAME_CHARACTERS = 63
_SUFFIX = ".json"
_SHOWN = 10


class ModelRecord(Message):
    """What is known of one model."""

    KIND: ClassVar[str] = "model record"

    name: Name
    artifact: ArtifactRef
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    scores: int | None = Field(None, description="output with the class scores; null: not said")
    needs: Needs
    runtime: str = Field(description="interpreter that the needs were measured with")
    source: str = Field(description="the file it came from")
    added_ts: float

    @property
    def facts(self) -> Facts:
        """What was found when it was added."""
        return Facts(
            inputs=self.inputs, outputs=self.outputs, needs=self.needs, runtime=self.runtime
        )


class BundleRecord(Message):
    """Where one version of a cascade is."""

    KIND: ClassVar[str] = "bundle record"

    ref: BundleRef
    created_ts: float


@dataclass(frozen=True, slots=True)
class StoredBundle:
    """A bundle, and the reference that deployments name it by."""

    ref: BundleRef
    bundle: Bundle


class Catalog:
    """What one home folder has. Several processes may read it, and write it, at once."""

    def __init__(self, home: Home) -> None:
        self._home = home

    # --- artifacts

    def add_artifact(self, content: bytes) -> ArtifactRef:
        """Keep some bytes; return their name. What is there already, and sound, stays.

        Raises:
            CatalogError: the folder cannot be written.
        """
        ref = artifact_ref(content)
        if not self._is_sound(ref):
            keep_artifact(self._home, ref, content)
        return ref

    def add_file(self, path: Path) -> ArtifactRef:
        """Keep a copy of a file; return its name.

        Raises:
            CatalogError: it cannot be read, is empty, or the folder cannot be written.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CatalogError(f"cannot read {path}: {error.strerror or error}") from error
        if not content:
            raise CatalogError(f"cannot add {path}: it is empty")
        return self.add_artifact(content)

    def add_chunk_list(self, ref: ArtifactRef) -> None:
        """Keep the chunk list of an artifact that is here, where it has one to be fetched.

        Raises:
            CatalogError, ArtifactError: as `read`, or the folder cannot be written.
        """
        if list_ref(ref) is not None:
            self.add_artifact(chunk_list(self.read(ref)))

    def read(self, ref: ArtifactRef) -> bytes:
        """Return an artifact's bytes.

        Raises:
            CatalogError: it is not here.
            ArtifactError: its bytes have changed.
        """
        path = self._home.artifact_path(ref.sha256)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CatalogError(
                f"cannot use artifact {ref.sha256[:12]}: {error.strerror}: {path}"
            ) from error
        if artifact_ref(content).sha256 != ref.sha256:
            raise ArtifactError(
                f"cannot use artifact {ref.sha256[:12]}: its bytes have changed; add what it was "
                "made from again"
            )
        return content

    def artifact_path(self, ref: ArtifactRef) -> Path:
        """Return where an artifact lies, once its bytes are checked.

        Raises:
            CatalogError, ArtifactError: as `read`.
        """
        self.read(ref)
        return self._home.artifact_path(ref.sha256)

    # --- models

    def models(self) -> list[ModelRecord]:
        """Return every model's record, by name.

        Raises:
            CatalogError, MessageError: a record cannot be read.
        """
        return [ModelRecord.decode(_read(path)) for path in sorted(_records(self._home.models_dir))]

    def find_model(self, name: str) -> ModelRecord | None:
        """Return a model's record; None: there is none of that name."""
        path = self._model_path(name)
        return ModelRecord.decode(_read(path)) if path.is_file() else None

    def model(self, name: str) -> ModelRecord:
        """Return a model's record.

        Raises:
            CatalogError: there is none of that name.
        """
        record = self.find_model(name)
        if record is None:
            known = [path.stem for path in _records(self._home.models_dir)]
            raise CatalogError(
                f"cannot find model {name!r}: {_instead(name, known)}; "
                "add one with `ctl model add FILE`"
            )
        return record

    def save_model(self, record: ModelRecord) -> None:
        """Write a model's record, in place of one of the same name.

        Raises:
            CatalogError: the folder cannot be written.
        """
        _write(self._model_path(record.name), record.encode())

    # --- bundles

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other process take a version number meanwhile.

        Raises:
            CatalogError: the folder cannot be written.
        """
        folder = self._home.bundles_dir
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise CatalogError(f"cannot use {folder}: {error.strerror or error}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def versions(self, name: str) -> list[int]:
        """Return the versions of a cascade, rising."""
        found = _records(self._home.bundles_dir / check_name(name, "cascade"))
        return sorted(int(path.stem) for path in found if path.stem.isdigit())

    def bundle_names(self) -> list[str]:
        """Return the cascades that have a version."""
        folder = self._home.bundles_dir
        found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        return [name for name in found if _NAME.fullmatch(name) and self.versions(name)]

    def bundle_ref(self, name: str, version: int | None = None) -> BundleRef:
        """Return the reference of a bundle; version None: the latest.

        Raises:
            CatalogError: there is none.
        """
        versions = self.versions(name)
        if not versions:
            raise CatalogError(
                f"cannot find cascade {name!r}: {_instead(name, self.bundle_names())}; "
                "build one with `ctl cascade build`"
            )
        if version is not None and version not in versions:
            raise CatalogError(
                f"cannot find cascade {name}@{version}: its versions are "
                f"{', '.join(map(str, versions))}"
            )
        path = self._bundle_path(name, versions[-1] if version is None else version)
        return BundleRecord.decode(_read(path)).ref

    def bundle(self, ref: BundleRef, keys: KeySet) -> Bundle:
        """Return a bundle, its signature checked.

        Raises:
            CatalogError: its envelope is not here.
            ArtifactError, TrustError, MessageError: it is not what the reference promises.
        """
        return read_bundle(ref, self.read(ref.artifact), keys)

    def find_bundle(self, words: str, keys: KeySet) -> StoredBundle:
        """Return a bundle by `name` (the latest version) or `name@version`.

        Raises:
            CatalogError, ArtifactError, TrustError, MessageError: as `bundle`.
        """
        name, at, number = words.partition("@")
        if at and not (number.isascii() and number.isdigit()):
            raise CatalogError(f"cannot find cascade {words!r}: want NAME or NAME@VERSION")
        ref = self.bundle_ref(name, int(number) if at else None)
        return StoredBundle(ref, self.bundle(ref, keys))

    def save_bundle(self, bundle: Bundle, envelope: bytes) -> BundleRef:
        """Keep a signed bundle; call it while `locked`.

        Raises:
            CatalogError: that version is there already, or the folder cannot be written.
        """
        path = self._bundle_path(bundle.name, bundle.version)
        if path.exists():
            raise CatalogError(
                f"cannot save {bundle.name}@{bundle.version}: that version is there already, and "
                "versions never change"
            )
        artifact = self.add_artifact(envelope)
        ref = BundleRef(name=bundle.name, version=bundle.version, artifact=artifact)
        _write(path, BundleRecord(ref=ref, created_ts=bundle.created_ts).encode())
        return ref

    def resign_bundle(self, bundle: Bundle, envelope: bytes) -> BundleRef:
        """Keep a bundle's envelope with other signatures; call it while `locked`.

        The version stays what it is, the manifest is the same to the byte; only its artifact, the
        envelope, is another.

        Raises:
            CatalogError: that version is not here, or the folder cannot be written.
        """
        before = self.bundle_ref(bundle.name, bundle.version)
        if open_unverified(envelope) != open_unverified(self.read(before.artifact)):
            raise CatalogError(
                f"cannot save {bundle.name}@{bundle.version}: the catalog has another manifest of "
                "that version, and versions never change"
            )
        ref = before.with_(artifact=self.add_artifact(envelope))
        record = BundleRecord(ref=ref, created_ts=bundle.created_ts)
        _write(self._bundle_path(bundle.name, bundle.version), record.encode())
        return ref

    # --- all of it

    def faults(self, keys: KeySet) -> list[str]:
        """Return what does not hold: records, artifacts and signatures that cannot be used."""
        found: list[str] = []
        for path in sorted(_records(self._home.models_dir)):
            with _noting(found):
                self.read(ModelRecord.decode(_read(path)).artifact)
        for name in self.bundle_names():
            for version in self.versions(name):
                with _noting(found):
                    bundle = self.bundle(self.bundle_ref(name, version), keys)
                    for ref in with_lists(bundle.artifacts):
                        self.read(ref)
        return found

    def _is_sound(self, ref: ArtifactRef) -> bool:
        try:
            self.read(ref)
        except SluiceError:
            return False
        return True

    def _model_path(self, name: str) -> Path:
        return self._home.models_dir / (check_name(name, "model") + _SUFFIX)

    def _bundle_path(self, name: str, version: int) -> Path:
        return self._home.bundles_dir / check_name(name, "cascade") / f"{version}{_SUFFIX}"


def valid_name(words: str) -> str:
    """Return a name that may stand in topics, files and command lines, made from any words."""
    kept = re.sub(r"[^A-Za-z0-9_.-]+", "-", words).strip("-_.")
    return kept[:_NAME_CHARACTERS] or "model"


def _records(folder: Path) -> list[Path]:
    return [path for path in folder.glob(f"*{_SUFFIX}") if not path.name.startswith(".")]


def _instead(name: str, known: Sequence[str]) -> str:
    """Say what there is in place of a name that is not there."""
    if near := difflib.get_close_matches(name, known, n=3):
        return f"did you mean {' or '.join(near)}"
    shown = sorted(known)[:_SHOWN]
    more = f" and {len(known) - len(shown)} more" if len(known) > len(shown) else ""
    return f"the catalog has {', '.join(shown) or 'none'}{more}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CatalogError(f"cannot read {path}: {error.strerror or error}") from error


def _write(path: Path, content: bytes) -> None:
    """Replace a file's content: whole, or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    except OSError as error:
        raise CatalogError(f"cannot write {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def _noting(faults: list[str]) -> Iterator[None]:
    try:
        yield
    except SluiceError as error:
        faults.append(str(error))
