import io

import pytest

from controller.cli.live import Changing
from controller.cli.output import Column

Row = tuple[str, str]
COLUMNS: list[Column[Row]] = [
    Column("NAME", lambda row: row[0]),
    Column("PHASE", lambda row: row[1]),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def changing() -> Changing[Row]:
    return Changing(
        COLUMNS,
        key=lambda row: row[0],
        line=lambda row: f"{row[0]} {row[1]}",
        title=lambda rows: f"{len(rows)} rows",
    )


def test_without_a_terminal_a_line_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    with changing() as view:
        for _ in range(3):
            view.show([("a", "fetching"), ("b", "fetching")])
        view.show([("a", "running"), ("b", "fetching")])
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["a fetching", "b fetching", "a running"]
    assert not captured.out


def test_on_a_terminal_the_table_is_redrawn_and_cut_to_its_height(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "10")
    with changing() as view:
        view.show([(f"pi-{n}", "running") for n in range(20)])
    said = screen.getvalue()
    assert "20 rows" in said
    assert "pi-5" in said
    assert "pi-6" not in said
    assert "and 14 more" in said
