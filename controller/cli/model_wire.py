"""`ctl model wire`: how many bytes models take over the air."""

from typing import TYPE_CHECKING

import typer

from controller.cli import words
from controller.cli.modelfiles import Models, model_file
from controller.cli.output import Column, Format, Output, note, print_rows
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.compress.wire import Wire

    Row = tuple[str, Wire]


def wire(ctx: typer.Context, models: Models, *, output: Output = Format.TABLE) -> None:
    """Show how many bytes models take over the air (SENT), and what zlib, lzma and zstd would make.

    What clustering and pruning save shows here: the file may be as large as before, what is sent
    is not.

    Example: ctl model wire large.tflite large-shared.tflite
    """
    from controller.compress.graph import Graph  # noqa: PLC0415
    from controller.compress.wire import wire as count  # noqa: PLC0415

    files = [model_file(ctx, model) for model in models]
    rows: list[Row] = []
    with Running("Compressing", len(files)) as running:
        for file in files:
            running.next(file.name)
            content = file.path.read_bytes()
            Graph.read(content, file.name)  # or it is no model
            rows.append((file.name, count(content)))
    print_rows(rows, _columns(rows[0][1]), output, document=_document)
    if output is Format.TABLE and rows[0][1].zstd_bytes is None:
        note("This Python has no zstd: Python 3.14 has, or install zstandard.")


def _document(row: "Row") -> dict[str, object]:
    name, found = row
    return {
        "model": name,
        "raw_bytes": found.raw_bytes,
        "sent_bytes": found.sent_bytes,
        "zlib_bytes": found.zlib_bytes,
        "lzma_bytes": found.lzma_bytes,
        "zstd_bytes": found.zstd_bytes,
    }


def _columns(first: "Wire") -> "list[Column[Row]]":
    return [
        Column("MODEL", lambda row: row[0]),
        Column("RAW", lambda row: words.size(row[1].raw_bytes), right=True),
        Column("SENT", lambda row: words.size(row[1].sent_bytes), right=True),
        Column("ZLIB", lambda row: words.size(row[1].zlib_bytes), right=True),
        Column("LZMA", lambda row: words.size(row[1].lzma_bytes), right=True),
        Column("ZSTD", lambda row: words.size(row[1].zstd_bytes), right=True),
        Column("SENT/RAW", lambda row: f"{row[1].sent_bytes / row[1].raw_bytes:.1%}", right=True),
        Column(
            "OF THE FIRST", lambda row: f"{row[1].sent_bytes / first.raw_bytes:.1%}", right=True
        ),
    ]
