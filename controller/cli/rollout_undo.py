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
from controller.rollouts.acts import undo_target
from controller.steps import PutDeployment, Step

if TYPE_CHECKING:
    from controller.home import Home
    from controller.session import Session
    from protocols.desired import Deployment


@dataclass(frozen=True, slots=True)
class Undone:
    """An undo that is ready to be published.

    Attributes:
        present: the deployment that is undone.
        deployment: of the earlier bundle, where the present one is.
        stored: the earlier bundle.
        steps: what publishes it.
    """

    present: "Deployment"
    deployment: "Deployment"
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
    deployment = create_deployment(
        fleet,
        stored.ref,
        stored.bundle,
        nonce=uuid.uuid4().hex[:NONCE_CHARACTERS],
        now_s=time.time(),
        devices=present.devices,
        selector=present.selector,
        variants=earlier.variants,
        schedule=earlier.schedule,
        wishes=earlier.wishes,
        sources=earlier.sources,
        by=whoami(),
    )
    unfit = [
        one.unfit
        for one in prospects(deployment, stored.bundle, fleet, session.bundles)
        if one.unfit
    ]
    if unfit:
        raise FitError("; ".join(unfit))
    steps = [
        PutDeployment(deployment, "rollout-undone") if isinstance(step, PutDeployment) else step
        for step in deployment_steps(deployment, stored.bundle)
    ]
    return Undone(present, deployment, stored, steps)


def publish(session: "Session", undo: Undone) -> "Deployment":
    """Publish it; return the new deployment."""
    session.add_bundle(undo.stored.ref, undo.stored.bundle)
    session.execute(undo.steps)
    note(
        f"{words.ref(undo.deployment.bundle)} comes back in place of "
        f"{words.ref(undo.present.bundle)}: deployment {undo.deployment.id}."
    )
    return undo.deployment


def say_dry_run(undo: Undone) -> None:
    """Say what would be done."""
    note(
        f"Would deploy {words.ref(undo.deployment.bundle)} again in place of "
        f"{words.ref(undo.present.bundle)}:"
    )
    for step in undo.steps:
        note(f"  {step.describe()}", style="dim")
