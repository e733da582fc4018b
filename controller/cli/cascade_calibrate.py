"""`ctl cascade calibrate`: what a certificate would say, for every metric and temperature."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.context import open_home
from controller.cli.options import parse_pairs
from controller.cli.output import Column, Format, Output, note, out, print_json, table
from controller.cli.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from controller.dry_run import DryRun, Scaling, Trial
    from controller.recipe import Recipe
    from protocols.bundle import Metric

_SURE = 1.0
_NAME = "cascade"


def calibrate(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    stages: Annotated[
        list[str],
        typer.Option(
            "--stage",
            metavar="NAME=MODEL[,MODEL...]",
            help="A stage, in order, as `ctl cascade build` takes it.",
            show_default=False,
        ),
    ],
    *,
    samples: Annotated[
        Path,
        typer.Option(metavar="FILE.npz", help="Samples x and labels y.", show_default=False),
    ],
    reads: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE=stage:NAME", help="A stage that reads another one, not the request."
        ),
    ] = None,
    gates: Annotated[
        list[str] | None,
        typer.Option("--gate", metavar="STAGE=none", help="A stage before the last with no gate."),
    ] = None,
    scores: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE=NAME|NUMBER", help="Which output holds the class scores of a stage."
        ),
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE", help="Accuracy that may be lost: 0.5%, 1% (default), 2% or 5%."
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Of the cascade, in the printed command.")] = _NAME,
    x_key: Annotated[str, typer.Option(help="Name of the array of samples.")] = "x",
    y_key: Annotated[str, typer.Option(help="Name of the array of labels.")] = "y",
    output: Output = Format.TABLE,
) -> None:
    """Compare confidence metrics, with and without temperature scaling, before a cascade is built.

    One half of the samples fits the temperatures and chooses, the other one certifies. Nothing is
    kept: the printed command builds what is recommended.

    Example: ctl cascade calibrate --stage small=small --stage large=large --samples digits.npz
    """
    from controller.catalog import Catalog  # noqa: PLC0415
    from controller.dry_run import dry_run  # noqa: PLC0415
    from controller.judge import begins_at  # noqa: PLC0415
    from controller.recipe import Recipe, read_eps, read_stages  # noqa: PLC0415

    recipe = Recipe(
        name=name,
        stages=read_stages(
            stages,
            reads=parse_pairs(reads, "--reads STAGE=stage:NAME"),
            gates=gates or (),
            scores=parse_pairs(scores, "--scores STAGE=NAME|NUMBER"),
        ),
        samples=samples,
        x_key=x_key,
        y_key=y_key,
        eps=None if eps is None else read_eps(eps),
    )
    with Running("Looking at models") as running:
        found = dry_run(Catalog(open_home(ctx)), recipe, running.next, running.at)
    base = begins_at(recipe, found.trials[0].calibration.eps)
    best = found.best(base)
    command = None
    if best.calibration.saves:
        command = build_command(recipe, stages, best.metric, scaled=best.scaled)
    if output is Format.JSON:
        print_json(_document(found, base, command))
        return
    _print(found)
    _note_best(found, base, command)


def build_command(
    recipe: "Recipe", stages: "Sequence[str]", metric: "Metric", *, scaled: bool
) -> str:
    """Return the command that builds what was tried.

    Args:
        recipe: that was tried.
        stages: its `--stage` words.
        metric: of all its gates.
        scaled: with temperatures: the same samples certify it again; without, all do.
    """
    parts = ["ctl", "cascade", "build", recipe.name]
    for words_of in stages:
        parts += ["--stage", words_of]
    for stage in recipe.stages[:-1]:
        parts += ["--gate", f"{stage.name}={metric if stage.metric else 'none'}"]
    for stage in recipe.stages:
        parts += ["--reads", f"{stage.name}={stage.reads}"] if stage.source else []
        parts += ["--scores", f"{stage.name}={stage.scores}"] if stage.scores else []
    parts += ["--temperature", "auto"] if scaled else []
    parts += ["--samples", str(recipe.samples)]
    parts += ["--x-key", recipe.x_key] if recipe.x_key != "x" else []
    parts += ["--y-key", recipe.y_key] if recipe.y_key != "y" else []
    parts += [] if recipe.eps is None else ["--eps", f"{recipe.eps:.3g}"]
    return shlex.join(parts)


def _document(found: "DryRun", base: int, command: str | None) -> dict[str, object]:
    best = found.best(base)
    return {
        "variants": found.variants,
        "fitted": found.fitted,
        "certified": found.certified,
        "scalings": found.scalings,
        "trials": [
            {
                "metric": trial.metric,
                "scaled": trial.scaled,
                "eps": trial.calibration.eps,
                "gates": trial.calibration.gates,
                "accuracy": trial.calibration.accuracy,
                "answer_ms": trial.answer_ms,
            }
            for trial in found.trials
        ],
        "recommended": {
            "eps": best.calibration.eps[base],
            "metric": best.metric,
            "scaled": best.scaled,
            "build": command,
        },
        "choices_left_out": found.left_out,
    }


def _print(found: "DryRun") -> None:
    last = list(found.scalings)[-1]
    out().print(table(list(found.scalings.items()), _scaling_columns(last)))
    out().print()
    rows = [
        (trial, step)
        for step in range(len(found.trials[0].calibration.eps))
        for trial in found.trials
    ]
    out().print(table(rows, _trial_columns(found)))
    note(
        f"\n{found.fitted} samples fitted the temperatures and chose, {found.certified} others "
        "certify. * is what is recommended: the least expected time, by those that chose; within "
        "5% of it, with temperatures, for its answers say how sure they may be."
    )
    gates = [one for name, one in found.scalings.items() if name != last]
    if all(max(one.reordered.values()) == 0 for one in gates):
        note("Scaling orders no pair of samples differently: it cannot change what leaves early.")
    if found.left_out:
        names = ", ".join(f"{stage}={variant}" for stage, variant in found.variants.items())
        note(f"Only {names} was looked at, not {found.left_out} other choices of variants.")


def _note_best(found: "DryRun", base: int, command: str | None) -> None:
    eps = f"{found.trials[0].calibration.eps[base]:.1%}"
    if command is None:
        note(
            f"\neps {eps}: no answer may leave early; deploy the last stage alone.", style="yellow"
        )
        return
    if found.best(base).scaled:
        note(f"\neps {eps}: this builds it, with the same temperatures and thresholds:")
    else:
        note(
            f"\neps {eps}: this builds it, certified on all {found.fitted + found.certified} "
            "samples; half of them chose the metric, so others would be better:"
        )
    note(f"  {command}")
    if not found.best(base).scaled:
        note("  With --temperature auto its answers would say how sure they may be.")


def _trial_columns(found: "DryRun") -> "list[Column[tuple[Trial, int]]]":
    gates = found.trials[0].calibration.gates
    several = len(gates) > 1
    columns: list[Column[tuple[Trial, int]]] = [
        Column("EPS", lambda row: f"{row[0].calibration.eps[row[1]]:.1%}"),
        Column("METRIC", lambda row: row[0].metric + _mark(found, *row)),
        Column("SCALED", lambda row: "yes" if row[0].scaled else "no"),
    ]
    for stage in gates:
        suffix = f" {stage}" if several else ""
        columns += [
            Column(f"THRESHOLD{suffix}", _threshold(stage), right=True),
            Column(f"HARMS{suffix}", _harms(stage), right=True),
            Column(f"ESCALATED{suffix}", _escalated(stage), right=True),
        ]
    return [
        *columns,
        Column("ACCURACY", lambda row: f"{row[0].calibration.accuracy[row[1]]:.2%}", right=True),
        Column("ANSWER", lambda row: words.milliseconds(row[0].answer_ms[row[1]]), right=True),
    ]


def _mark(found: "DryRun", trial: "Trial", step: int) -> str:
    return "*" if trial is found.best(step) else ""


def _threshold(stage: str) -> "Callable[[tuple[Trial, int]], str]":
    def show(row: "tuple[Trial, int]") -> str:
        at = row[0].calibration.gates[stage][row[1]].threshold
        return "never" if at > _SURE else f"{at:.5g}"

    return show


def _harms(stage: str) -> "Callable[[tuple[Trial, int]], str]":
    def show(row: "tuple[Trial, int]") -> str:
        gate = row[0].calibration.gates[stage][row[1]]
        return f"{gate.harms}/{gate.n}"

    return show


def _escalated(stage: str) -> "Callable[[tuple[Trial, int]], str]":
    return lambda row: f"{row[0].calibration.gates[stage][row[1]].escalated:.1%}"


def _scaling_columns(last: str) -> "list[Column[tuple[str, Scaling]]]":
    return [
        Column("STAGE", lambda row: row[0]),
        Column("TEMPERATURE", lambda row: f"{row[1].temperature:.4g}", right=True),
        Column("CALIBRATION ERROR", lambda row: f"{row[1].error_before:.2%}", right=True),
        Column("SCALED", lambda row: f"{row[1].error_after:.2%}", right=True),
        Column("NLL", lambda row: f"{row[1].nll_before:.3g}", right=True),
        Column("SCALED", lambda row: f"{row[1].nll_after:.3g}", right=True),
        Column("PAIRS REORDERED", lambda row: None if row[0] == last else _reordered(row[1])),
    ]


def _reordered(scaling: "Scaling") -> str:
    return ", ".join(f"{metric} {share:.2%}" for metric, share in scaling.reordered.items())
