"""`ctl model share`: palettes, layers that share one array, buffers stored once."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import lightening, words
from controller.cli.lightening import Job, Made
from controller.cli.output import Column, Format, Output
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.compress.share import Grouping, SharedLayer
    from controller.compress.tie import Tied

_AUTO, _DEFAULT_LOSS = "auto", 0.005


class Per(StrEnum):
    """Which weights share a palette."""

    TENSOR = "tensor"
    CHANNEL_GROUP = "channel-group"


def share(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    model: lightening.Model,
    *,
    palette: Annotated[
        str | None,
        typer.Option(
            metavar="BITS|auto",
            help="2^BITS values for each layer's weights; auto: as few as --max-loss allows.",
        ),
    ] = None,
    per: Annotated[Per, typer.Option(help="Which weights share a palette.")] = Per.TENSOR,
    group: Annotated[
        int, typer.Option(min=1, metavar="CHANNELS", help="Output channels of a group.")
    ] = 32,
    tie: Annotated[
        bool, typer.Option("--tie", help="Let layers that are close share one array.")
    ] = False,
    dedupe: Annotated[
        bool, typer.Option("--dedupe", help="Store identical buffers once; exact.")
    ] = False,
    samples: lightening.SamplesFile = None,
    x_key: lightening.XKey = "x",
    y_key: lightening.YKey = "y",
    scores: lightening.Scores = None,
    max_loss: lightening.MaxLoss = None,
    target: lightening.Out = None,
    force: lightening.Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Let weights share values, or layers share weights: fewer bytes over the air, the same time.

    With --samples one half chooses, the other half, held out, says what it costs.

    Example: ctl model share large.tflite --palette auto --samples digits.npz --max-loss 0.5pp
    """
    if (palette is not None) + tie + dedupe != 1:
        raise typer.BadParameter("give one of --palette, --tie and --dedupe")
    bits, loss = _bits(palette), lightening.parse_loss(max_loss)
    if (tie or palette == _AUTO) and samples is None:
        raise typer.BadParameter("a choice needs --samples FILE.npz to measure on")
    if loss is not None and not (tie or palette == _AUTO):
        raise typer.BadParameter("--max-loss goes with --tie or --palette auto")
    what = "tied" if tie else "deduped" if dedupe else "shared"
    job = lightening.open_job(ctx, model, what, (samples, x_key, y_key), scores, (target, force))
    allowed = _DEFAULT_LOSS if loss is None else loss
    if dedupe:
        made = _deduped(job)
    elif tie:
        made = _tied(job, allowed)
    else:
        made = _shared(job, bits, _grouping(per, group), allowed)
    lightening.finish(job, made, output)


def _bits(palette: str | None) -> int | None:
    if palette is None or palette == _AUTO:
        return None
    if not palette.isdecimal() or not 1 <= int(palette) <= 8:  # noqa: PLR2004 - bits of a byte
        raise typer.BadParameter(f"--palette {palette}: want 1 to 8 bits, or auto")
    return int(palette)


def _grouping(per: Per, group: int) -> "Grouping":
    from controller.compress.share import WHOLE, Grouping  # noqa: PLC0415

    return WHOLE if per is Per.TENSOR else Grouping(group)


def _shared(job: Job, bits: int | None, grouping: "Grouping", allowed: float) -> Made:
    from controller.compress.search import Judge  # noqa: PLC0415
    from controller.compress.share import share as share_all  # noqa: PLC0415
    from controller.compress.share import share_within  # noqa: PLC0415

    if job.samples is None:
        content, report = share_all(job.content, job.name, bits or 0, grouping)
        return Made(content, "layers", report.layers, _LAYERS)
    with (
        Running("Sharing weights") as running,
        Judge(job.content, job.name, job.samples, job.scores, running.at) as judge,
    ):
        if bits is not None:
            content, report = share_all(job.content, job.name, bits, grouping)
            return Made(content, "layers", report.layers, _LAYERS, judge.verdict(content))
        found, report = share_within(judge, allowed, grouping)
    return Made(found.content, "layers", report.layers, _LAYERS, found.verdict, found.curve)


def _tied(job: Job, allowed: float) -> Made:
    from controller.compress.search import Judge  # noqa: PLC0415
    from controller.compress.tie import tie_within  # noqa: PLC0415
    from controller.samples import Samples  # noqa: PLC0415

    if not isinstance(job.samples, Samples):  # the command lets no other through
        raise typer.BadParameter("--tie needs --samples")
    with (
        Running("Tying layers") as running,
        Judge(job.content, job.name, job.samples, job.scores, running.at) as judge,
    ):
        content, report = tie_within(judge, allowed, running.at)
    remarks = []
    if report.left_out:
        remarks.append(f"{words.count(report.left_out, 'pair')} further apart were not measured.")
    if not any(tied.kept for tied in report.tied):
        remarks.append(
            "No pair holds the budget: layers of a finished model are seldom close enough. Tie "
            "them while the model is trained, or share values within each layer by --palette."
        )
    return Made(content, "pairs", report.tied, _PAIRS, report.verdict, remarks=remarks)


def _deduped(job: Job) -> Made:
    from controller.compress.dedupe import dedupe  # noqa: PLC0415

    content, report = dedupe(job.content, job.name)
    columns: list[Column[object]] = [
        Column("TENSORS", lambda _: report.tensors, right=True),
        Column("SAVED", lambda _: words.size(report.bytes_saved), right=True),
    ]
    return Made(content, "deduped", [report], columns)


_LAYERS: "list[Column[SharedLayer]]" = [
    Column("OPERATOR", lambda layer: layer.operator, right=True),
    Column("KIND", lambda layer: layer.kind),
    Column("WEIGHTS", lambda layer: f"{layer.weights:,}", right=True),
    Column("BITS", lambda layer: layer.bits, right=True),
    Column("VALUES BEFORE", lambda layer: f"{layer.values_before:,}", right=True),
    Column("VALUES", lambda layer: f"{layer.values:,}", right=True),
    Column("ERROR", lambda layer: f"{layer.error:.2%}", right=True),
    Column("", lambda layer: layer.why, wrap=True),
]
_PAIRS: "list[Column[Tied]]" = [
    Column("OPERATORS", lambda tied: " = ".join(map(str, tied.pair.operators))),
    Column("SAVES", lambda tied: words.size(tied.pair.saved_bytes), right=True),
    Column("DISTANCE", lambda tied: f"{tied.pair.distance:.1%}", right=True),
    Column("REORDERED", lambda tied: tied.pair.reordered, right=True),
    Column("LOSS ALONE", lambda tied: f"{(tied.alone.lost or 0) * 100:+.2f}pp", right=True),
    Column("KEPT", lambda tied: "yes" if tied.kept else "no"),
    Column("FILE", lambda tied: words.size(tied.file_bytes), right=True),
    Column("OVER THE AIR", lambda tied: words.size(tied.wire_bytes), right=True),
    Column("LOSS", lambda tied: f"{tied.loss * 100:+.2f}pp", right=True),
]
