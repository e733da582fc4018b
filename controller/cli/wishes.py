"""`--goal`, `--latency`, `--joules`, `--quiet`: what a person wants of a cascade's speed."""

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.output import note

if TYPE_CHECKING:
    from collections.abc import Iterable

    from controller.cli.previews import Prospect
    from protocols.schedule import Window, Wishes

_DAY_MINUTES = 24 * 60
_MOST_WINDOWS = 16
_LATENCY = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s)")
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_JOULES = re.compile(r"(\d+(?:\.\d+)?)(mJ|J)?")
_TIME = r"([01]?\d|2[0-4]):([0-5]\d)"
_QUIET = re.compile(rf"{_TIME}-{_TIME}(?:=([CR][1-4](?:,?[CR][1-4])?))?")


class Goal(StrEnum):
    """What is best, where there is a choice."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"
    ENERGY = "energy"


def parse_latency_ms(said: str | float) -> float:
    """Read a latency with its unit, `50ms` or `1.5s`, in milliseconds.

    Raises:
        typer.BadParameter: it is none; a bare number could be seconds as well as milliseconds.
    """
    if not isinstance(said, str):
        return said
    found = _LATENCY.fullmatch(said.strip())
    value_ms = float(found[1]) * _MILLISECONDS[found[2]] if found else 0.0
    if not value_ms:
        raise typer.BadParameter(f"{said!r} is no latency; write 50ms or 1.5s, more than 0")
    return value_ms


def parse_joules(said: str | float) -> float:
    """Read an energy, `0.2`, `0.2J` or `200mJ`, in joules.

    Raises:
        typer.BadParameter: it is none.
    """
    if not isinstance(said, str):
        return said
    found = _JOULES.fullmatch(said.strip())
    joules = float(found[1]) * (1e-3 if found[2] == "mJ" else 1.0) if found else 0.0
    if not joules:
        raise typer.BadParameter(f"{said!r} is no energy; write 0.2 or 200mJ, more than 0")
    return joules


def parse_quiet(said: str) -> "Window":
    """Read quiet hours, `22:00-06:00`, and the rungs that are the best in them, C1 by default.

    Raises:
        typer.BadParameter: they are none.
    """
    from protocols.schedule import Window  # noqa: PLC0415 - pydantic

    found = _QUIET.fullmatch(said.strip())
    minutes = [int(found[n]) * 60 + int(found[n + 1]) for n in (1, 3)] if found else [-1, -1]
    if found is None or max(minutes) > _DAY_MINUTES:
        raise typer.BadParameter(
            f"{said!r} are no quiet hours; write 22:00-06:00, or 22:00-06:00=C2 for a rung "
            "from C1 to C4 or R1 to R4"
        )
    rungs = re.findall(r"([CR])([1-4])", found[5] or "C1")
    named = {letter: int(number) for letter, number in rungs}
    if len(named) < len(rungs):
        raise typer.BadParameter(f"{said!r} names two rungs of one ladder")
    return Window(
        start_minute=minutes[0] % _DAY_MINUTES,
        end_minute=minutes[1] % _DAY_MINUTES,
        compute=named.get("C", 0),
        residency=named.get("R", 0),
    )


GoalOption = Annotated[
    Goal | None,
    typer.Option("--goal", help="What is best where there is a choice; else latency."),
]
LatencyOption = Annotated[
    float | None,
    typer.Option(
        "--latency",
        parser=parse_latency_ms,
        metavar="TIME",
        help="p95 of an answer that is wanted, as 50ms; then the goal decides among what meets it.",
    ),
]
JoulesOption = Annotated[
    float | None,
    typer.Option(
        "--joules",
        parser=parse_joules,
        metavar="ENERGY",
        help="Mean energy of an answer that is wanted, as 0.2 or 200mJ.",
    ),
]
QuietOption = Annotated[
    list[str] | None,
    typer.Option(
        "--quiet",
        metavar="HH:MM-HH:MM[=C1]",
        help="Quiet hours by the device's clock: no better than this rung; repeatable.",
    ),
]


def wishes_of(
    goal: Goal | None, latency_ms: float | None, joules: float | None, quiet: list[str] | None
) -> "Wishes | None":
    """Return the wishes; None: none was said.

    Raises:
        typer.BadParameter: quiet hours cannot be read, or are too many.
    """
    if goal is None and latency_ms is None and joules is None and not quiet:
        return None
    from protocols.schedule import Wishes  # noqa: PLC0415 - pydantic

    if len(quiet or ()) > _MOST_WINDOWS:
        raise typer.BadParameter(f"at most {_MOST_WINDOWS} quiet hours, got {len(quiet or ())}")
    return Wishes(
        goal=(goal or Goal.LATENCY).value,
        latency_ms=latency_ms,
        joules=joules,
        quiet=tuple(map(parse_quiet, quiet or ())),
    )


def say_missed(found: "Iterable[Prospect]") -> None:
    """Say which wishes cannot be met, and on which devices: nothing is refused for it."""
    devices: dict[str, list[str]] = {}
    for one in found:
        for missed in one.missed:
            devices.setdefault(missed, []).append(one.device)
    for missed, names in devices.items():
        note(f"{words.listed(names)}: {missed}", style="yellow")
