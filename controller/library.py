"""The bundles that deployments name: read from the catalog, pulled from the broker if not there."""

import logging
import os
import tempfile
from pathlib import Path

from controller.errors import CatalogError
from controller.home import Home
from protocols.bundle import ArtifactRef, Bundle, BundleRef
from protocols.chunks import artifact_ref, check
from protocols.envelope import BUNDLE, KeySet, verify
from protocols.errors import MessageError, SluiceError
from protocols.pull import Puller, pull_bytes

log = logging.getLogger("sluice.library")

PULL_GIVE_UP_S = 10.0


def read_bundle(ref: BundleRef, envelope: bytes, keys: KeySet) -> Bundle:
    """Return the bundle of an envelope that a reference names.

    Raises:
        ArtifactError: the bytes are not those that the reference names.
        TrustError: no trusted release key has signed it.
        MessageError: it is no bundle, or one of another name or version.
    """
    found = artifact_ref(envelope)
    check(ref.artifact, found.sha256, found.size_bytes)
    bundle = Bundle.decode(verify(envelope, BUNDLE, keys))
    if (bundle.name, bundle.version) != (ref.name, ref.version):
        raise MessageError(
            f"cannot use bundle {ref.name}@{ref.version}: the envelope holds "
            f"{bundle.name}@{bundle.version}"
        )
    return bundle


def load_bundle(home: Home, ref: BundleRef, keys: KeySet) -> Bundle | None:
    """Return a bundle from the catalog; None: it is not there.

    Raises:
        ArtifactError, TrustError, MessageError: as `read_bundle`.
        CatalogError: it cannot be read.
    """
    try:
        envelope = home.artifact_path(ref.artifact.sha256).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CatalogError(f"cannot read bundle {ref.name}@{ref.version}: {error}") from error
    return read_bundle(ref, envelope, keys)


def fetch_bundle(home: Home, ref: BundleRef, keys: KeySet) -> Bundle:
    """Pull a bundle's envelope from the broker, keep it in the catalog and return the bundle.

    Raises:
        LinkError: it did not come.
        ArtifactError, TrustError, MessageError: as `read_bundle`.
    """
    with Puller(home.broker, home.topics, f"{home.fleet}-ctl") as puller:
        envelope = pull_bytes(puller, ref.artifact, PULL_GIVE_UP_S)
    bundle = read_bundle(ref, envelope, keys)
    try:
        keep_artifact(home, ref.artifact, envelope)
    except SluiceError as error:
        log.warning("%s (the bundle is used all the same)", error)
    return bundle


def keep_artifact(home: Home, ref: ArtifactRef, content: bytes) -> Path:
    """Write a verified artifact into the catalog, whole or not at all.

    Raises:
        CatalogError: it cannot be written.
    """
    target = home.artifact_path(ref.sha256)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            path = Path(folder) / ref.sha256
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            path.replace(target)
    except OSError as error:
        raise CatalogError(f"cannot write {target}: {error}") from error
    return target


def read_artifact(home: Home, ref: ArtifactRef) -> bytes:
    """Return an artifact's bytes from the catalog.

    Raises:
        CatalogError: it is not there.
        ArtifactError: its bytes are not those that its name promises.
    """
    try:
        content = home.artifact_path(ref.sha256).read_bytes()
    except OSError as error:
        raise CatalogError(
            f"cannot read artifact {ref.sha256[:12]} in {home.artifacts_dir}: {error.strerror}"
        ) from error
    found = artifact_ref(content)
    check(ref, found.sha256, found.size_bytes)
    return content
