"""What a shell completes beyond commands and options: names that the local catalog has.

Device names would need the broker, which may be far away: they are not completed.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from controller.cli.context import open_home
from protocols.errors import SluiceError

if TYPE_CHECKING:
    from controller.catalog import Catalog


def complete_bundle(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the cascades of the catalog, and their versions once there is an `@`."""
    try:
        return [name for name in _bundles(_catalog(ctx), incomplete) if name.startswith(incomplete)]
    except SluiceError:
        return []


def _bundles(catalog: "Catalog", incomplete: str) -> Iterator[str]:
    for name in catalog.bundle_names():
        if "@" in incomplete:
            yield from (f"{name}@{version}" for version in catalog.versions(name))
        else:
            yield name


def _catalog(ctx: typer.Context) -> "Catalog":
    from controller.catalog import Catalog  # noqa: PLC0415

    return Catalog(open_home(ctx))
