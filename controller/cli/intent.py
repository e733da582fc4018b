"""What a person wants to deploy: the bundle that is meant, checked, and the deployment of it."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import time

from controller.catalog import Catalog, StoredBundle
from controller.cli.schedules import read_schedule
from controller.deployments import create_deployment, named_artifacts
from controller.fleet import Fleet
from controller.home import Home
from controller.identity import whoami
from controller.library import read_artifact
from controller.schedules.check import check_wishes
from protocols.desired import Deployment
from protocols.errors import ArtifactError, SluiceError, TrustError
from protocols.rollout import Strategy
from protocols.schedule import Wishes

NONCE_CHARACTERS = 6


@dataclass(frozen=True, slots=True)
class Intent:
    """What the command line says, parsed."""

    bundle: str
    devices: Sequence[str] = ()
    selector: Mapping[str, str] | None = None
    variants: Mapping[str, str] | None = None
    schedule: Path | None = None
    wishes: Wishes | None = None
    strategy: Strategy | None = None
    sources: Sequence[str] = ()

    def deployment(self, fleet: Fleet, stored: StoredBundle) -> Deployment:
        """Return the deployment that this asks for.

        Raises:
            FitError: it insists on a stage or a variant that the bundle does not have.
            MessageError: the schedule file cannot be used.
            ControllerError: its rows are not the bundle's, or decide what is wished for.
        """
        schedule = read_schedule(self.schedule) if self.schedule else None
        check_wishes(self.wishes, schedule, stored.ref.name)
        return create_deployment(
            fleet,
            stored.ref,
            stored.bundle,
            nonce=uuid.uuid4().hex[:NONCE_CHARACTERS],
            now_s=time(),
            devices=self.devices,
            selector=dict(self.selector or {}),
            variants=self.variants,
            schedule=schedule,
            wishes=self.wishes,
            strategy=self.strategy,
            sources=self.sources,
            by=whoami(),
        )


def find_bundle(home: Home, words: str) -> StoredBundle:
    """Return a bundle of the catalog, its signature and every artifact that it names checked.

    Raises:
        CatalogError: there is no such bundle.
        TrustError: it is not signed as the fleet's keys demand.
        ArtifactError: an artifact is not here, or is not what the bundle promises.
    """
    try:
        stored = Catalog(home).find_bundle(words, home.trust())
    except (ArtifactError, TrustError) as error:
        raise type(error)(f"cannot deploy {words}: {error}") from error
    for ref, what in named_artifacts(stored.ref, stored.bundle):
        try:
            read_artifact(home, ref)
        except SluiceError as error:
            raise ArtifactError(f"cannot deploy {what}: {error}") from error
    return stored
