"""`ctl model prune --weights`: weights near zero become zero."""

from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import lightening
from controller.cli.lightening import Job, Made
from controller.cli.output import Column, Format, Output
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.compress.prune import PrunedLayer

_NO_TIME = (
    "Zeros buy bytes over the air, not time or memory: the runtime multiplies by them all the "
    "same. For time prune channels, or quantize."
)


def prune(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    model: lightening.Model,
    *,
    weights: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="SPARSITY",
            help="Share of weights that become zero, such as 0.5.",
            show_default=False,
        ),
    ] = None,
    max_loss: lightening.MaxLoss = None,
    samples: lightening.SamplesFile = None,
    x_key: lightening.XKey = "x",
    y_key: lightening.YKey = "y",
    scores: lightening.Scores = None,
    target: lightening.Out = None,
    force: lightening.Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Make the weights of least magnitude zero; biases stay.

    Without --samples every layer gets the same share; with them each gets what it bears. One half
    of them chooses, the other half, held out, says what it costs.

    Example: ctl model prune large.tflite --samples digits.npz --max-loss 0.5pp
    """
    loss = lightening.parse_loss(max_loss)
    if (weights is None) == (loss is None):
        raise typer.BadParameter("give one of --weights SPARSITY and --max-loss POINTS")
    if loss is not None and samples is None:
        raise typer.BadParameter("--max-loss needs --samples FILE.npz to measure on")
    data, place = (samples, x_key, y_key), (target, force)
    job = lightening.open_job(ctx, model, "pruned", data, scores, place)
    lightening.finish(job, _pruned(job, weights, loss), output)


def _pruned(job: Job, sparsity: float | None, loss: float | None) -> Made:
    from controller.compress import prune as pruning  # noqa: PLC0415
    from controller.compress.search import Judge  # noqa: PLC0415

    remarks = (_NO_TIME,)
    if job.samples is None:
        content, report = pruning.prune(job.content, job.name, sparsity or 0.0)
        return Made(content, "layers", report.layers, _LAYERS, remarks=remarks)
    with (
        Running("Pruning weights") as running,
        Judge(job.content, job.name, job.samples, job.scores, running.at) as judge,
    ):
        if loss is None:
            content, report = pruning.prune_to(judge, sparsity or 0.0)
            verdict = judge.verdict(content)
            return Made(content, "layers", report.layers, _LAYERS, verdict, remarks=remarks)
        found, report = pruning.prune_within(judge, loss)
    return Made(
        found.content, "layers", report.layers, _LAYERS, found.verdict, found.curve, remarks
    )


_LAYERS: "list[Column[PrunedLayer]]" = [
    Column("OPERATOR", lambda layer: layer.operator, right=True),
    Column("KIND", lambda layer: layer.kind),
    Column("WEIGHTS", lambda layer: f"{layer.weights:,}", right=True),
    Column("ZEROS BEFORE", lambda layer: f"{layer.zeros_before:,}", right=True),
    Column("ZEROS", lambda layer: f"{layer.zeros:,}", right=True),
    Column("SHARE", lambda layer: f"{layer.zeros / layer.weights:.1%}", right=True),
    Column("ERROR", lambda layer: f"{layer.error:.2%}", right=True),
    Column("", lambda layer: layer.why, wrap=True),
]
