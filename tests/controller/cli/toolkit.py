"""`ctl` with the commands of splitting, searching and judging cascades, on a home of a test."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner, Result

from controller.cli import (
    cascade,
    cascade_calibrate,
    cascade_eval,
    cascade_search,
    model_split,
)
from controller.cli.context import Globals
from controller.home import Home

app = typer.Typer()
app.command("split")(model_split.split)
app.command("build")(cascade.build)
app.command("calibrate")(cascade_calibrate.calibrate)
app.command("eval")(cascade_eval.evaluate)
app.command("search")(cascade_search.search)
app.command("ls")(cascade.list_cascades)
app.command("show")(cascade.show)


@dataclass(frozen=True)
class Toolkit:
    """The commands, on one home."""

    home: Home

    def run(self, *arguments: str | Path, fails: bool = False) -> Result:
        """Run a command; where it fails, its error is raised unless it should."""
        words = [str(argument) for argument in arguments]
        done = CliRunner(env={"COLUMNS": "200"}).invoke(
            app, words, obj=Globals(home=self.home.folder, fleet=self.home.fleet)
        )
        if done.exception is not None and not fails:
            raise done.exception
        return done

    def json(self, *arguments: str | Path) -> Any:  # noqa: ANN401 - any document
        """Run a command with `-o json` and return what it printed."""
        return json.loads(self.run(*arguments, "-o", "json").stdout)
