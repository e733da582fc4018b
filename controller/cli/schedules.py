"""The `--schedule` file: a person's thresholds, dwell times, windows and rows, read strictly."""

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protocols.errors import MessageError

if TYPE_CHECKING:
    from protocols.schedule import Schedule

ScheduleFile = Annotated[
    Path | None,
    typer.Option(
        "--schedule",
        metavar="FILE",
        help="Thresholds, dwell times, windows and rows, in JSON or TOML.",
        exists=True,
        dir_okay=False,
    ),
]


def read_schedule(path: Path) -> "Schedule":
    """Read a schedule; what it leaves out has its default, what it misspells is refused.

    Raises:
        MessageError: it cannot be read, is no schedule, or has a field that does not exist.
    """
    from protocols.schedule import DEFAULT_THRESHOLDS, Schedule  # noqa: PLC0415 - pydantic

    try:
        words = path.read_text()
        found = tomllib.loads(words) if path.suffix == ".toml" else json.loads(words)
    except (OSError, ValueError) as error:
        raise MessageError(f"cannot read schedule {path}: {error}") from error
    try:
        schedule = Schedule.decode(json.dumps(found).encode())
    except MessageError as error:
        raise MessageError(
            f"cannot read schedule {path}: {str(error).partition(': ')[2]}"
        ) from error
    if stranger := _stranger(found, schedule.model_dump(mode="json"), ""):
        raise MessageError(f"cannot read schedule {path}: there is no field {stranger}")
    return schedule.with_(thresholds={**DEFAULT_THRESHOLDS, **schedule.thresholds})


def _stranger(given: object, understood: object, place: str) -> str | None:
    """Return the first field of a file that its reader has left out."""
    if isinstance(given, dict) and isinstance(understood, dict):
        for key, value in given.items():
            here = f"{place}.{key}" if place else str(key)
            if key not in understood:
                return here
            if found := _stranger(value, understood[key], here):
                return found
    if isinstance(given, list) and isinstance(understood, list):
        for number, (mine, theirs) in enumerate(zip(given, understood, strict=False)):
            if found := _stranger(mine, theirs, f"{place}[{number}]"):
                return found
    return None
