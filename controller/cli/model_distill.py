"""`ctl model distill`: a small first stage, taught by the large network."""

from pathlib import Path
from typing import Annotated

import typer

from controller.cli import training, words
from controller.cli.output import Format, Output, print_facts
from controller.cli.running import Running


def distill(  # noqa: PLR0913 - one parameter for each option
    module: training.Module,
    *,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="MEASURE=VALUE",
            help="Size: macs=, bytes= or parameters=; below 1 a share of the original.",
            show_default="the module's first_stage()",
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Write static int8, calibrated on training samples.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training data.")] = 20,
    rate: training.Rate = 5e-3,
    weight: training.Weight = 0.7,
    temperature: training.Temperature = 4.0,
    threads: training.Threads = 1,
    seed: training.Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to.", show_default="<module>-small.tflite"),
    ] = None,
    force: training.Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Train a small network to answer as the large one does.

    It is the module's first_stage(), or the large one's architecture made thinner and begun anew.

    Example: ctl model distill digits.py --target parameters=20000 --int8
    """
    from controller.compress import sources  # noqa: PLC0415
    from controller.compress.training.distill import distill as teach_small  # noqa: PLC0415
    from controller.compress.training.export import exported  # noqa: PLC0415
    from controller.compress.training.protocol import load_task  # noqa: PLC0415
    from controller.compress.training.teach import Lesson  # noqa: PLC0415
    from controller.compress.weights import footprint  # noqa: PLC0415

    wanted = training.optional_target(target)
    training.quiet_torch(threads, seed)
    task = load_task(module)
    path = out or Path(f"{task.name}-small-{'int8' if int8 else 'fp32'}.tflite")
    sources.check_free([path], force=force)
    lesson = Lesson(epochs, rate, weight, temperature)
    with Running("Teaching", epochs) as running:
        network, found = teach_small(
            task, wanted, lesson, lambda done, total: running.at("Teaching", done, total)
        )
        made = exported(task, network, path.stem, is_int8=int8)
    sources.write_all({path: made.content})
    takes = footprint(made.content, path.name)
    facts = [
        ("File", path),
        ("Parameters", f"{found.size.parameters:,} (large: {found.original.parameters:,})"),
        ("MACs", f"{found.size.macs:,} (large: {found.original.macs:,})"),
        ("Size", f"{words.size(takes.file_bytes)}, over the air {words.size(takes.wire_bytes)}"),
        ("Non-zero", f"{takes.nonzero:,} of {takes.parameters:,}"),
        (
            "Validation",
            f"{training.points(made.accuracy)} (large: {training.points(found.accuracy_original)})",
        ),
    ]
    document = {
        "file": str(path),
        "distilled": found,
        "result": takes,
        "validation_accuracy": made.accuracy,
    }
    print_facts(facts, output, document)
