"""`--url`: where devices can have a cascade's artifacts, besides the broker."""

from typing import Annotated

import typer

UrlOption = Annotated[
    list[str] | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="Where devices find the artifacts before they ask the broker: a static server's "
        "folder, or an URL with {sha256} in it; see ctl cascade export. May be repeated.",
        show_default=False,
    ),
]


def parse_urls(urls: list[str] | None) -> tuple[str, ...]:
    """Return the URLs of a command line, checked.

    Raises:
        typer.BadParameter: one is none, or there are too many.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415

    from protocols.message import explain  # noqa: PLC0415
    from protocols.sources import Sources  # noqa: PLC0415

    try:
        return TypeAdapter(Sources).validate_python(tuple(urls or ()))
    except ValidationError as error:
        raise typer.BadParameter(
            "cannot use --url: want http:// or https://, a host without user and password (all "
            f"devices and the broker would read them), and a path: {explain(error)}"
        ) from error
