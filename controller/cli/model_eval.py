"""`ctl model eval`: what a classifier is worth on labelled samples."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.modelfiles import Model, model_file, scores_of
from controller.cli.output import Column, Format, Output, note, out, print_facts, print_json, table
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.compress.evaluate import ClassFigures, Evaluation

_MOST_CLASSES = 40
_MOST_MISTAKES = 8


def evaluate(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    model: Model,
    *,
    samples: Annotated[
        Path, typer.Option(metavar="FILE.npz", help="Samples x and labels y.", show_default=False)
    ],
    x_key: Annotated[str, typer.Option(help="Name of the array of samples.")] = "x",
    y_key: Annotated[str, typer.Option(help="Name of the array of labels.")] = "y",
    against: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A reference: how far both agree.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Also count the label among so many first classes.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Your own: takes scores [n, classes] float32 and labels [n], returns a number.",
        ),
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(metavar="NAME|NUMBER", help="Which output holds the class scores."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE|A,B,C", help="Names of the classes.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Judge a model on labelled samples: accuracy, classes, confusion, calibration.

    Every figure stands with the interval in which it lies with probability 95%, as far as the
    number of samples tells. Use samples that the model was not trained on.

    Example: ctl model eval small.tflite --samples held-out.npz --against large.tflite
    """
    from controller.compress.judging import beside, judge  # noqa: PLC0415
    from controller.compress.user_metric import load_metric  # noqa: PLC0415
    from controller.recipe import read_labels  # noqa: PLC0415
    from controller.samples import read_samples  # noqa: PLC0415

    names = [model] if against is None else [model, against]
    files = [(model_file(ctx, name), scores_of(ctx, name, scores)) for name in names]
    measure = None if metric is None else load_metric(metric)
    given = read_samples(samples, x_key, y_key)
    classes = () if labels is None else read_labels(labels)
    judged = []
    with Running("Reading models", len(files)) as running:
        for file, at in files:
            running.next(file.name)
            judged.append(judge(file.path.read_bytes(), file.name, given, at, top_k, measure))
    found = judged[0][0]
    if against is not None and given.y is not None:
        found = beside(judged[0], judged[1], given.y)
    if output is Format.JSON:
        print_json(_document(found, given.sha256))
    else:
        _print(found, classes)


def _document(found: "Evaluation", data_sha256: str) -> dict[str, object]:
    quality = found.quality
    return {
        "model": found.name,
        "data_sha256": data_sha256,
        "samples": quality.samples,
        "scores": found.kind,
        "accuracy": quality.accuracy,
        "accuracy_interval": found.interval,
        "top_k": None if found.top_k is None else {"k": found.top_k[0], "accuracy": found.top_k[1]},
        "top5_accuracy": quality.top5_accuracy,
        "metric": found.metric,
        "calibration_error": quality.calibration_error,
        "reliability": found.bins,
        "classes": found.classes,
        "confusion": quality.confusion.tolist(),
        "against": found.comparison,
    }


def _print(found: "Evaluation", labels: tuple[str, ...]) -> None:
    print_facts(_facts(found), Format.TABLE, None)
    out().print()
    shown = found.classes[:_MOST_CLASSES]
    out().print(table(shown, _columns(labels)))
    if len(found.classes) > len(shown):
        note(f"{len(found.classes) - len(shown)} more classes; -o json has all.")
    mistakes = list(_mistakes(found, labels))
    if mistakes:
        note("\nMost frequent mistakes:")
        for words in mistakes[:_MOST_MISTAKES]:
            note(f"  {words}")


def _facts(found: "Evaluation") -> Iterator[tuple[str, object]]:
    quality, interval, beside = found.quality, found.interval, found.comparison
    yield "Model", found.name
    yield "Samples", quality.samples
    span = f"95%: {interval.low:.2%} to {interval.high:.2%}"
    yield "Accuracy", f"{quality.accuracy:.2%} ({span})"
    if found.top_k is not None:
        yield f"Top {found.top_k[0]}", f"{found.top_k[1]:.2%}"
    if found.metric is not None:
        yield "Metric", f"{found.metric:.6g}"
    yield "Calibration", f"{quality.calibration_error:.2%} expected calibration error, 15 bins"
    yield "Scores", found.kind
    if beside is None:
        return
    yield "Against", beside.reference
    yield "Agreement", f"{beside.agreement:.2%} of the samples are answered alike"
    low, high = beside.interval.low * 100, beside.interval.high * 100
    gap = f"{beside.difference * 100:+.2f} points (95%: {low:+.2f} to {high:+.2f})"
    yield "Difference", gap
    only = f"only this {beside.only_this}, only the reference {beside.only_reference}"
    yield "Right", f"both {beside.both_right}, {only}, neither {beside.neither}"


def _mistakes(found: "Evaluation", labels: tuple[str, ...]) -> Iterator[str]:
    """Yield which class is taken for which, the most frequent first."""
    confusion = found.quality.confusion
    pairs = [
        (int(count), row, column)
        for row, line in enumerate(confusion.tolist())
        for column, count in enumerate(line)
        if row != column and count
    ]
    for count, row, column in sorted(pairs, key=lambda pair: -pair[0]):
        yield f"{_label(row, labels)} taken for {_label(column, labels)}: {count}"


def _columns(labels: tuple[str, ...]) -> "list[Column[ClassFigures]]":
    return [
        Column("CLASS", lambda c: _label(c.label, labels)),
        Column("SAMPLES", lambda c: c.samples, right=True),
        Column("RECALL", lambda c: _share(c.recall), right=True),
        Column("PRECISION", lambda c: _share(c.precision), right=True),
    ]


def _label(number: int, labels: tuple[str, ...]) -> str:
    return labels[number] if number < len(labels) else str(number)


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.1%}"
