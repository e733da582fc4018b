"""`ctl model recipe`: channels, int8, palettes and a cascade, alone and together, in one table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import training
from controller.cli.output import Format, Output, note, print_json, print_rows
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.compress.training.recipe import Recipe


def recipe(  # noqa: PLR0913 - one parameter for each option
    module: training.Module,
    *,
    target: Annotated[
        str,
        typer.Option(
            metavar="auto|MEASURE=VALUE",
            help="How far channels are cut: as far as --loss-points allows on validation data, or "
            "to macs=, bytes= or parameters=, below 1 a share of the original.",
        ),
    ] = "auto",
    loss_points: Annotated[
        float, typer.Option(min=0.0, help="Percentage points that the choice may lose.")
    ] = 0.5,
    goals: Annotated[
        str,
        typer.Option(
            metavar="NAME=SHARE,...",
            help="What the choice should take at most, as shares of the original.",
        ),
    ] = "nonzero=0.125,wire=0.05,mean=0.4,cpu=0.5",
    time_budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="For a search: 90m, 2h; less teaching where it is short.",
            show_default="as long as it takes",
        ),
    ] = None,
    first_stage: Annotated[
        str | None,
        typer.Option(
            metavar="MEASURE=VALUE",
            help="Size of a cascade's first stage.",
            show_default="the module's first_stage(), or the smallest network of the search",
        ),
    ] = None,
    palette_bits: Annotated[
        int, typer.Option(min=0, max=8, help="Bits of the weights' palettes; 0: none.")
    ] = 5,
    spread: training.SpreadText = training.SPREAD,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Cuts, each followed by teaching.", show_default="auto 6, else 4"),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=0, help="After each cut but a target's last.", show_default="auto 3, else 2"
        ),
    ] = None,
    last_epochs: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="After a target's last cut; of a long lesson.",
            show_default="auto 20, else 12",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Long lessons of a search at most.")] = 5,
    first_epochs: Annotated[int, typer.Option(min=1, help="Of the first stage.")] = 20,
    rate: training.Rate = 2e-3,
    first_rate: training.Rate = 5e-3,
    weight: training.Weight = 0.7,
    temperature: training.Temperature = 4.0,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of torch.", show_default="a thread for each core"),
    ] = None,
    seed: training.Seed = 0,
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Where to.", show_default="<module>-recipe"),
    ] = None,
    force: training.Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Make every form of a network, measure all of them in one run, and mark the one to take (*).

    It is chosen on validation data; the figures are of test_loader(), times in turns on one thread.
    Files and networks are written as they are made: after an interruption the same command with
    --force goes on from there.

    Example: ctl model recipe photographs.py --time-budget 90m
    """
    from controller.compress.training.channels import Schedule  # noqa: PLC0415
    from controller.compress.training.choice import parse_goals  # noqa: PLC0415
    from controller.compress.training.descent import Descent  # noqa: PLC0415
    from controller.compress.training.protocol import load_task  # noqa: PLC0415
    from controller.compress.training.recipe import Plan, cook  # noqa: PLC0415
    from controller.compress.training.target import parse_target  # noqa: PLC0415
    from controller.compress.training.teach import Lesson  # noqa: PLC0415

    is_auto = target == "auto"
    seconds = training.parse_time(time_budget)
    if seconds is not None and not is_auto:
        raise typer.BadParameter("--time-budget is for --target auto; give --epochs instead")
    wanted = parse_goals(goals)
    # `or` will not do: 0 epochs are a wish like any other.
    step_epochs = (3 if is_auto else 2) if epochs is None else epochs
    long_epochs = (20 if is_auto else 12) if last_epochs is None else last_epochs
    brief = Lesson(step_epochs, rate / 2, weight, temperature)
    long = Lesson(long_epochs, rate, weight, temperature)
    plan = Plan(
        target=None if is_auto else parse_target(target),
        schedule=Schedule(steps=steps or 4, between=brief, last=long, is_int8=True, spread=spread),
        first_stage=training.optional_target(first_stage),
        lesson=Lesson(first_epochs, first_rate, weight, temperature),
        palette_bits=palette_bits or None,
        loss_points=loss_points,
        descent=Descent(
            loss_points=loss_points,
            # Biases and rounding are not exactly what the files count.
            goal=min(0.96, 0.96 * wanted.nonzero),
            steps=steps or 6,
            brief=brief,
            long=long,
            rounds=rounds,
            seconds=seconds,
            spread=spread,
        ),
        goals=wanted,
    )
    training.quiet_torch(threads, seed)
    task = load_task(module)
    folder = out_dir or Path(f"{task.name}-recipe")
    training.check_folder(folder, force=force)
    with Running("Beginning") as running:
        made = cook(task, plan, running.at, note, folder)
    if output is Format.JSON:
        print_json({"folder": str(folder)} | training.recipe_document(made))
        return
    _show(made, loss_points, folder)


def _show(made: "Recipe", loss_points: float, folder: Path) -> None:
    print_rows(made.steps, training.STEPS, Format.TABLE)
    print_rows(made.rows, training.recipe_columns(made), Format.TABLE)
    for remark in training.remarks(made):
        note(remark)
    note(training.verdict(made, loss_points))
    note(f"Files in {folder}")
