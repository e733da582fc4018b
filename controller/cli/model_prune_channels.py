"""`ctl model prune-channels MODULE`: a network made thinner, step by step, and taught again."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from controller.cli import training, words
from controller.cli.output import Format, Output, note, print_json, print_rows
from controller.cli.running import Running


def prune_channels(  # noqa: PLR0913 - one parameter for each option
    module: training.Module,
    *,
    target: training.TargetText,
    int8: Annotated[
        bool, typer.Option("--int8", help="Write static int8, calibrated on training samples.")
    ] = False,
    importance: Annotated[
        Literal["taylor", "l1"], typer.Option(help="What says how much a channel is worth.")
    ] = "taylor",
    steps: Annotated[int, typer.Option(min=1, help="Cuts, each followed by teaching.")] = 4,
    epochs: Annotated[int, typer.Option(min=0, help="After each cut but the last.")] = 2,
    last_epochs: Annotated[int, typer.Option(min=0, help="After the last cut.")] = 12,
    rate: training.Rate = 2e-3,
    weight: training.Weight = 0.7,
    temperature: training.Temperature = 4.0,
    threads: training.Threads = 1,
    seed: training.Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to.", show_default="<module>-channels.tflite"),
    ] = None,
    force: training.Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Cut the channels of a network that count least, and teach what is left by the original.

    Example: ctl model prune-channels digits.py --target macs=0.1 --int8
    """
    from controller.compress import sources  # noqa: PLC0415
    from controller.compress.training.channels import Schedule, cut_channels  # noqa: PLC0415
    from controller.compress.training.export import exported  # noqa: PLC0415
    from controller.compress.training.protocol import load_task  # noqa: PLC0415
    from controller.compress.training.target import parse_target  # noqa: PLC0415
    from controller.compress.training.teach import Lesson  # noqa: PLC0415
    from controller.compress.weights import footprint  # noqa: PLC0415

    wanted = parse_target(target)
    training.quiet_torch(threads, seed)
    task = load_task(module)
    form = "int8" if int8 else "fp32"
    path = out or Path(f"{task.name}-channels-{form}.tflite")
    sources.check_free([path], force=force)
    schedule = Schedule(
        steps=steps,
        between=Lesson(epochs, rate / 2, weight, temperature),
        last=Lesson(last_epochs, rate, weight, temperature),
        importance=importance,
        is_int8=int8,
    )
    with Running("Cutting channels") as running:
        network, done = cut_channels(task, wanted, schedule, running.at)
        running.at("Converting", 0, 1)
        made = exported(task, network, path.stem, is_int8=int8)
        before = exported(task, task.network, task.name, is_int8=False)
    sources.write_all({path: made.content})
    now, then = footprint(made.content, path.name), footprint(before.content, task.name)
    report = {
        "file": str(path),
        "steps": done,
        "original": then,
        "result": now,
        "validation_accuracy_original": before.accuracy,
        "validation_accuracy": made.accuracy,
    }
    if output is Format.JSON:
        print_json(report)
        return
    print_rows(done, training.STEPS, output)
    note(
        f"{path}: {words.size(now.file_bytes)} (original {words.size(then.file_bytes)}), over the "
        f"air {words.size(now.wire_bytes)} ({words.size(then.wire_bytes)}), non-zero "
        f"{now.nonzero:,} of {now.parameters:,} ({then.nonzero:,}); accuracy of the file on "
        f"validation data {training.points(made.accuracy)} ({training.points(before.accuracy)})"
    )
