"""`ctl model qat MODULE`: quantization-aware fine-tuning, beside what rounding alone costs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from controller.cli import lightening, training, words
from controller.cli.output import Column, Format, Output, note, print_json, print_rows
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.compress.training.qat import Measured, Qat


def qat(  # noqa: PLR0913 - one parameter for each option
    module: training.Module,
    *,
    to: Annotated[
        Literal["int8", "dynamic-int8", "int4"],
        typer.Option("--to", help="As `ctl model quantize` has them.", show_default=False),
    ],
    max_loss: Annotated[
        str | None,
        typer.Option(
            metavar="POINTS",
            help="Post-training loss on validation data that is good enough, such as 0.5pp: "
            "nothing is taught then.",
            show_default="always teach",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training data.")] = 20,
    rate: training.Rate = 2e-3,
    weight: training.Weight = 0.7,
    temperature: training.Temperature = 4.0,
    threads: training.Threads = 1,
    seed: training.Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to.", show_default="<module>-qat-<form>.tflite"),
    ] = None,
    force: training.Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Fine-tune a network on the grid of its quantized file, taught by the original.

    The better file is written: the fine-tuned one, or the post-training one where validation data
    cannot tell them apart.

    Example: ctl model qat digits.py --to int4
    """
    enough = lightening.parse_loss(max_loss)
    training.quiet_torch(threads, seed)
    from controller.compress import sources  # noqa: PLC0415
    from controller.compress.quantize import Form  # noqa: PLC0415
    from controller.compress.training.protocol import load_task  # noqa: PLC0415
    from controller.compress.training.qat import finetune_quantized  # noqa: PLC0415
    from controller.compress.training.teach import Lesson  # noqa: PLC0415

    task = load_task(module)
    path = out or Path(f"{task.name}-qat-{to}.tflite")
    sources.check_free([path], force=force)
    lesson = Lesson(epochs, rate, weight, temperature)
    with Running("Converting") as running:
        made = finetune_quantized(task, Form(to), lesson, enough, running.at)
    sources.write_all({path: made.content})
    if output is Format.JSON:
        print_json(
            {
                "file": str(path),
                "rows": made.rows,
                "post_training": made.post_training,
                "kept": made.kept,
                "told_by": made.told_by,
                "unfaithful": made.unfaithful,
            }
        )
        return
    print_rows(made.rows, _COLUMNS, output)
    for remark in _remarks(made):
        note(remark)
    note(f"Wrote {path}: {made.kept}.")


def _remarks(made: "Qat") -> list[str]:
    """Say whether it was worth it, and whether the file is what was taught."""
    from controller.compress.training.qat import FAITHFUL, verdict  # noqa: PLC0415

    said = [verdict(made)]
    if made.unfaithful is not None:
        far = f"The file's logits differ from the taught network's by {made.unfaithful:.2%} (rms)"
        if made.unfaithful > FAITHFUL:
            far += (
                f", more than {FAITHFUL:.0%}: the file computes something that the fake "
                "quantization does not have, so what was taught is lost in part"
            )
        said.append(f"{far}.")
    return said


def _lost(share: float | None) -> str | None:
    return None if share is None else f"{share * 100:+.2f}pp"


_COLUMNS: "list[Column[Measured]]" = [
    Column("FORM", lambda r: r.form),
    Column("FILE", lambda r: words.size(r.file_bytes), right=True),
    Column("WIRE", lambda r: words.size(r.wire_bytes), right=True),
    Column("VALIDATION", lambda r: training.points(r.validation.accuracy or 0.0), right=True),
    Column("LOSS", lambda r: _lost(r.validation.lost), right=True),
    Column("DIVERGENCE", lambda r: f"{r.validation.divergence:.5f}", right=True),
    Column(
        "TEST",
        lambda r: None if r.test is None else training.points(r.test.accuracy or 0.0),
        right=True,
    ),
    Column("LOSS", lambda r: None if r.test is None else _lost(r.test.lost), right=True),
    Column(
        "DIVERGENCE", lambda r: None if r.test is None else f"{r.test.divergence:.5f}", right=True
    ),
]
