"""`ctl cascade calibrate`: what a certificate would say, for every metric. Nothing is kept."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.context import open_home
from controller.cli.options import parse_pairs
from controller.cli.output import Column, Format, Output, note, out, print_json, table
from controller.cli.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.dry_run import DryRun, Scaling, Trial

_SURE = 1.0


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
    x_key: Annotated[str, typer.Option(help="Name of the array of samples.")] = "x",
    y_key: Annotated[str, typer.Option(help="Name of the array of labels.")] = "y",
    output: Output = Format.TABLE,
) -> None:
    """Compare confidence metrics, with and without temperature scaling, before a cascade is built.

    One half of the samples fits the temperatures, the other one certifies.

    Example: ctl cascade calibrate --stage small=small --stage large=large --samples digits.npz
    """
    from controller.catalog import Catalog  # noqa: PLC0415
    from controller.dry_run import dry_run  # noqa: PLC0415
    from controller.recipe import Recipe, read_stages  # noqa: PLC0415

    recipe = Recipe(
        name="the cascade",
        stages=read_stages(
            stages,
            reads=parse_pairs(reads, "--reads STAGE=stage:NAME"),
            gates=gates or (),
            scores=parse_pairs(scores, "--scores STAGE=NAME|NUMBER"),
        ),
        samples=samples,
        x_key=x_key,
        y_key=y_key,
    )
    with Running("Looking at models") as running:
        found = dry_run(Catalog(open_home(ctx)), recipe, running.next, running.at)
    if output is Format.JSON:
        print_json(_document(found))
        return
    _print(found)


def _document(found: "DryRun") -> dict[str, object]:
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
        "choices_left_out": found.left_out,
    }


def _print(found: "DryRun") -> None:
    out().print(table(list(found.scalings.items()), _SCALING_COLUMNS))
    out().print()
    rows = [
        (trial, step)
        for step in range(len(found.trials[0].calibration.eps))
        for trial in found.trials
    ]
    out().print(table(rows, _trial_columns(found)))
    note(
        f"\n{found.fitted} samples fitted the temperatures, {found.certified} others certified. "
        "* is the metric with the least expected time of those that can be deployed: the runner "
        "has no temperature. A metric chosen by these samples should be certified on others."
    )
    if all(max(one.reordered.values()) == 0 for one in found.scalings.values()):
        note("Scaling orders no pair of samples differently: it cannot change what leaves early.")
    if found.left_out:
        names = ", ".join(f"{stage}={variant}" for stage, variant in found.variants.items())
        note(f"Only {names} was looked at, not {found.left_out} other choices of variants.")


def _trial_columns(found: "DryRun") -> "list[Column[tuple[Trial, int]]]":
    several = len(found.scalings) > 1
    columns: list[Column[tuple[Trial, int]]] = [
        Column("EPS", lambda row: f"{row[0].calibration.eps[row[1]]:.1%}"),
        Column("METRIC", lambda row: row[0].metric + _mark(found, *row)),
        Column("SCALED", lambda row: "yes" if row[0].scaled else "no"),
    ]
    for stage in found.scalings:
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


_SCALING_COLUMNS: "list[Column[tuple[str, Scaling]]]" = [
    Column("GATE", lambda row: row[0]),
    Column("TEMPERATURE", lambda row: f"{row[1].temperature:.3g}", right=True),
    Column("CALIBRATION ERROR", lambda row: f"{row[1].error_before:.2%}", right=True),
    Column("SCALED", lambda row: f"{row[1].error_after:.2%}", right=True),
    Column("NLL", lambda row: f"{row[1].nll_before:.3g}", right=True),
    Column("SCALED", lambda row: f"{row[1].nll_after:.3g}", right=True),
    Column("PAIRS REORDERED", lambda row: _reordered(row[1])),
]


def _reordered(scaling: "Scaling") -> str:
    return ", ".join(f"{metric} {share:.2%}" for metric, share in scaling.reordered.items())
