"""`ctl model convert`: from PyTorch, ONNX, Keras and TensorFlow to `.tflite`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import lightening, modelfiles, words
from controller.cli.output import Column, Format, Output, note, out, print_facts, print_json, table
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.compress.convert.comparison import OutputChange
    from controller.compress.convert.conversion import ConvertReport
    from controller.compress.convert.messages import End


def convert(  # noqa: PLR0913 - one parameter for each option
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A .pt2, .onnx, .keras or .h5 file, or a SavedModel folder.",
            show_default=False,
        ),
    ],
    *,
    samples: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz", help="Compare on its first 100 samples too, not on noise alone."
        ),
    ] = None,
    x_key: Annotated[
        str | None,
        typer.Option(help="Name of their array; for several inputs: the inputs' own names."),
    ] = None,
    shape: modelfiles.Shape = None,
    signature: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which one of a SavedModel that has several.")
    ] = None,
    keep_layout: Annotated[
        bool,
        typer.Option(
            "--keep-layout", help="Leave images [n, c, h, w]; else they are [n, h, w, c]."
        ),
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0.0, help="Largest difference allowed, as a share of an output's largest value."
        ),
    ] = 1e-3,
    seed: Annotated[int, typer.Option(min=0, help="Of random inputs.")] = 0,
    target: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where to.", show_default="beside the source"),
    ] = None,
    force: lightening.Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Make a PyTorch, ONNX, Keras or TensorFlow model a .tflite file, and check that it answers so.

    Source and file answer the same inputs; the file is written only where they agree. An open
    batch axis becomes 1.

    Example: ctl model convert classifier.onnx --samples digits.npz
    """
    from controller.compress import sources  # noqa: PLC0415
    from controller.compress.convert.conversion import Options  # noqa: PLC0415
    from controller.compress.convert.conversion import convert as run  # noqa: PLC0415
    from controller.compress.weights import footprint  # noqa: PLC0415

    whole = source.absolute()
    stem = whole.name if whole.is_dir() else whole.stem
    path = target or whole.parent / f"{stem}.tflite"
    sources.check_free([path], force=force)
    options = Options(
        samples=samples,
        x_key=x_key,
        shape=modelfiles.parse_shape(shape),
        signature=signature,
        channels_last=not keep_layout,
        tolerance=tolerance,
        seed=seed,
    )
    with Running(f"Converting {source.name}") as running:
        content, report = run(source, options, running.next)
    takes = footprint(content, path.name)
    sources.write_all({path: content})
    if output is Format.JSON:
        print_json({"file": path, "result": takes, "conversion": report})
        return
    print_facts(_facts(report, path), output, None)
    out().print("")
    out().print(table(report.comparison.outputs, _OUTPUTS))
    note(
        f"Compared on {report.comparison.rows} inputs: {report.comparison.rows - report.samples} "
        f"random, {report.samples} of yours."
    )
    note(
        f"Wrote {path}: {words.size(takes.file_bytes)}, over the air "
        f"{words.size(takes.wire_bytes)}, {takes.parameters:,} parameters."
    )


def _facts(report: "ConvertReport", path: Path) -> Iterator[tuple[str, object]]:
    yield "File", path
    yield "Made by", report.tools
    for end in report.inputs:
        yield "Input", _end(end)
    for end in report.outputs:
        yield "Output", _end(end)


def _end(end: "End") -> str:
    told = f"{end.name}: {end.dtype}[{', '.join(map(str, end.file_shape))}]"
    if end.moved:
        told += f", channels last; was [{', '.join(map(str, end.shape))}]"
    if end.is_open:
        told += "; the batch was open, it is 1"
    return told


_OUTPUTS: "list[Column[OutputChange]]" = [
    Column("OUTPUT", lambda o: o.name),
    Column("LARGEST VALUE", lambda o: f"{o.largest:.4g}", right=True),
    Column("LARGEST DIFFERENCE", lambda o: f"{o.difference:.3g}", right=True),
    Column("SHARE", lambda o: f"{o.relative:.2g}", right=True),
    Column(
        "SAME TOP-1",
        lambda o: None if o.agreement is None else f"{o.agreement:.1%}",
        right=True,
    ),
]
