"""`ctl model report`: one page about several models."""

import platform
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.modelfiles import Models, model_file, scores_of
from controller.cli.output import Format, Output, note, print_json
from controller.cli.running import Running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.compress.evaluate import Evaluation
    from controller.compress.measure import ModelFile
    from controller.compress.page import Subject
    from controller.compress.user_metric import Metric
    from controller.samples import Samples


def report(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    models: Models,
    *,
    samples: Annotated[
        Path, typer.Option(metavar="FILE.npz", help="Samples x and labels y.", show_default=False)
    ],
    out_file: Annotated[Path, typer.Option("--out", metavar="FILE.html", help="The page.")] = Path(
        "report.html"
    ),
    x_key: Annotated[str, typer.Option(help="Name of the array of samples.")] = "x",
    y_key: Annotated[str, typer.Option(help="Name of the array of labels.")] = "y",
    scores: Annotated[
        str | None,
        typer.Option(metavar="NAME|NUMBER", help="Which output holds the class scores."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE|A,B,C", help="Names of the classes.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="Your own, as for `ctl model eval`."),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Also count the label among so many first classes.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="Of timing, for each model.")] = 1.0,
    watts: Annotated[
        float | None,
        typer.Option(min=0.0, help="What one busy CPU draws; estimates the energy of a run."),
    ] = None,
    title: Annotated[str, typer.Option(help="Of the page.")] = "Models compared",
    force: Annotated[
        bool, typer.Option("--force", help="Take the place of a file that is there.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Write one HTML page about models: accuracy against bytes, time and energy; reliability.

    Name the original first: the others are compared with it. The models run in turns in one
    process, so that their times can be compared. The page needs no network.

    Example: ctl model report large.tflite large-int8.tflite --samples held-out.npz
    """
    from controller.compress.page import best, render  # noqa: PLC0415
    from controller.compress.sources import check_free, write_all  # noqa: PLC0415
    from controller.compress.user_metric import load_metric  # noqa: PLC0415
    from controller.recipe import read_labels  # noqa: PLC0415
    from controller.samples import read_samples  # noqa: PLC0415

    check_free([out_file], force=force)
    files = [model_file(ctx, model) for model in models]
    _check_names(files)
    names = () if labels is None else read_labels(labels)
    measure = None if metric is None else load_metric(metric)
    given = read_samples(samples, x_key, y_key)
    outputs = [scores_of(ctx, model, scores) for model in models]
    with Running("Judging", len(files) + 2) as running:
        judged = _judge(files, outputs, given, (top_k, measure), running)
        subjects = _subjects(files, judged, given.x.shape[1:], seconds, running)
    if watts is not None:
        subjects = [replace(one, energy_j=one.cpu_s * watts) for one in subjects]
    page = render(title, subjects, samples.name, _machine(subjects[0]), names)
    write_all({out_file: page.encode()})
    front = best(subjects)
    if output is Format.JSON:
        print_json({"file": str(out_file), "size_bytes": len(page.encode()), "pareto": front})
        return
    note(f"Wrote {out_file} ({words.size(len(page.encode()))}).")
    note(f"No other is both smaller over the air and more accurate: {', '.join(front)}.")


def _check_names(files: "Sequence[ModelFile]") -> None:
    names = [file.name for file in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise typer.BadParameter(f"{', '.join(twice)} stands twice; the page could not tell them")


def _judge(
    files: "Sequence[ModelFile]",
    scores: "Sequence[int]",
    given: "Samples",
    extras: tuple[int | None, "Metric | None"],
    running: Running,
) -> "list[Evaluation]":
    from controller.compress.judging import beside, judge  # noqa: PLC0415

    judged = []
    for file, at in zip(files, scores, strict=True):
        running.next(f"Judging {file.name}")
        judged.append(judge(file.path.read_bytes(), file.name, given, at, *extras))
    first = judged[0]
    if given.y is None:
        return [found for found, _ in judged]
    return [first[0], *(beside(one, first, given.y) for one in judged[1:])]


def _subjects(
    files: "Sequence[ModelFile]",
    judged: "Sequence[Evaluation]",
    sample_shape: tuple[int, ...],
    seconds: float,
    running: Running,
) -> "list[Subject]":
    from controller.compress.anatomy import dissect  # noqa: PLC0415
    from controller.compress.measure import Pace, clock, weigh  # noqa: PLC0415
    from controller.compress.page import Subject  # noqa: PLC0415
    from controller.compress.wire import wire  # noqa: PLC0415

    running.next("Taking files apart")
    contents = [file.path.read_bytes() for file in files]
    weighed = [weigh(file, None, sample_shape) for file in files]
    running.next("Timing in turns")
    clocked = clock(files, None, Pace(seconds=seconds * len(files)), sample_shape)
    return [
        Subject(
            anatomy=dissect(content, file.name),
            wire=wire(content),
            weighed=weighed[number],
            timings=clocked.timings[number],
            cpu_s=clocked.cpu_s[number],
            energy_j=None,
            evaluation=judged[number],
        )
        for number, (file, content) in enumerate(zip(files, contents, strict=True))
    ]


def _machine(subject: "Subject") -> str:
    return f"{platform.machine()}, one thread, {subject.weighed.runtime}"
