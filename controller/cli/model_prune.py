"""`ctl model prune`: weights near zero become zero (a file), or channels go (a network)."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from controller.cli import lightening, model_prune_channels, training
from controller.cli.lightening import Job, Made
from controller.cli.output import Column, Format, Output
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.compress.prune import PrunedLayer

_NO_TIME = (
    "Zeros buy bytes over the air, not time or memory: the runtime multiplies by them all the "
    "same. For time prune channels, or quantize."
)


_CHANNELS = "With --channels: a torch network, taught again"
_OF_WEIGHTS = {"max_loss", "samples", "x_key", "y_key", "scores"}
_OF_CHANNELS = {
    "int8",
    "importance",
    "spread",
    "steps",
    "epochs",
    "last_epochs",
    "rate",
    "weight",
    "temperature",
    "threads",
    "seed",
}


def prune(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help="A .tflite file, or a model of the catalog; for --channels a .py file or module "
            "with model(), train_loader() and validation_loader().",
            show_default=False,
        ),
    ],
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
    channels: Annotated[
        str | None,
        typer.Option(
            metavar="MEASURE=VALUE",
            help="Cut channels down to macs=, bytes= or parameters=; below 1 a share.",
            rich_help_panel=_CHANNELS,
            show_default=False,
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Write static int8, calibrated on training samples.",
            rich_help_panel=_CHANNELS,
        ),
    ] = False,
    importance: Annotated[
        Literal["taylor", "l1"],
        typer.Option(
            help="What says how much a channel is worth.",
            rich_help_panel=_CHANNELS,
        ),
    ] = "taylor",
    spread: training.SpreadText = training.SPREAD,
    steps: Annotated[
        int,
        typer.Option(min=1, help="Cuts, each followed by teaching.", rich_help_panel=_CHANNELS),
    ] = 4,
    epochs: Annotated[
        int, typer.Option(min=0, help="After each cut but the last.", rich_help_panel=_CHANNELS)
    ] = 2,
    last_epochs: Annotated[
        int, typer.Option(min=0, help="After the last cut.", rich_help_panel=_CHANNELS)
    ] = 12,
    rate: training.Rate = 2e-3,
    weight: training.Weight = 0.7,
    temperature: training.Temperature = 4.0,
    threads: training.Threads = 1,
    seed: training.Seed = 0,
    target: lightening.Out = None,
    force: lightening.Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Make weights of least magnitude zero (--weights, --max-loss), or cut channels (--channels).

    Weights, of any .tflite file; biases stay. Without --samples every layer gets the same share;
    with them each gets what it bears. One half of them chooses, the other half, held out, says what
    it costs.

    Channels, of a trained network that a Python module brings: those that count least go, and what
    is left is taught by the original.

    Example: ctl model prune large.tflite --samples digits.npz --max-loss 0.5pp

    Example: ctl model prune photographs.py --channels macs=0.1 --int8
    """
    loss = lightening.parse_loss(max_loss)
    if [weights, loss, channels].count(None) != 2:  # noqa: PLR2004 - all but one
        raise typer.BadParameter(
            "give one of --weights SPARSITY, --max-loss POINTS and --channels MEASURE=VALUE"
        )
    _check_foreign(ctx, _OF_CHANNELS if channels is None else _OF_WEIGHTS, channels)
    if channels is not None:
        from controller.compress.training.channels import Schedule  # noqa: PLC0415
        from controller.compress.training.teach import Lesson  # noqa: PLC0415

        schedule = Schedule(
            steps=steps,
            between=Lesson(epochs, rate / 2, weight, temperature),
            last=Lesson(last_epochs, rate, weight, temperature),
            importance=importance,
            is_int8=int8,
            spread=spread,
        )
        wish = model_prune_channels.Cut(model, channels, schedule, threads, seed, target, force)
        model_prune_channels.cut(wish, output)
        return
    if loss is not None and samples is None:
        raise typer.BadParameter("--max-loss needs --samples FILE.npz to measure on")
    if model.endswith(".py"):
        raise typer.BadParameter(
            f"{model} is a Python module: its channels can be cut (--channels macs=0.1); weights "
            "are made zero in a .tflite file"
        )
    data, place = (samples, x_key, y_key), (target, force)
    job = lightening.open_job(ctx, model, "pruned", data, scores, place)
    lightening.finish(job, _pruned(job, weights, loss), output)


def _check_foreign(ctx: typer.Context, names: set[str], channels: str | None) -> None:
    """Check that no option was given that would do nothing."""
    given = sorted(
        name
        for name in names
        if (source := ctx.get_parameter_source(name)) and source.name == "COMMANDLINE"
    )
    if given:
        option = f"--{given[0].replace('_', '-')}"
        which = "zeros (--weights, --max-loss)" if channels else "--channels"
        raise typer.BadParameter(f"{option} is for {which} only")


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
