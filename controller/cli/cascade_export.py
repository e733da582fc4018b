"""`ctl cascade export`: a cascade's artifacts as files for a static server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.context import open_home
from controller.cli.options import Bundle
from controller.cli.output import Column, Format, Output, note, print_rows

if TYPE_CHECKING:
    from controller.export import Exported


def export(
    ctx: typer.Context,
    bundle: Bundle,
    folder: Annotated[
        Path, typer.Argument(help="Where to; made where it is missing.", show_default=False)
    ],
    *,
    output: Output = Format.TABLE,
) -> None:
    """Write a cascade's artifacts into a folder, each named by its SHA-256.

    Any static server, S3-compatible storage or CDN can serve it; devices ask it before the broker
    with ctl deploy --url. Nothing has to be kept secret or trusted there: each chunk is checked
    against the signed bundle.

    Example: ctl cascade export digits@2 /var/www/models
    """
    from controller.cli.intent import find_bundle  # noqa: PLC0415
    from controller.export import export as write  # noqa: PLC0415

    home = open_home(ctx)
    stored = find_bundle(home, bundle)
    files = write(home, stored, folder)
    print_rows(list(files), COLUMNS, output)
    if output is Format.TABLE:
        size = words.size(sum(one.size_bytes for one in files))
        note(
            f"{len(files)} files, {size}, in {folder}. Serve them, then: ctl deploy "
            f"{stored.ref.name}@{stored.ref.version} --url https://HOST/FOLDER"
        )


COLUMNS: "list[Column[Exported]]" = [
    Column("FILE", lambda one: one.sha256),
    Column("WHAT", lambda one: one.what, wrap=True),
    Column("SIZE", lambda one: words.size(one.size_bytes), right=True),
    Column("WRITTEN", lambda one: one.written),
]
