"""What `ctl rollout undo` does: an earlier bundle, deployed again where the present one is."""

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from controller.catalog import StoredBundle
from controller.cli import words
from controller.cli.intent import NONCE_CHARACTERS, find_bundle
from controller.cli.output import note
from controller.cli.previews import prospects
from controller.deployments import create_deployment, deployment_steps
from controller.errors import FitError
from controller.identity import whoami
from controller.rollouts.acts import undo_places, undo_target, undone_with
from controller.steps import PutArtifact, PutDeployment, Step

if TYPE_CHECKING:
    from controller.home import Home
    from controller.session import Session
    from protocols.desired import Deployment


@dataclass(frozen=True, slots=True)
class Undone:
    """An undo that is ready to be published.

    Attributes:
        present: the deployment that is undone, with all others of its bundle.
        deployments: of the earlier bundle, where any of these is: most often one.
        stored: the earlier bundle.
        steps: what publishes it, and then ends what is undone, so that it never goes on.
    """

    present: "Deployment"
    deployments: "list[Deployment]"
    stored: StoredBundle
    steps: list[Step]


def version_of(cascade: str, to: str | None) -> int | None:
    """Read `--to`: `3` or `digits@3`; None stays None.

    Raises:
        typer.BadParameter: it is no version of this cascade.
    """
    if to is None:
        return None
    name, _, version = to.rpartition("@")
    if name not in {"", cascade} or not (version.isascii() and version.isdigit()):
        raise typer.BadParameter(f"--to {to!r}: write a version, for example {cascade}@3")
    return int(version)


def undone(home: "Home", session: "Session", cascade: str, version: int | None) -> Undone:
    """Return what takes a cascade back to an earlier bundle.

    Raises:
        ControllerError: there is nothing to go back from, or to.
        CatalogError, ArtifactError, TrustError: the earlier bundle is not in this catalog.
        FitError: it cannot run on a device any more.
    """
    fleet = session.fleet
    present, earlier = undo_target(fleet, cascade, version)
    stored = find_bundle(home, f"{earlier.bundle.name}@{earlier.bundle.version}")
    ended = undone_with(fleet, present)
    made: list[Deployment] = []
    for devices, selector in undo_places(fleet, present):
        deployment = create_deployment(
            fleet,
            stored.ref,
            stored.bundle,
            nonce=uuid.uuid4().hex[:NONCE_CHARACTERS],
            now_s=time.time(),
            devices=devices,
            selector=selector,
            variants=earlier.variants,
            schedule=earlier.schedule,
            wishes=earlier.wishes,
            sources=earlier.sources,
            by=whoami(),
        )
        made.append(deployment.with_(order=deployment.order + len(made)))
    unfit = [
        one.unfit
        for deployment in made
        for one in prospects(deployment, stored.bundle, fleet, session.bundles)
        if one.unfit
    ]
    if unfit:
        raise FitError("; ".join(unfit))
    artifacts = [s for s in deployment_steps(made[0], stored.bundle) if isinstance(s, PutArtifact)]
    # The new ones first: what was there before both must not rule for a moment.
    return Undone(
        present,
        made,
        stored,
        [
            *artifacts,
            *(PutDeployment(one, "rollout-undone") for one in made),
            *(PutDeployment(one.with_(aborted=True), "aborted") for one in ended),
        ],
    )


def publish(session: "Session", undo: Undone) -> None:
    """Publish it."""
    session.add_bundle(undo.stored.ref, undo.stored.bundle)
    session.execute(undo.steps)
    note(
        f"{words.ref(undo.stored.ref)} comes back in place of "
        f"{words.ref(undo.present.bundle)}: {', '.join(one.id for one in undo.deployments)}."
    )


def say_dry_run(undo: Undone) -> None:
    """Say what would be done."""
    note(
        f"Would deploy {words.ref(undo.stored.ref)} again in place of "
        f"{words.ref(undo.present.bundle)}:"
    )
    for step in undo.steps:
        note(f"  {step.describe()}", style="dim")
