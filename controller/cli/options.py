"""Options that several commands share: selectors, durations, and what a shell can complete."""

import re
from typing import Annotated, Any

import typer

from controller.cli.complete import complete_bundle

_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd]?)")
_LABEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9_./-]{0,62})=(.{0,256})")


def parse_duration_s(words: str | float) -> float:
    """Read a duration: `90`, `90s`, `10m`, `1.5h` or `2d`, in seconds where no unit stands.

    Raises:
        typer.BadParameter: it is not one.
    """
    if not isinstance(words, str):  # an option's default
        return words
    found = _DURATION.fullmatch(words.strip())
    if found is None:
        raise typer.BadParameter(f"{words!r} is no duration; write 90s, 10m or 1h")
    return float(found[1]) * _UNITS_S[found[2]]


def parse_selector(pairs: list[str] | None) -> dict[str, str]:
    """Read `key=value` pairs into labels that a device must have, all of them.

    Raises:
        typer.BadParameter: a pair is not one, or a key stands twice with different values.
    """
    labels: dict[str, str] = {}
    for pair in pairs or ():
        found = _LABEL.fullmatch(pair)
        if found is None:
            raise typer.BadParameter(f"{pair!r} is no label; write -l key=value")
        if labels.setdefault(found[1], found[2]) != found[2]:
            raise typer.BadParameter(f"no device has {found[1]} both ways")
    return labels


def parse_pairs(pairs: list[str] | None, what: str) -> dict[str, str]:
    """Read `left=right` pairs, for example stage=variant.

    Raises:
        typer.BadParameter: a pair is not one.
    """
    read = dict(pair.split("=", 1) for pair in pairs or () if "=" in pair)
    if len(read) != len(pairs or ()):
        raise typer.BadParameter(f"want {what}, each left side once, got {' '.join(pairs or ())}")
    return read


Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--selector", "-l", metavar="KEY=VALUE", help="Devices with this label; repeatable."
    ),
]

Devices = Annotated[list[str] | None, typer.Argument(metavar="DEVICE", help="By name; none: all.")]

Bundle = Annotated[
    str,
    typer.Argument(
        metavar="NAME[@VERSION]",
        help="A cascade of the catalog; the latest version where none is given.",
        autocompletion=complete_bundle,
    ),
]

Variants = Annotated[
    list[str] | None,
    typer.Option(
        "--variant", metavar="STAGE=VARIANT", help="Insist on a form of a stage; repeatable."
    ),
]


def duration_option(name: str, words: str, default: str) -> Any:  # noqa: ANN401 - typer's own type
    """Return typer's option of a duration in seconds; `default` is how its default reads."""
    return typer.Option(
        name, parser=parse_duration_s, metavar="TIME", help=words, show_default=default
    )
