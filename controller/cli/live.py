"""Rows that change while a person watches: redrawn in place, or one line a change elsewhere."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self

from controller.cli.output import Column, Row, err, note, table

if TYPE_CHECKING:
    from rich.live import Live

_OTHER_LINES = 4
"""Title, head, the count of what is hidden, and the line of the prompt."""


class Changing(Generic[Row]):
    """Shows rows on stderr as they change. Use it as a context manager.

    Args:
        columns: of the table on a terminal.
        key: what tells rows apart.
        line: how a row reads in a line, where stderr is no terminal; a line that has not changed
            is not printed again.
        title: above the table, as it is now.
    """

    def __init__(
        self,
        columns: Sequence[Column[Row]],
        key: Callable[[Row], str],
        line: Callable[[Row], str],
        title: Callable[[Sequence[Row]], str] = lambda _: "",
    ) -> None:
        self._columns = columns
        self._key = key
        self._line = line
        self._title = title
        self._said: dict[str, str] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        console = err()
        if console.is_terminal and not console.is_dumb_terminal:
            from rich.live import Live  # noqa: PLC0415

            self._live = Live(console=console, auto_refresh=False, vertical_overflow="ellipsis")
            self._live.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, rows: Sequence[Row]) -> None:
        """Show the rows as they are now."""
        if self._live is None:
            self._say(rows)
            return
        from rich.console import Group  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        shown = rows[: max(1, self._live.console.height - _OTHER_LINES)]
        hidden = len(rows) - len(shown)
        self._live.update(
            Group(
                Text(self._title(rows), style="bold"),
                table(shown, self._columns),
                *([Text(f"and {hidden} more")] if hidden else []),
            ),
            refresh=True,
        )

    def _say(self, rows: Sequence[Row]) -> None:
        for row in rows:
            line = self._line(row)
            if self._said.get(self._key(row)) != line:
                self._said[self._key(row)] = line
                note(line)
