import io
import json
import re
from pathlib import Path

import pytest

from controller.cli.output import (
    Column,
    Format,
    fitting,
    jsonable,
    print_facts,
    print_json_line,
    print_rows,
    printable,
)
from protocols.device import Rungs

COLUMNS: list[Column[dict[str, object]]] = [
    Column("NAME", lambda row: row["name"]),
    Column("MEM", lambda row: row["mem"], right=True),
    Column("WHY", lambda row: row["why"], wrap=True, style=lambda _: "red"),
]
ROWS: list[dict[str, object]] = [
    {"name": "pi-1", "mem": None, "why": "x" * 300},
    {"name": "pi-2", "mem": "12 MiB", "why": ""},
]


def test_a_table_without_a_terminal_keeps_a_row_on_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows(ROWS, COLUMNS, Format.TABLE)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "MEM", "WHY"]
    assert lines[1].split() == ["pi-1", "-", "x" * 300]
    assert lines[2].split() == ["pi-2", "12", "MiB"]
    assert "\x1b" not in "".join(lines)


def test_spare_columns_go_where_the_terminal_is_narrow() -> None:
    def titles(width: int) -> list[str]:
        return [column.title for column in fitting(ROWS, columns, width)]

    columns = [
        COLUMNS[0],
        Column("RUNS", lambda _: 1, spare=True),
        Column("P50", lambda _: "0.1 ms", spare=True),
        *COLUMNS[1:],
    ]
    assert titles(44) == ["NAME", "RUNS", "P50", "MEM", "WHY"]
    assert titles(43) == ["NAME", "RUNS", "MEM", "WHY"]
    assert titles(35) == ["NAME", "MEM", "WHY"]
    assert titles(5) == ["NAME", "MEM", "WHY"]


def test_json_is_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, COLUMNS, Format.JSON, empty="nothing")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == ROWS
    assert not captured.err


def test_an_empty_table_is_a_note_on_stderr_and_empty_json_an_array(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows([], COLUMNS, Format.TABLE, empty="no devices")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "no devices\n")
    print_rows([], COLUMNS, Format.JSON, empty="no devices")
    captured = capsys.readouterr()
    assert (json.loads(captured.out), captured.err) == ([], "")


def test_facts(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts([("Name", "pi-1"), ("Board", None)], Format.TABLE, {})
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["Name", "pi-1"],
        ["Board", "-"],
    ]


def test_what_a_device_says_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]0;owned\x07[red]not markup[/red]"
    print_rows([{"name": evil, "mem": 1, "why": ""}], COLUMNS, Format.TABLE)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "[red]not markup[/red]" in out
    assert printable("a\nb\x00") == "a\nb\N{REPLACEMENT CHARACTER}"


def test_a_stream_writes_one_document_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json_line({"a": "\x1b[2J"})
    print_json_line(Rungs(residency=2))
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[0]) == {"a": "\x1b[2J"}
    assert json.loads(lines[1])["residency"] == 2
    assert "\x1b" not in lines[0]


def test_jsonable_understands_what_commands_hold() -> None:
    assert jsonable({"p": Path("/x"), "t": (1, Rungs()), "s": {2, 1}}) == {
        "p": "/x",
        "t": [1, Rungs().model_dump(mode="json")],
        "s": [1, 2],
    }


def test_no_color_is_honoured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    print_rows(ROWS, COLUMNS, Format.TABLE)
    assert "\x1b[31m" not in screen.getvalue()
    lines = re.sub(r"\x1b\[\d*m", "", screen.getvalue()).splitlines()
    assert max(map(len, lines)) == 60
