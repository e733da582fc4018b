"""`ctl model tie MODULE`: layers that share one array, pair by pair, each followed by teaching."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from controller.cli import lightening, training, words
from controller.cli.output import Column, Format, Output, note, out, print_json, print_rows, table
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.compress.training.tied import Attempt, File, TiedNetwork

_DEFAULT_LOSS = 0.005


def tie(  # noqa: PLR0913 - one parameter for each option
    module: training.Module,
    *,
    to: Annotated[
        Literal["fp32", "int8", "dynamic-int8", "int4"],
        typer.Option("--to", help="Form of the file; others than fp32 as `ctl model quantize`."),
    ] = "fp32",
    max_loss: Annotated[
        str | None,
        typer.Option(
            metavar="POINTS",
            help="Accuracy that the file may lose on validation data.",
            show_default="0.5pp",
        ),
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs that are tried.")] = 8,
    epochs: Annotated[int, typer.Option(min=0, help="After each pairing.")] = 8,
    rate: training.Rate = 2e-3,
    weight: training.Weight = 0.7,
    temperature: training.Temperature = 4.0,
    threads: training.Threads = 1,
    seed: training.Seed = 0,
    target: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Where to.", show_default="<module>-tied-<form>.tflite"
        ),
    ] = None,
    force: training.Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Let layers with weights of one shape share them, and teach the network to live with it.

    Each pair is kept if the file, after a lesson from the original, holds the loss.

    Example: ctl model tie digits.py --to int8 --max-loss 0.5pp
    """
    given = lightening.parse_loss(max_loss)
    allowed = _DEFAULT_LOSS if given is None else given
    training.quiet_torch(threads, seed)
    from controller.compress import sources  # noqa: PLC0415
    from controller.compress.quantize import Form  # noqa: PLC0415
    from controller.compress.training.protocol import load_task  # noqa: PLC0415
    from controller.compress.training.teach import Lesson  # noqa: PLC0415
    from controller.compress.training.tied import Plan, tie_and_teach  # noqa: PLC0415

    task = load_task(module)
    path = target or Path(f"{task.name}-tied-{to}.tflite")
    sources.check_free([path], force=force)
    lesson = Lesson(epochs, rate, weight, temperature)
    plan = Plan(allowed, pairs, lesson, None if to == "fp32" else Form(to))
    with Running("Converting") as running:
        made = tie_and_teach(task, plan, running.at)
    sources.write_all({path: made.content})
    if output is Format.JSON:
        print_json(
            {
                "file": str(path),
                "attempts": made.attempts,
                "original": made.original,
                "untied": made.untied,
                "tied": made.tied,
                "shared": made.shared,
                "left_out": made.left_out,
            }
        )
        return
    print_rows(made.attempts, _ATTEMPTS, output)
    out().print("")
    rows = [("original", made.original), (f"{to}, untied", made.untied), ("tied", made.tied)]
    out().print(table(rows, _FILES))
    for remark in _remarks(made):
        note(remark)
    note(f"Wrote {path}.")


def _remarks(made: "TiedNetwork") -> list[str]:
    kept = [f"Stored once: {', '.join(group)}." for group in made.shared]
    if not kept:
        kept = ["No pair held the loss: the file has nothing tied. Try more --epochs."]
    if made.left_out:
        kept.append(f"{made.left_out} more pairs were not tried; --pairs tries more.")
    return kept


def _lost(share: float | None) -> str | None:
    return None if share is None else f"{share * 100:+.2f}pp"


_ATTEMPTS: "list[Column[Attempt]]" = [
    Column("LAYERS", lambda a: f"{a.pair.first} = {a.pair.second}"),
    Column("DISTANCE", lambda a: f"{a.pair.distance:.0%}", right=True),
    Column("REORDERED", lambda a: a.pair.reordered, right=True, spare=True),
    Column("ALONE", lambda a: f"{a.pair.divergence:.4f}", right=True),
    Column("UNTAUGHT", lambda a: _lost(a.lost_untaught), right=True),
    Column("LOSS", lambda a: _lost(a.lost), right=True),
    Column("KEPT", lambda a: "yes" if a.kept else "no"),
    Column("STORED", lambda a: f"{a.takes.parameters:,}", right=True),
    Column("FILE", lambda a: words.size(a.takes.file_bytes), right=True),
    Column("WIRE", lambda a: words.size(a.takes.wire_bytes), right=True),
]
_FILES: "list[Column[tuple[str, File]]]" = [
    Column("", lambda row: row[0]),
    Column("STORED", lambda row: f"{row[1].takes.parameters:,}", right=True),
    Column("FILE", lambda row: words.size(row[1].takes.file_bytes), right=True),
    Column("WIRE", lambda row: words.size(row[1].takes.wire_bytes), right=True),
    Column(
        "VALIDATION", lambda row: training.points(row[1].validation.accuracy or 0.0), right=True
    ),
    Column("TEST", lambda row: training.points(row[1].test.accuracy or 0.0), right=True),
    Column("LOSS", lambda row: _lost(row[1].test.lost), right=True),
]
