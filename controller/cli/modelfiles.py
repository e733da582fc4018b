"""Models as a command names them: a `.tflite` file, or a name in the catalog."""

from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.context import open_home

if TYPE_CHECKING:
    from controller.compress.measure import ModelFile

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A .tflite file, or a model of the catalog.", show_default=False
    ),
]

Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...", help=".tflite files, or models of the catalog.", show_default=False
    ),
]

Shape = Annotated[
    str | None,
    typer.Option(
        metavar="H,W,C", help="Shape of one sample, for a model that leaves its shape open."
    ),
]


def parse_shape(text: str | None) -> tuple[int, ...] | None:
    """Read a shape, `224,224,3` or `224x224x3`; None stays None.

    Raises:
        typer.BadParameter: it is none.
    """
    if text is None:
        return None
    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"{text!r} is no shape; write 224,224,3")
    return tuple(map(int, parts))


def model_file(ctx: typer.Context, words: str) -> "ModelFile":
    """Return the file of a model, and what messages call it.

    Raises:
        CatalogError, ArtifactError: there is no such model, or its file is damaged.
        CompressError: there is no such file.
    """
    from controller.catalog import Catalog  # noqa: PLC0415
    from controller.compress.measure import ModelFile  # noqa: PLC0415
    from controller.compress.sources import find_model, is_path  # noqa: PLC0415

    path, name = find_model(Catalog(open_home(ctx)), words)
    return ModelFile(path.name if is_path(words) else name, path)


def scores_of(ctx: typer.Context, words: str, wanted: str | None) -> int:
    """Return the number of the output that holds a model's scores.

    Args:
        ctx: of the command.
        words: the model as it was named.
        wanted: what `--scores` says; None: what the catalog knows, else the only output.

    Raises:
        CompressError: the model has several outputs, and nobody has said which.
    """
    from controller.catalog import Catalog  # noqa: PLC0415
    from controller.compress.errors import CompressError  # noqa: PLC0415
    from controller.compress.graph import Graph  # noqa: PLC0415
    from controller.compress.sources import is_path  # noqa: PLC0415

    if wanted is None and not is_path(words):
        known = Catalog(open_home(ctx)).model(words).scores
        if known is not None:
            return known
    found = model_file(ctx, words)
    graph = Graph.read(found.path.read_bytes(), found.name)
    names = [graph.tensor_name(tensor) for tensor in graph.outputs]
    if wanted is None and len(names) == 1:
        return 0
    if wanted is not None and names.count(wanted) == 1:
        return names.index(wanted)
    if wanted is not None and wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    listed = ", ".join(f"{number}: {name!r}" for number, name in enumerate(names))
    raise CompressError(f"cannot tell the scores of {found.name}: it gives {listed}; use --scores")
