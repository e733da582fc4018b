"""What `ctl model share` and `ctl model prune` have in common: options, budgets, tables."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli import words
from controller.cli.context import open_home
from controller.cli.output import Column, Format, note, out, print_json, table

if TYPE_CHECKING:
    from controller.compress.budget import Point
    from controller.compress.search import Verdict
    from controller.samples import Samples

_POINTS = re.compile(r"(\d+(?:\.\d+)?) ?(?:pp|%)?")

Model = Annotated[
    str, typer.Argument(help="A .tflite file, or a model of the catalog.", show_default=False)
]
SamplesFile = Annotated[
    Path | None,
    typer.Option("--samples", metavar="FILE.npz", help="Samples with labels to choose on."),
]
XKey = Annotated[str, typer.Option(help="Name of the array of samples.")]
YKey = Annotated[str, typer.Option(help="Name of the array of labels.")]
Scores = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="NUMBER",
        help="Which output holds the class scores.",
        show_default="as the catalog knows, else 0",
    ),
]
MaxLoss = Annotated[
    str | None,
    typer.Option(metavar="POINTS", help="Accuracy that may be lost on the samples, such as 0.5pp."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Where to.", show_default="beside the model"),
]
Force = Annotated[bool, typer.Option("--force", help="Take the place of a file that is there.")]


@dataclass(frozen=True, slots=True)
class Job:
    """A model that is to be made smaller, and where to.

    Attributes:
        name: for messages.
        content: the model's file.
        samples: None: there are none.
        scores: number of the output that holds the class scores.
        target: the file to write.
    """

    name: str
    content: bytes
    samples: "Samples | None"
    scores: int
    target: Path


@dataclass(frozen=True, slots=True)
class Made:
    """What came of it.

    Attributes:
        content: the model that was made.
        what: one word for the document.
        layers: a row for each layer, or pair of layers.
        columns: of these rows.
        verdict: what it costs in accuracy; None: nobody has measured.
        curve: loss against bytes; empty likewise.
        remarks: more that a person should know.
    """

    content: bytes
    what: str
    layers: Sequence[Any]
    columns: Sequence[Column[Any]]
    verdict: "Verdict | None" = None
    curve: "Sequence[Point[int]]" = ()
    remarks: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Line:
    measure: str
    before: str | None
    after: str | None
    ratio: float | None = None


def parse_loss(points: str | None) -> float | None:
    """Read percentage points, `0.5pp` or `0.5`, as a share; None stays None.

    Raises:
        typer.BadParameter: they are none.
    """
    if points is None:
        return None
    found = _POINTS.fullmatch(points.strip())
    if found is None or float(found[1]) > 100:  # noqa: PLR2004 - all of it
        raise typer.BadParameter(f"{points!r} is no loss of accuracy; write 0.5pp")
    return float(found[1]) / 100


def open_job(
    ctx: typer.Context,
    model: str,
    what: str,
    data: tuple[Path | None, str, str],
    scores: int | None,
    place: tuple[Path | None, bool],
) -> Job:
    """Read a model and its samples, and check that the result has a place.

    Args:
        ctx: the command's.
        model: path or name.
        what: goes into the name of the file that is written beside the model.
        data: file of samples, or None, and the names of its arrays x and y.
        scores: number of the output with the class scores; None: as the catalog knows.
        place: the file to write, or None, and whether it may take another's place.

    Raises:
        CompressError, BuildError, CatalogError: one of them cannot be used.
    """
    from controller.catalog import Catalog  # noqa: PLC0415
    from controller.compress import sources  # noqa: PLC0415
    from controller.samples import read_samples  # noqa: PLC0415

    catalog = Catalog(open_home(ctx))
    path, name = sources.find_model(catalog, model)
    if scores is None and not sources.is_path(model):
        scores = catalog.model(model).scores
    folder, stem = (path.parent, path.stem) if sources.is_path(model) else (Path(), name)
    target = place[0] or folder / f"{stem}-{what}.tflite"
    sources.check_free([target], force=place[1])
    read = None if data[0] is None else read_samples(data[0], *data[1:])
    return Job(stem, path.read_bytes(), read, scores or 0, target)


def finish(job: Job, made: Made, output: Format) -> None:
    """Run the model that was made, write it, and print what it saved and what it cost.

    Raises:
        CompressError, TrialError: it does not run; then nothing is written.
    """
    from controller.compress import sources  # noqa: PLC0415
    from controller.compress.proof import prove  # noqa: PLC0415
    from controller.compress.weights import footprint  # noqa: PLC0415

    moved = prove(job.content, made.content, job.name, job.samples, job.scores)
    before, after = footprint(job.content, job.name), footprint(made.content, job.name)
    sources.write_all({job.target: made.content})
    if output is Format.JSON:
        document = {
            "file": job.target,
            "before": before,
            "after": after,
            "score_change": moved,
            "accuracy": made.verdict,
            made.what: list(made.layers),
            "curve": list(made.curve),
        }
        print_json(document)
        return
    out().print(table(made.layers, made.columns))
    if made.curve:
        out().print("")
        out().print(table(made.curve, _CURVE))
    lines = [
        _bytes("file", before.file_bytes, after.file_bytes),
        _bytes("over the air", before.wire_bytes, after.wire_bytes),
        _count("parameters stored", before.parameters, after.parameters),
        _count("of them not zero", before.nonzero, after.nonzero),
        *_accuracies(made.verdict),
    ]
    out().print("")
    out().print(table(lines, _LINES))
    if moved is not None:
        note(f"The scores have moved by {moved:.2%} of their root mean square.")
    for remark in made.remarks:
        note(remark)
    note(f"Wrote {job.target}.")


def _bytes(measure: str, before: int, after: int) -> _Line:
    return _Line(measure, words.size(before), words.size(after), after / before)


def _count(measure: str, before: int, after: int) -> _Line:
    return _Line(measure, f"{before:,}", f"{after:,}", after / before if before else None)


def _accuracies(verdict: "Verdict | None") -> list[_Line]:
    if verdict is None:
        return []
    parts = (("chosen on", verdict.chosen_on), ("held out", verdict.held_out))
    return [
        _Line(f"accuracy, {one.samples} {part}", f"{one.before:.2%}", f"{one.after:.2%}")
        for part, one in parts
    ]


_LINES: list[Column[_Line]] = [
    Column("", lambda line: line.measure),
    Column("BEFORE", lambda line: line.before, right=True),
    Column("AFTER", lambda line: line.after, right=True),
    Column("", lambda line: None if line.ratio is None else f"{line.ratio:.1%}", right=True),
]
_CURVE: "list[Column[Point[int]]]" = [
    Column("LAYERS CHANGED", lambda point: len(point.chosen), right=True),
    Column("OVER THE AIR", lambda point: words.size(point.wire_bytes), right=True),
    Column("LOSS", lambda point: f"{point.loss * 100:+.2f}pp", right=True),
]
