"""A bar on stderr while a command works for long; nothing where stderr is no terminal."""

from types import TracebackType
from typing import Self

from controller.cli.output import err


class Running:
    """Shows how far a job is. Use it as a context manager.

    Args:
        title: what is done, until something more exact is said.
        total: steps of the job; None: not known yet.
    """

    def __init__(self, title: str, total: int | None = None) -> None:
        from rich.progress import (  # noqa: PLC0415 - rich costs more than a command's parsing
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        console = err()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(title, total=total)
        self._begun = -1

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def next(self, title: str) -> None:
        """Say that the next step begins."""
        self._begun += 1
        self._progress.update(self._task, description=title, completed=max(0, self._begun))

    def at(self, title: str, done: int, total: int) -> None:
        """Say how far it is."""
        self._progress.update(self._task, description=title, completed=done, total=total)
