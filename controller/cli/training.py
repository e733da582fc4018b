"""What the commands that train have in common: options, columns, and a quiet torch."""

import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from controller.cli import words
from controller.cli.output import Column
from controller.compress.errors import CompressError
from controller.compress.training.target import Target, parse_target

if TYPE_CHECKING:
    from controller.compress.training.channels import Step
    from controller.compress.training.choice import Row
    from controller.compress.training.recipe import Recipe

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
SpreadText = Annotated[
    Literal["alike", "global"],
    typer.Option(help="Cut each layer alike, or rank the channels of all together."),
]
SPREAD: Literal["alike"] = "alike"
Force = Annotated[bool, typer.Option("--force", help="Take the place of files that are there.")]


def quiet_torch(threads: int | None, seed: int) -> None:
    """Prepare torch: threads, seed, and no warnings of its exporter on a person's terminal.

    Args:
        threads: None: as many as torch takes by itself.
        seed: of what is random.

    Raises:
        CompressError: the extra `train` is not installed.
    """
    from controller.compress.training.protocol import check_packages  # noqa: PLC0415

    check_packages()
    # Read when torch is loaded. Threads that spin while they wait for each other slow it down to a
    # tenth on a machine that does other work as well.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch  # noqa: PLC0415

    warnings.simplefilter("ignore")
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)


def optional_target(text: str | None) -> Target | None:
    """Return a target where one is given."""
    return None if text is None else parse_target(text)


_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def parse_time(text: str | None) -> float | None:
    """Read a time, `90m` or `2h`, in seconds; None stays None.

    Raises:
        typer.BadParameter: it is none.
    """
    if text is None:
        return None
    found = _TIME.fullmatch(text.strip())
    if found is None or float(found[1]) <= 0:
        raise typer.BadParameter(f"{text!r} is no time; write 30s, 90m or 2h")
    return float(found[1]) * _SECONDS[found[2]]


def check_folder(folder: Path, *, force: bool) -> None:
    """Check that a folder may be filled with models.

    Raises:
        CompressError: it is a file, or models are there already.
    """
    if folder.exists() and not folder.is_dir():
        raise CompressError(f"cannot write to {folder}: it is no folder")
    there = sorted(folder.glob("*.tflite"))
    if there and not force:
        raise CompressError(
            f"cannot write to {folder}: {there[0].name} is there already; --force takes its place, "
            "and goes on where the same command was interrupted"
        )


def points(share: float) -> str:
    """Return a share as a percentage with two decimals."""
    return f"{100 * share:.2f}%"


STEPS: "list[Column[Step]]" = [
    Column("STEP", lambda s: s.number, right=True),
    Column("NETWORK", lambda s: s.name or None),
    Column("PARAMETERS", lambda s: f"{s.size.parameters:,}", right=True),
    Column("MACS", lambda s: f"{s.size.macs:,}", right=True),
    Column("BYTES, ABOUT", lambda s: words.size(s.size.bytes), right=True),
    Column("EPOCHS", lambda s: s.epochs, right=True),
    Column("VALIDATION, CUT", lambda s: points(s.accuracy_cut), right=True),
    Column("TAUGHT", lambda s: points(s.accuracy), right=True),
]


def recipe_columns(recipe: "Recipe") -> "list[Column[Row]]":
    """Return the columns of a recipe's table; changes are against its first row."""
    first = recipe.rows[0]
    elsewhere = {row.form: row for row in recipe.chosen_on}

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
        Column("LOSS, VALIDATION", lambda r: f"{elsewhere[r.form].loss.points:.2f}", right=True),
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


def verdict(recipe: "Recipe", loss_points: float) -> str:
    """Return which form to take, in a sentence, and what it does not reach."""
    row = next(one for one in recipe.rows if one.form == recipe.chosen)
    seen = next(one for one in recipe.chosen_on if one.form == recipe.chosen)
    told = (
        f"* {row.form}: chosen on {seen.samples} samples ({seen.loss.points:.2f} points lost, "
        f"{loss_points:g} allowed); on the test data it loses {row.loss.points:.2f} points "
        f"(standard error {row.loss.error_points:.2f})"
    )
    if not recipe.missed:
        return told
    return (
        f"{told}. Goals that it does not keep: {', '.join(recipe.missed)}; try more --last-epochs, "
        "more training data, or more --loss-points"
    )


def recipe_document(recipe: "Recipe") -> dict[str, Any]:
    """Return a recipe as a document."""
    names = ("rows", "chosen", "chosen_on", "missed", "steps", "first_stage", "gates", "notes")
    return {name: getattr(recipe, name) for name in names}
