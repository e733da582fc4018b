"""`ctl model sensitivity`: what each layer costs at each width."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import lightening, words
from controller.cli.modelfiles import Model, model_file, scores_of
from controller.cli.output import Column, Format, Output, note, print_rows
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.compress.sensitivity import LayerLoss


def measure(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    model: Model,
    *,
    samples: Annotated[
        Path,
        typer.Option(
            metavar="FILE.npz", help="Samples; labels are of use, not needed.", show_default=False
        ),
    ],
    scale_search: Annotated[
        bool, typer.Option("--scale-search", help="With the scales that this option chooses.")
    ] = False,
    x_key: lightening.XKey = "x",
    y_key: lightening.YKey = "y",
    scores: Annotated[
        str | None,
        typer.Option(metavar="NAME|NUMBER", help="Which output holds the class scores."),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Round one layer at a time to each width and see how far the answers move.

    The model stays as it is. Accuracy is what counts, but some hundred samples show it in coarse
    steps; the divergence of the probabilities (Kullback-Leibler, in nats) sees every change.

    Example: ctl model sensitivity large.tflite --samples digits.npz
    """
    from controller.compress.scorer import Scorer  # noqa: PLC0415
    from controller.compress.sensitivity import sensitivity  # noqa: PLC0415
    from controller.compress.widths import Width, narrowed  # noqa: PLC0415
    from controller.samples import read_samples  # noqa: PLC0415

    found = model_file(ctx, model)
    number = scores_of(ctx, model, scores)
    treatments = [narrowed(width, search=scale_search) for width in Width]
    data = read_samples(samples, x_key, y_key)
    with Running("Running the model") as running, Scorer(data, number) as scorer:
        losses = sensitivity(found.path.read_bytes(), treatments, scorer, found.name, running.at)
    print_rows(losses, _COLUMNS, output)
    if output is Format.TABLE:
        note(f"{len(data.x)} samples; one layer treated at a time, all others float32.")


def _points(loss: "LayerLoss") -> str | None:
    if loss.shift is None or loss.shift.lost is None:
        return None
    return f"{loss.shift.lost * 100:+.2f}pp"


_COLUMNS: "list[Column[LayerLoss]]" = [
    Column("OPERATOR", lambda loss: loss.layer.operator, right=True),
    Column("KIND", lambda loss: loss.layer.kind),
    Column("AS", lambda loss: loss.treatment),
    Column("SAVES", lambda loss: words.size(loss.bytes_saved) if loss.shift else None, right=True),
    Column("ACCURACY LOST", _points, right=True),
    Column(
        "DIVERGENCE",
        lambda loss: f"{loss.shift.divergence:.2e}" if loss.shift else None,
        right=True,
    ),
    Column("CHANGE", lambda loss: f"{loss.shift.change:.2e}" if loss.shift else None, right=True),
    Column("", lambda loss: loss.why, wrap=True),
]
