"""Schedules as a person writes them: the `--schedule` file and the editor's text, read strictly."""

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
    try:
        words = path.read_text()
    except (OSError, ValueError) as error:
        why = (isinstance(error, OSError) and error.strerror) or error
        raise MessageError(f"cannot read schedule {path}: {why}") from error
    is_json = path.suffix == ".json" or (path.suffix != ".toml" and words.lstrip()[:1] == "{")
    return parse_schedule(words, str(path), is_json=is_json)


def parse_schedule(words: str, where: str, *, is_json: bool = False) -> "Schedule":
    """Read a schedule's text, as `read_schedule` does.

    Args:
        words: TOML or JSON; in TOML, which has no null, `"never"`, `"any"` and `"unlimited"`
            (`controller.schedules.text`) stand for it.
        where: what it is called in errors.
        is_json: it is JSON, not TOML.

    Raises:
        MessageError: it is no schedule, or has a field that does not exist.
    """
    from controller.schedules.text import with_nulls  # noqa: PLC0415 - pydantic
    from protocols.schedule import DEFAULT_THRESHOLDS, Schedule  # noqa: PLC0415

    try:
        found = with_nulls(json.loads(words) if is_json else tomllib.loads(words))
    except ValueError as error:
        raise MessageError(f"cannot read schedule {where}: {error}") from error
    try:
        schedule = Schedule.decode(json.dumps(found).encode())
    except MessageError as error:
        raise MessageError(
            f"cannot read schedule {where}: {str(error).partition(': ')[2]}"
        ) from error
    if stranger := _stranger(found, schedule.model_dump(mode="json"), ""):
        raise MessageError(f"cannot read schedule {where}: there is no field {stranger}")
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
