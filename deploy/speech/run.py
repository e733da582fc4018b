"""The speech example by one command: train, compress, measure, and print every step's worth.

    python deploy/speech/run.py free-spoken-digits.zip --out speech

It needs the extra `train` and some six minutes of one core. Into the folder it writes the
classifier's weights, every form of the model, `samples.npz` (features and digits of the calibration
and test recordings, for `ctl cascade build` and `ctl model eval`) and `recipe.json`, the figures.
What is there already is not trained again: an interrupted run goes on from there.
"""

# ruff: noqa: INP001 (a script, not a package)

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path

import numpy as np
import spoken_digits
import torch

from controller.cli.output import Format, jsonable, note, print_rows
from controller.cli.running import Running
from controller.cli.training import (
    STEPS,
    quiet_torch,
    recipe_columns,
    recipe_document,
    remarks,
    verdict,
)
from controller.compress.errors import CompressError
from controller.compress.training.channels import Schedule
from controller.compress.training.protocol import load_task
from controller.compress.training.recipe import Plan, Recipe, cook
from controller.compress.training.target import parse_target
from controller.compress.training.teach import Lesson

PLAN = Plan(
    target=parse_target("macs=0.02"),
    schedule=Schedule(steps=6, last=Lesson(25, 2e-3), is_int8=True),
    first_stage=parse_target("macs=0.003"),
    lesson=Lesson(30, 5e-3),
)


def run(folder: Path) -> None:
    """Train where there are no weights, carry out the plan, write and print what came of it."""
    quiet_torch(threads=1, seed=spoken_digits.SEED)
    if not spoken_digits.weights_path().is_file():
        spoken_digits.train()
    # Anew, so that the figures do not depend on whether it was trained just now.
    torch.manual_seed(spoken_digits.SEED)
    task = load_task(spoken_digits.__file__)
    with Running("Beginning") as running:
        made = cook(task, PLAN, running.at, note, folder)
    figures = json.dumps(jsonable(recipe_document(made)), indent=2)
    (folder / "recipe.json").write_text(figures, encoding="utf-8")
    x, y = spoken_digits.features("calibration")
    x_test, y_test = spoken_digits.features("test")
    np.savez_compressed(folder / "samples.npz", x=x, y=y, x_test=x_test, y_test=y_test)
    show(made)


def show(made: Recipe) -> None:
    """Print the tables."""
    print_rows(made.steps, STEPS, Format.TABLE)
    print_rows(made.rows, recipe_columns(made), Format.TABLE)
    for remark in remarks(made):
        note(remark)
    note(verdict(made, PLAN.loss_points))


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("zip", type=Path, help="the free spoken digit dataset")
    parser.add_argument("--out", type=Path, default=Path("speech"), metavar="FOLDER")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    spoken_digits.log.setLevel(logging.INFO)
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ[spoken_digits.DATA] = str(options.zip.resolve())
    os.environ[spoken_digits.WEIGHTS] = str(options.out.resolve() / "weights.pt")
    try:
        run(options.out)
    except (CompressError, RuntimeError) as error:
        note(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
