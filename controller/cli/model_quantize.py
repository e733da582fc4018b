"""`ctl model quantize`: narrower numbers."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import lightening
from controller.cli.lightening import Job, Made
from controller.cli.output import Column, Format, Output
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.compress.quantize import QuantizedLayer, QuantizeReport

_MIXED = "mixed"


class To(StrEnum):
    """What a model may become."""

    FP16 = "fp16"
    DYNAMIC_INT8 = "dynamic-int8"
    INT8 = "int8"
    INT8_INT16 = "int8-int16"
    INT4 = "int4"
    INT4_BLOCKWISE = "int4-blockwise"
    MIXED = _MIXED


_BITS = {"float16": 16, "int8": 8, "int8-tensor": 8, "int4": 4, "int4-blockwise": 4}
_LITERT_ALONE = (
    "int4 saves bytes, not time (convolutions are unpacked in each run), and only ai-edge-litert "
    "runs it: tflite-runtime 2.14 answers wrongly or crashes."
)
_REMARKS = {
    To.INT4: _LITERT_ALONE,
    To.INT4_BLOCKWISE: _LITERT_ALONE,
    To.INT8_INT16: "16-bit activations run in reference kernels: expect 50 to 100 times the time.",
}


def quantize(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    model: lightening.Model,
    *,
    to: Annotated[To, typer.Option(help="What it becomes.", show_default=False)],
    scale_search: Annotated[
        bool,
        typer.Option(
            "--scale-search",
            help="Choose each channel's scale for the least squared error of its weights; mixed "
            "tries both for each layer anyway.",
        ),
    ] = False,
    calibration_samples: Annotated[
        int, typer.Option(min=1, help="How many samples set the ranges of activations.")
    ] = 100,
    max_loss: lightening.MaxLoss = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(
            min=1, help="For mixed: the least damage in a file of so many bytes, not the smallest."
        ),
    ] = None,
    samples: lightening.SamplesFile = None,
    x_key: lightening.XKey = "x",
    y_key: lightening.YKey = "y",
    scores: lightening.Scores = None,
    target: lightening.Out = None,
    force: lightening.Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Store the weights of a float model in fewer bits, with integer activations for int8.

    int8 and int8-int16 take the ranges of activations from samples. mixed gives each layer the
    narrowest of float16, int8 and int4, also in blocks and with searched scales, that --max-loss
    allows: one half of the samples chooses, the other half, held out, says what it costs.

    Example: ctl model quantize large.tflite --to mixed --samples digits.npz --max-loss 0.5pp
    """
    loss = lightening.parse_loss(max_loss)
    if to is To.MIXED and (samples is None or loss is None):
        raise typer.BadParameter("--to mixed needs --samples FILE.npz and --max-loss POINTS")
    if to is not To.MIXED and (loss is not None or max_bytes is not None):
        raise typer.BadParameter("--max-loss and --max-bytes are for --to mixed")
    data, place = (samples, x_key, y_key), (target, force)
    job = lightening.open_job(ctx, model, to.value, data, scores, place)
    if loss is None:
        made = _uniform(job, to, calibration_samples, search=scale_search)
    else:
        made = _mixed(job, loss, max_bytes)
    lightening.finish(job, made, output)


def _uniform(job: Job, to: To, count: int, *, search: bool) -> Made:
    from controller.compress.quantize import (  # noqa: PLC0415
        STATIC,
        Form,
        choose_calibration,
        quantize,
    )
    from controller.compress.search import Judge  # noqa: PLC0415

    form, chosen = Form(to.value), None
    if form in STATIC and job.samples is not None:
        chosen = choose_calibration(job.samples, count)
    with Running(f"Quantizing to {to}") as running:
        content, report = quantize(
            job.content,
            form,
            job.name,
            chosen,
            search=search,
            on_calibrated=lambda done: running.at("Calibrating", done, count),
        )
        verdict = None
        if job.samples is not None and job.samples.y is not None:
            with Judge(job.content, job.name, job.samples, job.scores, running.at) as judge:
                verdict = judge.verdict(content)
    remarks = (*_stored(report), *((_REMARKS[to],) if to in _REMARKS else ()))
    return Made(content, "layers", report.layers, _LAYERS, verdict, remarks=remarks)


def _mixed(job: Job, loss: float, max_bytes: int | None) -> Made:
    from controller.compress.budget import Point  # noqa: PLC0415
    from controller.compress.mixed import Aim, quantize_mixed  # noqa: PLC0415
    from controller.compress.search import Judge  # noqa: PLC0415

    if job.samples is None:  # the options say that there are some
        raise typer.BadParameter("--to mixed needs --samples FILE.npz")
    with (
        Running("Measuring layers") as running,
        Judge(job.content, job.name, job.samples, job.scores, running.at) as judge,
    ):
        found, report = quantize_mixed(judge, Aim(loss, max_bytes))
    curve = [
        Point(
            {tensor: _BITS[grade.width] for tensor, grade in point.chosen.items()},
            point.wire_bytes,
            point.loss,
        )
        for point in found.curve
    ]
    remarks = (*_stored(report), *((_LITERT_ALONE,) if "int4" in report.stored else ()))
    return Made(found.content, "layers", report.layers, _LAYERS, found.verdict, curve, remarks)


def _stored(report: "QuantizeReport") -> tuple[str, ...]:
    """Say how many layers are stored as what, and what set the ranges of activations."""
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(report.stored.items()))
    ranges = report.calibration_samples
    told = f"; activations have the ranges of {ranges} samples" if ranges else ""
    return (f"Layers: {counts}{told}.",)


def _percent(error: float | None) -> str | None:
    return None if error is None else f"{error:.3%}"


_LAYERS: "list[Column[QuantizedLayer]]" = [
    Column("OPERATOR", lambda layer: layer.operator, right=True),
    Column("KIND", lambda layer: layer.kind),
    Column("WEIGHTS", lambda layer: f"{layer.weights:,}", right=True),
    Column("STORED AS", lambda layer: layer.stored),
    Column(
        "ERROR (MIN/MAX)",
        lambda layer: _percent(layer.rounding.min_max if layer.rounding else None),
        right=True,
    ),
    Column(
        "ERROR (SEARCHED)",
        lambda layer: _percent(layer.rounding.searched if layer.rounding else None),
        right=True,
    ),
]
