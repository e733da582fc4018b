"""`ctl model split`: one large model cut into consecutive parts."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.context import open_home
from controller.cli.output import Column, Format, Output, note, out, print_json, print_rows, table
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.compress.cuts import Cut, Flow
    from controller.compress.split import Part, Split

_MOST_TENSORS = 64
_NAME_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class _Written:
    """A part that was written, and its size over the air."""

    file: Path
    part: "Part"
    sent_bytes: int


def split(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    model: Annotated[
        str, typer.Argument(help="A .tflite file, or a model of the catalog.", show_default=False)
    ],
    *,
    parts: Annotated[
        int | None, typer.Option(min=2, help="So many parts, with weights as even as they can be.")
    ] = None,
    max_mib: Annotated[
        float | None,
        typer.Option("--max-mib", min=0.0, help="The fewest parts with files of at most so much."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TENSOR[,TENSOR]", help="Behind these tensors or operator numbers."),
    ] = None,
    list_cuts: Annotated[
        bool, typer.Option("--list", help="Show every legal cut, and write nothing.")
    ] = False,
    tensors: Annotated[
        int, typer.Option(min=1, max=_MOST_TENSORS, help="Tensors that a cut may hand over.")
    ] = 1,
    samples: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Compare on these samples x too."),
    ] = None,
    x_key: Annotated[str, typer.Option(help="Name of the array of samples.")] = "x",
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Where to.", show_default="beside the model"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Take the place of files that are there.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Cut a model into parts that answer, one after the other, exactly as the whole.

    A device can load the parts in turn where the whole does not fit. They are compared with the
    whole, bit for bit, before anything is written, and deploy as a cascade without gates.

    Example: ctl model split large.tflite --parts 3
    """
    from controller.catalog import Catalog  # noqa: PLC0415
    from controller.compress import sources  # noqa: PLC0415
    from controller.compress.split import read_flow  # noqa: PLC0415
    from controller.compress.split import split as cut_model  # noqa: PLC0415
    from controller.samples import read_samples  # noqa: PLC0415
    from protocols.packing import sent_bytes  # noqa: PLC0415

    chosen = [given for given in (parts, max_mib, at) if given is not None]
    if len(chosen) + list_cuts != 1:
        raise typer.BadParameter("give one of --parts, --max-mib, --at and --list")
    path, name = sources.find_model(Catalog(open_home(ctx)), model)
    content = path.read_bytes()
    flow = read_flow(content, path.name if sources.is_path(model) else name)
    if list_cuts:
        _print_cuts(flow, tensors, output)
        return
    given = None if samples is None else read_samples(samples, x_key)
    cuts = _cuts(flow, (parts, max_mib, at), tensors)
    folder = out_dir or (path.parent if sources.is_path(model) else Path())
    stem = path.stem if sources.is_path(model) else name
    files = [folder / f"{stem}-part{number + 1}.tflite" for number in range(len(cuts) + 1)]
    sources.check_free(files, force=force)
    with Running("Comparing parts with the whole") as running:
        found = cut_model(content, flow, cuts, given, running.at)
        sources.write_all(dict(zip(files, (part.content for part in found.parts), strict=True)))
        rows: list[_Written] = []
        for file, part in zip(files, found.parts, strict=True):
            running.at(f"Compressing {file.name}", len(rows), len(files))
            rows.append(_Written(file, part, sent_bytes(part.content)))
    _print_split(stem, rows, found, output)


def _cuts(
    flow: "Flow", wanted: tuple[int | None, float | None, str | None], tensors: int
) -> "tuple[Cut, ...]":
    from controller.compress.split import (  # noqa: PLC0415
        cuts_at,
        cuts_for_parts,
        cuts_for_size,
    )

    parts, max_mib, at = wanted
    if parts is not None:
        return cuts_for_parts(flow, parts, tensors)
    if max_mib is not None:
        return cuts_for_size(flow, max_mib, tensors)
    return cuts_at(flow, at or "", tensors)


def _print_cuts(flow: "Flow", tensors: int, output: Format) -> None:
    from controller.compress.cuts import Cut, Refused, places  # noqa: PLC0415

    found = list(places(flow, tensors))
    cuts = [place for place in found if isinstance(place, Cut)]
    refused = [place for place in found if isinstance(place, Refused)]
    print_rows(cuts, _cut_columns(flow), output, document=lambda cut: _cut_document(flow, cut))
    if output is Format.TABLE:
        note(f"{len(cuts)} legal cuts of {len(found)} places between {flow.end} operators.")
        for place in refused:
            note(f"Not behind operator {place.after}: {place.why}.")


def _print_split(stem: str, rows: "list[_Written]", found: "Split", output: Format) -> None:
    command = build_command(stem, [row.file for row in rows])
    if output is Format.JSON:
        print_json(
            {
                "parts": [_part_document(row) for row in rows],
                "compared_samples": found.compared,
                "bytes_before": found.whole_bytes,
                "build": command,
            }
        )
        return
    out().print(table(rows, _PART_COLUMNS))
    total = sum(len(part.content) for part in found.parts)
    note(
        f"Bit-identical with the whole on {found.compared} inputs. {words.size(found.whole_bytes)} "
        f"before, {words.size(total)} in parts; a cascade of them:\n  {command}"
    )


def build_command(name: str, files: list[Path]) -> str:
    """Return the command that makes a cascade of the parts of a model."""
    from controller.catalog import valid_name  # noqa: PLC0415

    stages = [f"--stage part{number}={file}" for number, file in enumerate(map(_quoted, files), 1)]
    reads = [f"--reads part{n + 1}=stage:part{n}" for n in range(1, len(files))]
    return " ".join(["ctl cascade build", valid_name(name), *stages, *reads, "--no-gate"])


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _cut_columns(flow: "Flow") -> "list[Column[Cut]]":
    graph = flow.graph
    return [
        Column("OPERATOR", lambda cut: cut.after, right=True),
        Column("KIND", lambda cut: graph.operator_name(cut.after)),
        Column("TENSORS", lambda cut: _names(flow, cut), wrap=True),
        Column("HANDED OVER", lambda cut: words.size(cut.handed_over_bytes), right=True),
        Column("WEIGHTS", lambda cut: words.size(cut.weights_before), right=True),
        Column("AFTER", lambda cut: words.size(cut.weights_after), right=True),
        Column("MACS", lambda cut: f"{cut.macs_before:,}", right=True),
        Column("AFTER", lambda cut: f"{cut.macs_after:,}", right=True),
    ]


def _names(flow: "Flow", cut: "Cut") -> str:
    return ", ".join(_short(flow.graph.tensor_name(t) or str(t)) for t in cut.tensors)


def _short(name: str) -> str:
    """Return the end of a name: converters write hundreds of characters; JSON has them all."""
    return name if len(name) <= _NAME_CHARACTERS else f"...{name[-_NAME_CHARACTERS:]}"


def _cut_document(flow: "Flow", cut: "Cut") -> dict[str, object]:
    return {
        "operator": cut.after,
        "kind": flow.graph.operator_name(cut.after),
        "tensors": [flow.graph.tensor_name(tensor) for tensor in cut.tensors],
        "handed_over_bytes": cut.handed_over_bytes,
        "weights_before_bytes": cut.weights_before,
        "weights_after_bytes": cut.weights_after,
        "macs_before": cut.macs_before,
        "macs_after": cut.macs_after,
    }


def _part_document(row: _Written) -> dict[str, object]:
    part = row.part
    return {
        "file": str(row.file),
        "size_bytes": len(part.content),
        "over_the_air_bytes": row.sent_bytes,
        "first_operator": part.operators[0],
        "last_operator": part.operators[1],
        "weights_bytes": part.weights_bytes,
        "macs": part.macs,
        "inputs": part.inputs,
        "outputs": part.outputs,
    }


_PART_COLUMNS: "list[Column[_Written]]" = [
    Column("FILE", lambda row: row.file),
    Column("OPERATORS", lambda row: f"{row.part.operators[0]}-{row.part.operators[1]}"),
    Column("TAKES", lambda row: ", ".join(map(_short, row.part.inputs)), wrap=True),
    Column("GIVES", lambda row: ", ".join(map(_short, row.part.outputs)), wrap=True),
    Column("SIZE", lambda row: words.size(len(row.part.content)), right=True),
    Column("SENT", lambda row: words.size(row.sent_bytes), right=True),
    Column("WEIGHTS", lambda row: words.size(row.part.weights_bytes), right=True),
    Column("MACS", lambda row: f"{row.part.macs:,}", right=True),
]
