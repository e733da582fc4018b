"""`ctl model recipe`: channels, int8, palettes and a cascade, alone and together, in one table."""

from pathlib import Path
from typing import Annotated

import typer

from controller.cli import training
from controller.cli.output import Format, Output, note, print_json, print_rows
from controller.cli.running import Running


def recipe(  # noqa: PLR0913 - one parameter for each option
    module: training.Module,
    *,
    target: training.TargetText = "macs=0.1",
    first_stage: Annotated[
        str | None,
        typer.Option(
            metavar="MEASURE=VALUE",
            help="Size of a cascade's first stage, as --target.",
            show_default="the module's first_stage(), or no cascade",
        ),
    ] = None,
    palette_bits: Annotated[
        int, typer.Option(min=0, max=8, help="Bits of the weights' palettes; 0: none.")
    ] = 5,
    loss_points: Annotated[
        float, typer.Option(min=0.0, help="Percentage points that the choice may lose.")
    ] = 0.5,
    steps: Annotated[int, typer.Option(min=1, help="Cuts, each followed by teaching.")] = 4,
    epochs: Annotated[int, typer.Option(min=0, help="After each cut but the last.")] = 2,
    last_epochs: Annotated[int, typer.Option(min=0, help="After the last cut.")] = 12,
    first_epochs: Annotated[int, typer.Option(min=1, help="Of the first stage.")] = 20,
    rate: training.Rate = 2e-3,
    first_rate: training.Rate = 5e-3,
    threads: training.Threads = 1,
    seed: training.Seed = 0,
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Where to.", show_default="<module>-recipe"),
    ] = None,
    force: training.Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Make every form of a network, measure all of them in one run, and mark the one to take (*).

    Accuracy is measured on test_loader(), time in turns on one thread. The gates of cascades are
    certified on calibration_loader().

    Example: ctl model recipe digits.py --target macs=0.1 --first-stage parameters=20000
    """
    from controller.compress import sources  # noqa: PLC0415
    from controller.compress.training.channels import Schedule  # noqa: PLC0415
    from controller.compress.training.protocol import load_task  # noqa: PLC0415
    from controller.compress.training.recipe import FILES, Plan, cook  # noqa: PLC0415
    from controller.compress.training.target import parse_target  # noqa: PLC0415
    from controller.compress.training.teach import Lesson  # noqa: PLC0415

    plan = Plan(
        target=parse_target(target),
        schedule=Schedule(
            steps=steps,
            between=Lesson(epochs, rate / 2),
            last=Lesson(last_epochs, rate),
            is_int8=True,
        ),
        first_stage=training.optional_target(first_stage),
        lesson=Lesson(first_epochs, first_rate),
        palette_bits=palette_bits or None,
        loss_points=loss_points,
    )
    training.quiet_torch(threads, seed)
    task = load_task(module)
    folder = out_dir or Path(f"{task.name}-recipe")
    sources.check_free([folder / f"{name}.tflite" for name in FILES], force=force)
    with Running("Beginning") as running:
        made = cook(task, plan, running.at)
    sources.write_all({folder / f"{name}.tflite": data for name, data in made.files.items()})
    if output is Format.JSON:
        document = {
            "folder": str(folder),
            "rows": made.rows,
            "chosen": made.chosen,
            "steps": made.steps,
            "first_stage": made.first_stage,
            "gates": made.gates,
            "notes": made.notes,
        }
        print_json(document)
        return
    print_rows(made.steps, training.STEPS, output)
    print_rows(made.rows, training.recipe_columns(made), output)
    for remark in training.remarks(made):
        note(remark)
    note(f"* {made.chosen}: least CPU time of those that lose at most {loss_points} points")
    note(f"Files in {folder}")
