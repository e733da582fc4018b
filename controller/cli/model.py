"""`ctl model`: the models of the local catalog."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.context import open_home
from controller.cli.output import Column, Format, Output, note, print_facts, print_rows
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.catalog import ModelRecord

app = typer.Typer(no_args_is_help=True, help="Models that cascades are built from.")


def _complete(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the models of the catalog."""
    from controller.catalog import Catalog  # noqa: PLC0415
    from protocols.errors import SluiceError  # noqa: PLC0415

    try:
        names = [record.name for record in Catalog(open_home(ctx)).models()]
    except SluiceError:
        return []
    return [name for name in names if name.startswith(incomplete)]


@app.command("add")
def add(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help=".tflite files.", show_default=False)
    ],
    *,
    name: Annotated[
        str | None, typer.Option(help="Name of the model; default: as the file is called.")
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|NUMBER", help="Which output holds the class scores, if there are several."
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="H,W,C", help="Shape of one sample, for a model that leaves its shape open."
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of another model of that name.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Look at model files in a process of their own and add them to the catalog: all, or none.

    A model is any .tflite file: float or quantized, whatever its shapes and number of classes.

    Example: ctl model add small.tflite large.tflite
    """
    from controller.catalog import Catalog  # noqa: PLC0415
    from controller.models import NewModel, add_models  # noqa: PLC0415

    if name is not None and len(files) > 1:
        raise typer.BadParameter("--name names one model; add the files one by one")
    sample_shape = None if shape is None else _parse_shape(shape)
    models = [NewModel(path, name, scores, sample_shape, replace) for path in files]
    with Running("Looking at models", len(models)) as running:
        records = add_models(Catalog(open_home(ctx)), models, running.next)
    print_rows(records, _COLUMNS, output)
    for record in records:
        if record.scores is None and output is Format.TABLE:
            note(
                f"{record.name} has {len(record.outputs)} outputs; a classifier needs to know "
                f"which one holds its scores: ctl model add {record.source} --scores NUMBER"
            )


@app.command("ls")
def list_models(ctx: typer.Context, output: Output = Format.TABLE) -> None:
    """List the models of the catalog.

    Example: ctl model ls -o json
    """
    from controller.catalog import Catalog  # noqa: PLC0415

    records = Catalog(open_home(ctx)).models()
    print_rows(records, _COLUMNS, output, empty="No models; add one with `ctl model add FILE`.")


@app.command("show")
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(autocompletion=_complete, help="Of a model.")],
    output: Output = Format.TABLE,
) -> None:
    """Show one model: its tensors, its needs, where it came from.

    Example: ctl model show small
    """
    from controller.catalog import Catalog  # noqa: PLC0415
    from controller.inspect import describe  # noqa: PLC0415

    catalog = Catalog(open_home(ctx))
    record = catalog.model(name)
    catalog.read(record.artifact)
    tensors = [
        *((f"Input {n}", f"{t.name} {describe(t)}") for n, t in enumerate(record.inputs)),
        *(
            (f"Output {n}", f"{t.name} {describe(t)}" + (" scores" if n == record.scores else ""))
            for n, t in enumerate(record.outputs)
        ),
    ]
    facts = [
        ("Name", record.name),
        *tensors,
        ("Size", words.size(record.artifact.size_bytes)),
        ("Memory", words.mib(record.needs.load_mib)),
        ("Load", words.milliseconds(record.needs.load_ms)),
        ("Answer", f"{words.milliseconds(record.needs.answer_ms)}, one thread, here"),
        ("Runtime", record.runtime),
        ("File", record.source),
        ("SHA-256", record.artifact.sha256),
    ]
    print_facts(facts, output, record)


def _parse_shape(text: str) -> tuple[int, ...]:
    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"{text!r} is no shape; write 224,224,3")
    return tuple(map(int, parts))


def _input(record: "ModelRecord") -> str:
    return ", ".join(f"{t.dtype}[{','.join(map(str, t.shape))}]" for t in record.inputs)


def _outputs(record: "ModelRecord") -> str:
    return ", ".join(f"{t.dtype}[{','.join(map(str, t.shape))}]" for t in record.outputs)


_COLUMNS: "list[Column[ModelRecord]]" = [
    Column("NAME", lambda r: r.name),
    Column("INPUT", _input, wrap=True),
    Column("OUTPUT", _outputs, wrap=True),
    Column("SIZE", lambda r: words.size(r.artifact.size_bytes), right=True),
    Column("MEMORY", lambda r: words.mib(r.needs.load_mib), right=True),
    Column("ANSWER", lambda r: words.milliseconds(r.needs.answer_ms), right=True),
    Column("SHA-256", lambda r: r.artifact.sha256[:12]),
]
