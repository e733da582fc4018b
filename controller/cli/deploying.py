"""A deployment that is ready to be published: from what the command line says, or from a plan."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from controller.catalog import StoredBundle
from controller.cli.exits import ExitCode
from controller.cli.intent import Intent, find_bundle
from controller.cli.output import Format, error_line, note, print_json
from controller.cli.plan import document, show
from controller.cli.plans import Plan, facts_of, moved, read_plan
from controller.cli.previews import Prospect, prospects
from controller.deployments import deployment_steps, renewed
from controller.errors import FitError
from controller.fleet import Fleet
from controller.home import Home
from controller.identity import whoami
from controller.session import Session
from protocols.desired import Deployment

_MOST_SAID = 10


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is to be published.

    Attributes:
        deployment: not published yet.
        stored: its bundle, checked.
        prospects: what it means for each device; it fits on all.
    """

    deployment: Deployment
    stored: StoredBundle
    prospects: Sequence[Prospect]


def prepare(home: Home, session: Session, intent: Intent, plan_id: str | None) -> Prepared:
    """Return the deployment of an intent, or of a plan whose fleet has not moved since.

    Raises:
        FitError: it cannot fit on a device.
        ControllerError, CatalogError, ArtifactError, TrustError: plan or bundle cannot be used.
        typer.Exit: the fleet has moved since the plan; what has, was said.
    """
    plan = read_plan(home, plan_id) if plan_id is not None else None
    words = intent.bundle if plan is None else _words(plan)
    stored, fleet = find_bundle(home, words), session.fleet
    if plan is None:
        deployment = intent.deployment(fleet, stored)
    else:
        deployment = renewed(plan.deployment, fleet, by=whoami(), now_s=time.time())
    found = prospects(deployment, stored.bundle, fleet, session.bundles)
    if plan is not None:
        _check_unmoved(plan, found, fleet)
    check_fits(found)
    return Prepared(deployment, stored, found)


def check_fits(found: Sequence[Prospect]) -> None:
    """Check that a deployment fits on all of its devices; all but the last where not are said.

    Raises:
        FitError: it does not.
    """
    unfit = [one.unfit for one in found if one.unfit]
    for line in unfit[:-1]:
        note(line, style="red")
    if unfit:
        raise FitError(unfit[-1])


def say_dry_run(found: Prepared, fleet: Fleet, output: Format) -> None:
    """Show what would be done."""
    steps = deployment_steps(found.deployment, found.stored.bundle)
    if output is Format.JSON:
        print_json(document(found.prospects, steps))
    else:
        show(found.prospects, steps, found.deployment, fleet)
        note("Nothing was done (--dry-run).")


def _words(plan: Plan) -> str:
    return f"{plan.deployment.bundle.name}@{plan.deployment.bundle.version}"


def _check_unmoved(plan: Plan, found: Sequence[Prospect], fleet: Fleet) -> None:
    """Refuse a plan that would not do any more what it has shown."""
    changes = moved(plan, facts_of(found, fleet))
    if plan.deployment.id in fleet.deployments:
        changes.insert(0, f"it was deployed already, as {plan.deployment.id}")
    if not changes:
        return
    error_line(f"cannot deploy plan {plan.id}: the fleet has moved since; plan anew")
    for line in changes[:_MOST_SAID]:
        error_line(f"  {line}")
    if len(changes) > _MOST_SAID:
        error_line(f"  and {len(changes) - _MOST_SAID} more changes")
    raise typer.Exit(ExitCode.STOPPED)
