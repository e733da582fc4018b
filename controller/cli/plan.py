"""`ctl plan`: what a deployment would mean for each device, before anything is sent."""

from dataclasses import dataclass
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
from controller.cli.output import (
    Column,
    Format,
    Output,
    error_line,
    note,
    out,
    print_json,
    print_rows,
    print_table,
)
from controller.cli.schedules import ScheduleFile
from controller.cli.strategy import (
    CanaryOption,
    GateOption,
    PerMinuteOption,
    SoakOption,
    WavesOption,
    strategy_of,
)
from controller.cli.urls import UrlOption, parse_urls
from controller.cli.wishes import (
    GoalOption,
    JoulesOption,
    LatencyOption,
    QuietOption,
    say_missed,
    wishes_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.cli.previews import Prospect, StageRun
    from controller.fleet import Fleet
    from controller.steps import Step
    from protocols.desired import Deployment
    from protocols.schedule import StageCompute

_NAMED = 8


def plan(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    bundle: Bundle,
    names: Devices = None,
    *,
    labels: Labels = None,
    variants: Variants = None,
    schedule: ScheduleFile = None,
    goal: GoalOption = None,
    latency_ms: LatencyOption = None,
    joules: JoulesOption = None,
    quiet: QuietOption = None,
    urls: UrlOption = None,
    canary: CanaryOption = None,
    waves: WavesOption = None,
    per_minute: PerMinuteOption = None,
    soak: SoakOption = None,
    gates: GateOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what a deployment would mean: forms, bytes to send, memory, how stages would run, waves.

    Sends nothing, and keeps the plan: ctl deploy --plan ID carries it out, unless the fleet has
    moved since. Exit code 2 where the cascade cannot fit on a device.

    Example: ctl plan digits -l room=hall --latency 50ms --canary ring=canary
    """
    from controller.cli.intent import Intent, find_bundle  # noqa: PLC0415
    from controller.cli.plans import facts_of, keep_plan, last_order, make_plan  # noqa: PLC0415
    from controller.cli.previews import prospects  # noqa: PLC0415
    from controller.deployments import deployment_steps  # noqa: PLC0415

    intent = Intent(
        bundle,
        names or (),
        parse_selector(labels),
        parse_pairs(variants, "stage=variant"),
        schedule,
        wishes_of(goal, latency_ms, joules, quiet),
        strategy_of(canary, waves, per_minute, soak, gates),
        parse_urls(urls),
    )
    home = open_home(ctx)
    stored = find_bundle(home, intent.bundle)
    with open_session(ctx) as session:
        fleet = session.fleet
        deployment = intent.deployment(fleet, stored)
        found = prospects(deployment, stored.bundle, fleet, session.bundles)
    after = last_order(fleet, deployment.bundle.name)
    kept = make_plan(deployment, facts_of(found, fleet), after)
    deployment = kept.deployment
    steps = deployment_steps(deployment, stored.bundle)
    unfit = any(one.unfit for one in found)
    if not unfit:
        keep_plan(home, kept)
    if output is Format.JSON:
        print_json({"plan": None if unfit else kept.id, **document(found, steps)})
    else:
        show(found, steps, deployment, fleet)
        if not unfit:
            note(f"Carry it out: ctl deploy --plan {kept.id}")
    if unfit:
        raise typer.Exit(ExitCode.INVALID)


def show(
    found: "Sequence[Prospect]",
    steps: "Sequence[Step]",
    deployment: "Deployment",
    fleet: "Fleet",
) -> None:
    """Print the table, and below it what would be done, or why nothing would."""
    fits = [one for one in found if one.preview is not None]
    if fits or not found:
        print_rows(fits, COLUMNS, Format.TABLE, empty="No device is meant so far.")
    for one in found:
        if one.unfit:
            error_line(one.unfit)
    if fits:
        out().print()
        print_table([line for one in fits for line in _at_c0(one)], RUN_COLUMNS)
    say_missed(found)
    _say_waves(deployment, fleet)
    if len(fits) == len(found):
        note("ctl deploy would:")
        for step in steps:
            note(f"  {step.describe()}", style="dim")


def _say_waves(deployment: "Deployment", fleet: "Fleet") -> None:
    """Say whose turn is when, where there are waves."""
    from controller.cli.rollout_views import gate_words, strategy_words  # noqa: PLC0415
    from controller.rollouts.overview import turns  # noqa: PLC0415

    if deployment.strategy is None:
        return
    out().print()
    print_table(list(turns(deployment, fleet)), WAVE_COLUMNS)
    note(f"Waves: {strategy_words(deployment.strategy)}.")
    note(f"Gates: {gate_words(deployment.strategy.gates)}.")


WAVE_COLUMNS: "list[Column[tuple[str, list[str]]]]" = [
    Column("WAVE", lambda w: w[0]),
    Column("ADDS", lambda w: len(w[1]), right=True),
    Column("DEVICES", lambda w: words.listed(w[1], _NAMED), wrap=True),
]


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
    Column("SEND", lambda p: words.size(p.left_bytes), right=True),
    Column("R0..R4 MIB", _peaks, right=True),
    Column("ANSWER", lambda p: words.milliseconds(p.preview.answer_ms) if p.preview else None),
]


@dataclass(frozen=True, slots=True)
class _Line:
    """One stage of a device at C0, or the answer of all of them."""

    device: str
    what: str
    compute: "StageCompute | None"
    p95_ms: float | None
    source: str


RUN_COLUMNS: list[Column[_Line]] = [
    Column("DEVICE", lambda r: r.device),
    Column("AT C0", lambda r: r.what),
    Column("LAYOUT", lambda r: r.compute.layout if r.compute else ""),
    Column("THREADS", lambda r: r.compute.threads if r.compute else "", right=True),
    Column("CPUS", lambda r: words.cpus(r.compute.cpus) if r.compute else ""),
    Column("P95", lambda r: words.milliseconds(r.p95_ms), right=True),
    Column("FROM", lambda r: r.source, wrap=True),
]


def _at_c0(prospect: "Prospect") -> list[_Line]:
    """Return a line for each stage, and for their answer where all of them were measured."""
    lines = [_Line(r.device, r.stage, r.compute, r.p95_ms, _brief(r)) for r in prospect.runs]
    if prospect.p95_ms is not None:
        lines.append(_Line(prospect.device, "answer", None, prospect.p95_ms, "at most, unshed"))
    return lines


def _brief(run: "StageRun") -> str:
    """Return where a stage's figures come from without the figures, which stand beside it."""
    kind, _, rest = run.source.partition(":")
    return f"{kind}; then shed" if rest.endswith("then shed") else kind


def document(found: "Sequence[Prospect]", steps: "Sequence[Step]") -> dict[str, object]:
    """Return what a deployment would mean as JSON has it."""
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
        "c0": {run.stage: run for run in one.runs},
        "p95_ms": one.p95_ms,
        "joules": one.joules[0] if one.joules else None,
        "joules_method": one.joules[1] if one.joules else None,
        "missed": one.missed,
    }
