"""`ctl plan`: what a deployment would mean for each device, before anything is sent."""

from typing import TYPE_CHECKING

import typer

from controller.cli import words
from controller.cli.context import open_home, open_session
from controller.cli.exits import ExitCode
from controller.cli.options import (
    Bundle,
    Devices,
    Labels,
    Variants,
    parse_pairs,
    parse_selector,
)
from controller.cli.output import Column, Format, Output, error_line, note, print_json, print_rows
from controller.cli.schedules import ScheduleFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.cli.previews import Prospect
    from controller.steps import Step


def plan(  # noqa: PLR0913, PLR0917 - one parameter an option
    ctx: typer.Context,
    bundle: Bundle,
    names: Devices = None,
    labels: Labels = None,
    variants: Variants = None,
    schedule: ScheduleFile = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what a deployment would mean: forms, bytes to fetch, memory at each residency rung.

    Sends nothing. Exit code 2 where the cascade cannot fit on a device.

    Example: ctl plan digits -l room=hall
    """
    from controller.cli.intent import Intent, find_bundle  # noqa: PLC0415
    from controller.cli.previews import prospects  # noqa: PLC0415
    from controller.deployments import deployment_steps  # noqa: PLC0415

    intent = Intent(
        bundle,
        names or (),
        parse_selector(labels),
        parse_pairs(variants, "stage=variant"),
        schedule,
    )
    stored = find_bundle(open_home(ctx), intent.bundle)
    with open_session(ctx) as session:
        fleet = session.fleet
        deployment = intent.deployment(fleet, stored)
        found = prospects(deployment, stored.bundle, fleet, session.bundles)
    steps = deployment_steps(deployment, stored.bundle)
    if output is Format.JSON:
        print_json(_document(found, steps))
    else:
        _print(found, steps)
    if any(one.unfit for one in found):
        raise typer.Exit(ExitCode.INVALID)


def _print(found: "Sequence[Prospect]", steps: "Sequence[Step]") -> None:
    """Print the table, and below it what would be done, or why nothing would."""
    fits = [one for one in found if one.preview is not None]
    if fits or not found:
        print_rows(fits, COLUMNS, Format.TABLE, empty="No device is meant so far.")
    for one in found:
        if one.unfit:
            error_line(one.unfit)
    if len(fits) == len(found):
        note("ctl deploy would:")
        for step in steps:
            note(f"  {step.describe()}", style="dim")


def _form(prospect: "Prospect") -> str | None:
    if prospect.preview is None:
        return None
    form = prospect.preview.form
    return "\n".join(
        f"{stage}={'(dropped)' if stage in form.dropped else variant}"
        for stage, variant in form.variants
    )


def _peaks(prospect: "Prospect") -> str | None:
    """Return the memory at each rung, R0 to R4, in MiB."""
    if prospect.preview is None:
        return None
    return " ".join(f"{peak:.1f}" for peak in prospect.preview.peak_mib)


COLUMNS: "list[Column[Prospect]]" = [
    Column("DEVICE", lambda p: p.device),
    Column("STATUS", lambda p: "online" if p.online else "offline"),
    Column("FORM", _form, wrap=True),
    Column("FETCH", lambda p: words.size(p.left_bytes), right=True),
    Column("R0..R4 MIB", _peaks, right=True),
    Column("ANSWER", lambda p: words.milliseconds(p.preview.answer_ms) if p.preview else None),
]


def _document(found: "Sequence[Prospect]", steps: "Sequence[Step]") -> dict[str, object]:
    return {
        "fits": not any(one.unfit for one in found),
        "devices": [_prospect(one) for one in found],
        "steps": [step.describe() for step in steps],
    }


def _prospect(one: "Prospect") -> dict[str, object]:
    document: dict[str, object] = {"device": one.device, "online": one.online}
    if one.preview is None:
        return {**document, "fits": False, "message": one.unfit}
    form = one.preview.form
    return {
        **document,
        "fits": True,
        "variants": dict(form.variants),
        "dropped": form.dropped,
        "to_fetch_bytes": one.left_bytes,
        "peak_mib": one.preview.peak_mib,
        "answer_ms": one.preview.answer_ms,
    }
