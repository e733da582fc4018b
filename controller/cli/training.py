"""What the commands that train have in common: options, columns, and a quiet torch."""

import warnings
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.output import Column
from controller.compress.training.target import Target, parse_target

if TYPE_CHECKING:
    from controller.compress.training.channels import Step
    from controller.compress.training.recipe import Recipe, Row

Module = Annotated[
    str,
    typer.Argument(
        metavar="MODULE",
        help="A .py file or module with model(), train_loader() and validation_loader().",
        show_default=False,
    ),
]
TargetText = Annotated[
    str,
    typer.Option(
        "--target",
        metavar="MEASURE=VALUE",
        help="macs=, bytes= or parameters=; below 1 a share of the original.",
        show_default=False,
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads of torch.")]
Seed = Annotated[int, typer.Option(help="Of what is random in training.")]
Rate = Annotated[float, typer.Option(min=0.0, help="Highest learning rate.")]
Weight = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="What the original counts beside the labels.")
]
Temperature = Annotated[
    float, typer.Option(min=0.1, help="At which the original's answers are softened.")
]
Force = Annotated[bool, typer.Option("--force", help="Take the place of files that are there.")]


def quiet_torch(threads: int, seed: int) -> None:
    """Prepare torch: threads, seed, and no warnings of its exporter on a person's terminal.

    Raises:
        CompressError: the extra `train` is not installed.
    """
    from controller.compress.training.protocol import check_packages  # noqa: PLC0415

    check_packages()
    import torch  # noqa: PLC0415

    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    torch.manual_seed(seed)


def optional_target(text: str | None) -> Target | None:
    """Return a target where one is given."""
    return None if text is None else parse_target(text)


def points(share: float) -> str:
    """Return a share as a percentage with two decimals."""
    return f"{100 * share:.2f}%"


STEPS: "list[Column[Step]]" = [
    Column("STEP", lambda s: s.number, right=True),
    Column("PARAMETERS", lambda s: f"{s.size.parameters:,}", right=True),
    Column("MACS", lambda s: f"{s.size.macs:,}", right=True),
    Column("BYTES, ABOUT", lambda s: words.size(s.size.bytes), right=True),
    Column("ACCURACY, CUT", lambda s: points(s.accuracy_cut), right=True),
    Column("TAUGHT", lambda s: points(s.accuracy), right=True),
]


def recipe_columns(recipe: "Recipe") -> "list[Column[Row]]":
    """Return the columns of a recipe's table; changes are against its first row."""
    first = recipe.rows[0]

    def less(value: float, original: float) -> str:
        return f"{100 * (value / original - 1):+.1f}%"

    return [
        Column("", lambda r: "*" if r.form == recipe.chosen else ""),
        Column("FORM", lambda r: r.form),
        Column("NON-ZERO", lambda r: f"{r.nonzero:,}", right=True),
        Column("", lambda r: less(r.nonzero, first.nonzero), right=True),
        Column("MACS", lambda r: f"{r.macs:,.0f}", right=True),
        Column("FILE", lambda r: words.size(r.file_bytes), right=True),
        Column("WIRE", lambda r: words.size(r.wire_bytes), right=True),
        Column("", lambda r: less(r.wire_bytes, first.wire_bytes), right=True),
        Column("MEAN", lambda r: words.milliseconds(r.mean_ms), right=True),
        Column("", lambda r: less(r.mean_ms, first.mean_ms), right=True),
        Column("MEDIAN", lambda r: words.milliseconds(r.median_ms), right=True),
        Column("CPU", lambda r: words.milliseconds(r.cpu_ms), right=True),
        Column("", lambda r: less(r.cpu_ms, first.cpu_ms), right=True),
        Column("ACCURACY", lambda r: points(r.accuracy), right=True),
        Column("LOSS", lambda r: f"{100 * (first.accuracy - r.accuracy):.2f}", right=True),
        Column("SPOILED/MENDED", lambda r: f"{r.spoiled}/{r.mended}", right=True),
        Column(
            "ESCALATED", lambda r: None if r.escalated is None else points(r.escalated), right=True
        ),
    ]


def remarks(recipe: "Recipe") -> list[str]:
    """Return what a recipe's table does not say: gates, and what could not be done."""
    gates = [
        f"{form}: threshold {gate.threshold:.6g} on max_prob; loses at most {gate.eps:.1%} of "
        f"answers (probability {1 - gate.delta:.2%}, {gate.n} samples, {gate.harms} harms)"
        for form, gate in recipe.gates.items()
    ]
    return [*gates, *recipe.notes]
