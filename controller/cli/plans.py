"""Plans that a person has seen and may deploy as they are: kept by ID, with the facts they rest on.

The ID is a digest of what is wanted and of those facts, so two plans of the same ID mean the same.
A deployment of a plan is refused once a fact has changed: then it would not do what was shown.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from controller.cli.previews import Prospect
from controller.deployments import deployment_id
from controller.errors import ControllerError, HomeError
from controller.fleet import Fleet
from controller.home import Home, Section
from controller.progress import reaches
from protocols.desired import Deployment
from protocols.message import explain

_ID_CHARACTERS = 12
_NONCE_CHARACTERS = 6
_NOT_INTENT = {"id", "by", "created_ts", "order"}

Facts = dict[str, dict[str, str]]
"""Device -> what of it -> how that is."""


class Plan(Section):
    """A plan as it is kept.

    Attributes:
        id: a digest of the deployment without its name and date, of the facts, and of `after`.
        deployment: that was planned.
        facts: that the plan rests on.
        after: the highest order of the cascade's deployments before it, ended ones among them: what
            was deployed and aborted may be planned again, as another plan.
    """

    id: str
    deployment: Deployment
    facts: Facts
    after: int = 0


def make_plan(deployment: Deployment, facts: Facts, after: int) -> Plan:
    """Return the plan of a deployment that is not published yet.

    The deployment gets its name from the plan, because its devices' turns follow from its name: so
    they are those that the plan shows.
    """
    intent = deployment.model_dump(mode="json", exclude=_NOT_INTENT)
    said = json.dumps([intent, facts, after], sort_keys=True, separators=(",", ":"))
    plan_id = hashlib.sha256(said.encode()).hexdigest()[:_ID_CHARACTERS]
    name = deployment_id(deployment.bundle, plan_id[:_NONCE_CHARACTERS])
    return Plan(id=plan_id, deployment=deployment.with_(id=name), facts=facts, after=after)


def last_order(fleet: Fleet, cascade: str) -> int:
    """Return the highest order of a cascade's deployments; 0: it has none."""
    orders = (d.order for d in fleet.deployments.values() if d.bundle.name == cascade)
    return max(orders, default=0)


def facts_of(found: Iterable[Prospect], fleet: Fleet) -> Facts:
    """Return what a plan rests on: forms, how stages run, bytes to send, who rules there now.

    What changes from minute to minute (who is connected, what was measured) is not among it.
    """
    return {one.device: _facts_of_device(one, fleet) for one in found}


def moved(plan: Plan, facts: Facts) -> list[str]:
    """Return what has changed since a plan was made, in words, by device."""
    said = [f"{name} is new" for name in sorted(facts.keys() - plan.facts.keys())]
    said += [f"{name} is gone" for name in sorted(plan.facts.keys() - facts.keys())]
    for name in sorted(facts.keys() & plan.facts.keys()):
        before, now = plan.facts[name], facts[name]
        said += [
            f"{name}: {what} was {before.get(what, 'nothing')}, is {now.get(what, 'nothing')}"
            for what in sorted(before.keys() | now.keys())
            if before.get(what) != now.get(what)
        ]
    return said


def keep_plan(home: Home, plan: Plan) -> Path:
    """Keep a plan; the same one twice is one.

    Raises:
        HomeError: the folder cannot be written.
    """
    path = _path(home, plan.id)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".tmp")
        scratch.write_text(plan.model_dump_json(indent=2) + "\n")
        scratch.replace(path)
    except OSError as error:
        raise HomeError(f"cannot keep plan {plan.id}: {error.strerror or error}") from error
    return path


def read_plan(home: Home, name: str) -> Plan:
    """Return a plan by its ID, or by its first characters.

    Raises:
        ControllerError: there is none, more than one begins so, or it is damaged.
    """
    known = sorted(path.stem for path in _path(home, "x").parent.glob("*.json"))
    found = [one for one in known if name and one.startswith(name)]
    if len(found) != 1:
        why = f"{len(found)} plans begin so" if found else "`ctl plan` makes one and prints its ID"
        raise ControllerError(f"cannot find plan {name!r}: {why}")
    path = _path(home, found[0])
    try:
        plan = Plan.model_validate_json(path.read_text())
    except OSError as error:
        raise HomeError(f"cannot read plan {found[0]}: {error.strerror or error}") from error
    except ValidationError as error:
        raise ControllerError(f"cannot read plan {found[0]}: {explain(error)}") from error
    if make_plan(plan.deployment, plan.facts, plan.after).id != plan.id or plan.id != found[0]:
        raise ControllerError(f"cannot use plan {found[0]}: {path} was changed; plan anew")
    return plan


def _path(home: Home, plan_id: str) -> Path:
    return home.folder / "plans" / f"{plan_id}.json"


def _facts_of_device(one: Prospect, fleet: Fleet) -> dict[str, str]:
    device = fleet.device(one.device)
    facts = {
        "bytes to send": str(one.left_bytes),
        "deployed there": ", ".join(
            sorted(d.id for d in fleet.deployments.values() if reaches(d, device, fleet.rollouts))
        ),
    }
    if one.preview is None:
        return {**facts, "form": f"none: {one.unfit}"}
    form = one.preview.form
    facts["form"] = " ".join(
        f"{stage}={'(dropped)' if stage in form.dropped else variant}"
        for stage, variant in form.variants
    )
    facts["peak MiB"] = " ".join(f"{peak:.1f}" for peak in one.preview.peak_mib)
    for run in one.runs:
        cpus = "any" if run.compute.cpus is None else ",".join(map(str, run.compute.cpus))
        facts[f"{run.stage} runs"] = f"{run.compute.layout} x{run.compute.threads} on {cpus}"
    return facts
