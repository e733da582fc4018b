"""What a command prints: rows as a table or as JSON on stdout, notes and progress on stderr.

Colour is rich's decision: none with NO_COLOR or where stdout is not a terminal. There a table is
as wide as its content, so that `grep` and `awk` see one row as one line.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

Row = TypeVar("Row")

_UNBOUNDED = 100_000
_GAP = 2
"""Spaces between columns."""
_WRAPPED = 16
"""Characters that a column which may wrap is content with."""
"""Width, in characters, of an output that is no terminal."""


class Format(StrEnum):
    """How a command prints what it found."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[
    Format,
    typer.Option(
        "--output", "-o", help="table, or json on stdout alone; also --json.", metavar="FORMAT"
    ),
]


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column of a table. A cell of None shows as `-`: this is not known.

    Attributes:
        title: the head, in capitals.
        cell: what a row shows there.
        right: align to the right, as numbers want it.
        wrap: may take several lines where the terminal is narrow; others are never wrapped.
        style: rich's style of a row's cell, for example "red".
        spare: left out where the terminal is too narrow for all columns, the last such one first.
    """

    title: str
    cell: Callable[[Row], object]
    right: bool = False
    wrap: bool = False
    style: Callable[[Row], str] = lambda _: ""
    spare: bool = False


def print_rows(
    rows: Sequence[Row],
    columns: Sequence[Column[Row]],
    form: Format,
    *,
    empty: str = "",
    document: Callable[[Row], object] | None = None,
) -> None:
    """Print rows as a table, or as a JSON array of `document(row)` (the row itself by default).

    Args:
        rows: what was found.
        columns: the table's columns.
        form: table or JSON.
        empty: the note on stderr where a table would have no rows.
        document: a row's JSON form: pydantic messages, dataclasses and plain values are understood.
    """
    if form is Format.JSON:
        print_json([row if document is None else document(row) for row in rows])
    elif not rows and empty:
        note(empty)
    else:
        print_table(rows, columns)


def print_table(rows: Sequence[Row], columns: Sequence[Column[Row]]) -> None:
    """Print rows as a table on stdout, without the spare columns that do not fit there."""
    console = out()
    console.print(table(rows, fitting(rows, columns, console.width)))


def fitting(rows: Sequence[Row], columns: Sequence[Column[Row]], width: int) -> list[Column[Row]]:
    """Return the columns that fit a width, in characters: spare ones go, the last one first."""
    kept = list(columns)
    needed = {id(column): _needed(rows, column) for column in columns}
    spare = [column for column in columns if column.spare]
    while spare and sum(needed[id(column)] for column in kept) - _GAP > width:
        kept.remove(spare.pop())
    return kept


def _needed(rows: Sequence[Row], column: Column[Row]) -> int:
    """Return the width that a column wants; one that may wrap is content with a few words."""
    widest = max((len(text(column.cell(row))) for row in rows), default=0)
    return max(len(column.title), min(widest, _WRAPPED) if column.wrap else widest) + _GAP


def print_facts(facts: Iterable[tuple[str, object]], form: Format, document: object) -> None:
    """Print one thing: its facts as aligned lines, or a document as JSON. None shows as `-`."""
    if form is Format.JSON:
        print_json(document)
        return
    from rich.table import Table  # noqa: PLC0415 - rich costs more than a command's parsing

    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(name, text(value))
    out().print(grid)


def print_json(document: object) -> None:
    """Print one JSON document, indented."""
    sys.stdout.write(json.dumps(jsonable(document), indent=2) + "\n")
    sys.stdout.flush()


def print_json_line(document: object) -> None:
    """Print one JSON document as one line: how a stream without an end is written."""
    sys.stdout.write(json.dumps(jsonable(document)) + "\n")
    sys.stdout.flush()


def jsonable(value: object) -> object:
    """Return a value as JSON can hold it."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((jsonable(item) for item in value), key=repr)
    return str(value) if isinstance(value, Path) else value


def table(rows: Sequence[Row], columns: Sequence[Column[Row]]) -> "Table":
    """Return rows as a rich table in the manner of kubectl: no lines, two spaces between."""
    from rich.table import Table  # noqa: PLC0415

    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        grid.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.wrap,
            overflow="fold" if column.wrap else "ellipsis",
        )
    for row in rows:
        grid.add_row(*(text(column.cell(row), column.style(row)) for column in columns))
    return grid


def text(value: object, style: str = "") -> "Text":
    """Return a cell: None (not known) as `-`, words without what would steer a terminal."""
    from rich.text import Text  # noqa: PLC0415

    return Text("-" if value is None else printable(str(value)), style=style)


def printable(words: str) -> str:
    """Replace control characters: what a device says must not steer the reader's terminal."""
    return "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in words
    )


def note(words: str, style: str = "") -> None:
    """Print a line for the person on stderr."""
    console = err()
    console.print(
        printable(words), style=style or None, markup=False, soft_wrap=not console.is_terminal
    )


def error_line(words: str) -> None:
    """Print an error on stderr."""
    note(words, style="red")


def out() -> "Console":
    """Return the console of stdout."""
    return _console(stderr=False)


def err() -> "Console":
    """Return the console of stderr."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console  # noqa: PLC0415

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _UNBOUNDED
    return Console(file=stream, width=width, highlight=False, emoji=False)
