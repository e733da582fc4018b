"""`ctl` in this process: its output, its errors and its exit code."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from controller.cli.app import app
from tests.controller.conftest import new_home


@dataclass(frozen=True)
class Ran:
    """What a command printed."""

    out: str
    err: str


@dataclass(frozen=True)
class Command:
    """Runs `ctl` on a home folder of its own; the working directory is its parent."""

    home: Path

    def run(self, *arguments: str | Path, code: int = 0) -> Ran:
        """Run a command that ends with this exit code."""
        found = CliRunner().invoke(
            app, ["--home", str(self.home), "--fleet", "test", *map(str, arguments)]
        )
        assert found.exit_code == code, found.output
        return Ran(found.stdout, found.stderr)

    def json(self, *arguments: str | Path) -> Any:  # noqa: ANN401 - whatever the command prints
        """Run a command with `-o json` and return what it printed."""
        return json.loads(self.run(*arguments, "-o", "json").out)

    def write(self, name: str, content: bytes) -> Path:
        """Write a file into the working directory."""
        path = self.home.parent / name
        path.write_bytes(content)
        return path


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`ctl` with keys, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    return Command(new_home(tmp_path / "home").folder)
