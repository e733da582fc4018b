"""The commands that make a form again, byte for byte. Pure."""

import shlex
from dataclasses import dataclass
from typing import Literal

from controller.compress.advise.recipes import AUTO, Recipe, Step, Technique, slug_of

STEPS, EPOCHS, LAST_EPOCHS, RATE, WEIGHT, TEMPERATURE, SEED = 4, 2, 12, 0.002, 0.7, 4.0, 0
IMPORTANCE: Literal["taylor"] = "taylor"
SPREAD: Literal["alike"] = "alike"
"""How channels are cut, and how what is left is taught: as `ctl model prune --channels` has it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a form is made of, in the words of a command line.

    Attributes:
        model: path or name.
        stem: begins the names of the files that are written.
        data: path of the samples.
        x_key, y_key: names of its arrays.
        scores: number of the output that holds the class scores.
        module: that channels are cut with; None: there is none.
        options: that stand before the command, such as --home.
    """

    model: str
    stem: str
    data: str
    x_key: str
    y_key: str
    scores: int
    module: str | None = None
    options: tuple[str, ...] = ()


def commands(recipe: Recipe, origin: Origin) -> tuple[str, ...]:
    """Return one command for each step; each reads the file that the one before wrote."""
    lines, source = [], origin.model
    for length in range(1, len(recipe) + 1):
        out = f"{origin.stem}-{slug_of(recipe[:length])}.tflite"
        words = _words(recipe[length - 1], source, origin)
        lines.append(shlex.join(["ctl", *origin.options, "model", *words, "--out", out]))
        source = out
    return tuple(lines)


def _words(step: Step, source: str, origin: Origin) -> list[str]:
    if step.technique is Technique.CHANNELS:
        return _training(step, origin)
    verb, *options = _VERBS.get(step.technique, ("quantize", "--to", step.technique.value))
    if step.amount == AUTO and step.technique is Technique.PRUNE:
        options = []
    elif step.amount:
        options.append(step.amount)
    if step.is_searched:
        options += ["--max-loss", f"{step.max_loss}pp"]
    if step.is_searched or step.technique is Technique.INT8:
        options += _samples(origin)
    return [verb, source, *options]


_VERBS: dict[Technique, tuple[str, ...]] = {
    Technique.PRUNE: ("prune", "--weights"),
    Technique.PALETTE: ("share", "--palette"),
    Technique.TIE: ("share", "--tie"),
    Technique.DEDUPE: ("share", "--dedupe"),
}


def _samples(origin: Origin) -> list[str]:
    words = ["--samples", origin.data]
    words += ["--x-key", origin.x_key] if origin.x_key != "x" else []
    words += ["--y-key", origin.y_key] if origin.y_key != "y" else []
    return [*words, "--scores", str(origin.scores)] if origin.scores else words


def _training(step: Step, origin: Origin) -> list[str]:
    options = (
        ("--channels", step.amount),
        ("--importance", IMPORTANCE),
        ("--spread", SPREAD),
        ("--steps", f"{STEPS}"),
        ("--epochs", f"{EPOCHS}"),
        ("--last-epochs", f"{LAST_EPOCHS}"),
        ("--rate", f"{RATE:g}"),
        ("--weight", f"{WEIGHT:g}"),
        ("--temperature", f"{TEMPERATURE:g}"),
        ("--threads", "1"),
        ("--seed", f"{SEED}"),
    )
    return ["prune", origin.module or "", *(word for option in options for word in option)]
