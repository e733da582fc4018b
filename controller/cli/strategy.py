"""`--canary`, `--waves`, `--soak`, `--gate`: how a deployment reaches its devices."""

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.options import parse_duration_s, parse_selector

if TYPE_CHECKING:
    from protocols.rollout import Gates, Strategy, Wave

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)%")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SHARES = frozenset({"unhealthy", "failed", "degraded", "escalated"})
_OFF = "off"
_PANEL = "In waves"

CanaryOption = Annotated[
    str | None,
    typer.Option(
        "--canary",
        metavar="KEY=VALUE[,...]",
        help="First the devices with these labels.",
        rich_help_panel=_PANEL,
    ),
]
WavesOption = Annotated[
    str | None,
    typer.Option(
        "--waves",
        metavar="5%,25%,100%",
        help="Then so many, by percent or count, earlier ones included; all in the end.",
        rich_help_panel=_PANEL,
    ),
]
PerMinuteOption = Annotated[
    int | None,
    typer.Option(
        "--per-minute",
        min=1,
        metavar="N",
        help="So many devices a minute, at most.",
        rich_help_panel=_PANEL,
    ),
]
SoakOption = Annotated[
    str | None,
    typer.Option(
        "--soak",
        metavar="TIME",
        help="A wave runs so long before the next one; 10m without it.",
        rich_help_panel=_PANEL,
    ),
]
GateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--gate",
        metavar="NAME=LIMIT",
        help="What a device may do before it counts as unhealthy; without it unhealthy=2%, "
        "failed=1%, degraded=20%, deaths=0, p95=1.5, escalated=10%, battery=20, confidence=on; "
        "p95=off: no limit; repeatable.",
        rich_help_panel=_PANEL,
    ),
]


def strategy_of(
    canary: str | None,
    waves: str | None,
    per_minute: int | None,
    soak: str | None,
    gates: list[str] | None,
) -> "Strategy | None":
    """Return the strategy that the options ask for; none of them: None, everywhere at once.

    Raises:
        typer.BadParameter: one of them is not what it should be.
    """
    if (canary, waves, per_minute, soak) == (None,) * 4 and not gates:
        return None
    from protocols.rollout import Strategy  # noqa: PLC0415 - pydantic

    more: dict[str, Any] = {} if soak is None else {"soak_s": parse_duration_s(soak)}
    return Strategy(
        canary=parse_selector(canary.split(",")) if canary is not None else None,
        waves=parse_waves(waves) if waves else (),
        per_minute=per_minute,
        gates=parse_gates(gates),
        **more,
    )


def parse_waves(said: str) -> "tuple[Wave, ...]":
    """Read `1,25%,100%`: numbers and shares of devices, each larger than the one before.

    Raises:
        typer.BadParameter: it is not that.
    """
    from protocols.rollout import Wave  # noqa: PLC0415 - pydantic

    waves: list[Wave] = []
    for word in said.split(","):
        share = _PERCENT.fullmatch(word.strip())
        count = word.strip()
        if share is not None and 0 < float(share[1]) <= 100:  # noqa: PLR2004 - percent
            waves.append(Wave(percent=float(share[1])))
        elif count.isascii() and count.isdigit() and int(count):
            waves.append(Wave(count=int(count)))
        else:
            raise typer.BadParameter(f"{word.strip()!r} is no wave; write 10 or 25%")
    for before, after in pairwise(waves):
        _check_rises(before, after)
    return tuple(waves)


def _check_rises(before: "Wave", after: "Wave") -> None:
    for sizes in ((before.percent, after.percent), (before.count, after.count)):
        if None not in sizes and sizes[0] >= sizes[1]:  # type: ignore[operator] # checked just now
            raise typer.BadParameter("each wave must be larger than the one before it")


def parse_gates(pairs: list[str] | None) -> "Gates":
    """Read `name=limit` pairs; what is not said has its default.

    Raises:
        typer.BadParameter: there is no such gate, or its limit is none.
    """
    from pydantic import ValidationError  # noqa: PLC0415

    from protocols.message import explain  # noqa: PLC0415
    from protocols.rollout import Gates  # noqa: PLC0415

    limits: dict[str, object] = {}
    for pair in pairs or ():
        name, _, limit = pair.partition("=")
        if name not in Gates.model_fields:
            raise typer.BadParameter(f"no gate {name!r}; there are {', '.join(Gates.model_fields)}")
        limits[name] = _limit(name, limit.strip())
    try:
        return Gates.model_validate(limits)
    except ValidationError as error:
        raise typer.BadParameter(f"--gate {explain(error)}") from error


def _limit(name: str, said: str) -> object:
    if name == "confidence":
        if said not in {"on", _OFF}:
            raise typer.BadParameter("write confidence=on or confidence=off")
        return said == "on"
    if said == _OFF:
        return 1.0 if name == "unhealthy" else None
    share = _PERCENT.fullmatch(said)
    if share is not None and name in _SHARES:
        return float(share[1]) / 100
    if not _NUMBER.fullmatch(said):
        example = "2%" if name in _SHARES else "1.5"
        raise typer.BadParameter(f"{name}={said} is no limit; write {name}={example} or {name}=off")
    if name in _SHARES and float(said) > 1:
        raise typer.BadParameter(
            f"{name}={said} is more than all; write {name}={said}% or {name}={float(said) / 100:g}"
        )
    return float(said)
