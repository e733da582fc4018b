"""`ctl model distill`: a small first stage, taught by the large network.

It is a network of its own, or with --trunk a head on the large one's early features.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import training, words
from controller.cli.output import Column, Format, Output, note, out, print_facts, table
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.compress.training.protocol import Task
    from controller.compress.training.target import Target
    from controller.compress.training.teach import Lesson
    from controller.compress.training.trunk import Shared, Tried
    from controller.compress.weights import Footprint

_PARTS = ("trunk", "exit", "rest")


@dataclass(frozen=True, slots=True)
class _Part:
    """One file of a network with an exit."""

    name: str
    file: Path
    takes: "Footprint"


def distill(  # noqa: PLR0913 - one parameter for each option
    module: training.Module,
    *,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="MEASURE=VALUE",
            help="Size: macs=, bytes= or parameters=; below 1 a share of the original.",
            show_default="the module's first_stage()",
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Write static int8, calibrated on training samples.")
    ] = False,
    trunk: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER|auto",
            help="Cut the large network behind this module, and train a head on what it gives; "
            "auto: behind the earliest that is good enough.",
            show_default="a network of its own",
        ),
    ] = None,
    within: Annotated[
        float,
        typer.Option(
            min=0.0, max=100.0, help="Good enough for --trunk auto: so many points below the large."
        ),
    ] = 2.0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training data.")] = 20,
    rate: training.Rate = 5e-3,
    weight: training.Weight = 0.7,
    temperature: training.Temperature = 4.0,
    threads: training.Threads = 1,
    seed: training.Seed = 0,
    out_path: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE|FOLDER",
            help="Where to; with --trunk a folder for three files.",
            show_default="<module>-small.tflite, or here",
        ),
    ] = None,
    force: training.Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Train a small network to answer as the large one does.

    It is the module's first_stage(), or the large one's architecture made thinner and begun anew.
    With --trunk it is a head on what an early layer of the large one gives; three files come out,
    `trunk`, `exit` and `rest`, and --target is the size of the head alone.

    Example: ctl model distill digits.py --target parameters=20000 --int8
    """
    from controller.compress.training.protocol import load_task  # noqa: PLC0415
    from controller.compress.training.teach import Lesson  # noqa: PLC0415

    wanted = training.optional_target(target)
    if trunk is not None and wanted is None:
        raise typer.BadParameter("--trunk needs the size of the head: --target parameters=20000")
    training.quiet_torch(threads, seed)
    task = load_task(module)
    lesson = Lesson(epochs, rate, weight, temperature)
    form = "int8" if int8 else "fp32"
    if trunk is None or wanted is None:
        path = out_path or Path(f"{task.name}-small-{form}.tflite")
        _alone(task, wanted, lesson, path, is_int8=int8, force=force, output=output)
        return
    paths = {part: (out_path or Path()) / f"{task.name}-{part}-{form}.tflite" for part in _PARTS}
    _behind(task, (trunk, within), wanted, lesson, paths, is_int8=int8, force=force, output=output)


def _alone(  # noqa: PLR0913 - what the command was given
    task: "Task",
    target: "Target | None",
    lesson: "Lesson",
    path: Path,
    *,
    is_int8: bool,
    force: bool,
    output: Format,
) -> None:
    """Train a small network of its own, write it and print what came out."""
    from controller.compress import sources  # noqa: PLC0415
    from controller.compress.training.distill import distill as teach_small  # noqa: PLC0415
    from controller.compress.training.export import exported  # noqa: PLC0415
    from controller.compress.weights import footprint  # noqa: PLC0415

    sources.check_free([path], force=force)
    with Running("Teaching", lesson.epochs) as running:
        network, found = teach_small(
            task, target, lesson, lambda done, total: running.at("Teaching", done, total)
        )
        made = exported(task, network, path.stem, is_int8=is_int8)
    sources.write_all({path: made.content})
    takes = footprint(made.content, path.name)
    facts = [
        ("File", path),
        ("Parameters", f"{found.size.parameters:,} (large: {found.original.parameters:,})"),
        ("MACs", f"{found.size.macs:,} (large: {found.original.macs:,})"),
        ("Size", f"{words.size(takes.file_bytes)}, over the air {words.size(takes.wire_bytes)}"),
        ("Non-zero", f"{takes.nonzero:,} of {takes.parameters:,}"),
        (
            "Validation",
            f"{training.points(made.accuracy)} (large: {training.points(found.accuracy_original)})",
        ),
    ]
    document = {
        "file": str(path),
        "distilled": found,
        "result": takes,
        "validation_accuracy": made.accuracy,
    }
    print_facts(facts, output, document)


def _behind(  # noqa: PLR0913 - what the command was given
    task: "Task",
    where: tuple[str, float],
    target: "Target",
    lesson: "Lesson",
    paths: Mapping[str, Path],
    *,
    is_int8: bool,
    force: bool,
    output: Format,
) -> None:
    """Train a head on the large network's features, write three files, print what came out."""
    from controller.compress import sources  # noqa: PLC0415
    from controller.compress.training.trunk import Order, share_trunk  # noqa: PLC0415
    from controller.compress.weights import footprint  # noqa: PLC0415

    layer, within = where
    sources.check_free(list(paths.values()), force=force)
    with Running("Looking at the network") as running:
        order = Order(target, lesson, is_int8, within)
        files, found = share_trunk(task, layer, order, running.at)
    contents = dict(zip(_PARTS, (files.trunk, files.exit, files.rest), strict=True))
    sources.write_all({paths[part]: content for part, content in contents.items()})
    parts = [_Part(n, paths[n], footprint(content, n)) for n, content in contents.items()]
    command = build_command(task.name, paths)
    document = {
        "files": {part: str(path) for part, path in paths.items()},
        "shared": found,
        "results": {part.name: part.takes for part in parts},
        "build": command,
    }
    print_facts(_facts(found), output, document)
    if output is Format.JSON:
        return
    out().print(table(parts, _PART_COLUMNS))
    if len(found.tried) > 1:
        out().print(table(found.tried, _TRIED_COLUMNS))
    _notes(found, layer, within)
    note(f"A cascade of them, calibrated on samples that trained nothing:\n  {command}")


def build_command(name: str, paths: Mapping[str, Path]) -> str:
    """Return the command that makes a cascade of trunk, exit and rest."""
    from controller.catalog import valid_name  # noqa: PLC0415

    stages = [f"--stage {part}={shlex.quote(str(path))}" for part, path in paths.items()]
    reads = [f"--reads {part}=stage:trunk" for part in _PARTS[1:]]
    ends = ["--gate trunk=none", "--samples FILE.npz"]
    return " ".join(["ctl cascade build", valid_name(name), *stages, *reads, *ends])


def _facts(found: "Shared") -> list[tuple[str, object]]:
    original, head = found.original, found.head
    large = training.points(found.accuracy_original)
    return [
        ("Cut behind", f"{found.layer}: {found.share:.1%} of the large network's MACs before it"),
        ("Head", f"{head.parameters:,} parameters, {head.macs:,} MACs"),
        ("Large", f"{original.parameters:,} parameters, {original.macs:,} MACs"),
        ("Handed over", f"{words.size(found.handed_over_bytes)} an answer"),
        ("Trunk + rest", f"{training.points(found.accuracy_whole)} of validation (large: {large})"),
        ("Trunk + exit", f"{training.points(found.accuracy_exit)} of validation"),
        ("Compared", f"trunk + rest bit-identical with the whole on {found.compared} inputs"),
    ]


def _notes(found: "Shared", layer: str, within: float) -> None:
    """Say what a person might not expect."""
    from controller.compress.training.trunk import AUTO  # noqa: PLC0415

    best = max(one.accuracy for one in found.tried)
    if layer == AUTO and best < found.accuracy_original - within / 100:
        note(
            f"No exit came within {within:g} points of the large network; this is the best of "
            f"{len(found.tried)}. Try a larger head, more --epochs, or a later --trunk LAYER.",
            style="yellow",
        )
    if not found.one_scale:
        note(
            "The three files have the tensor between them in different forms: a device converts it "
            "at every answer.",
            style="yellow",
        )


_PART_COLUMNS: "list[Column[_Part]]" = [
    Column("PART", lambda part: part.name),
    Column("FILE", lambda part: part.file),
    Column("SIZE", lambda part: words.size(part.takes.file_bytes), right=True),
    Column("WIRE", lambda part: words.size(part.takes.wire_bytes), right=True),
    Column("NON-ZERO", lambda part: f"{part.takes.nonzero:,}", right=True),
]

_TRIED_COLUMNS: "list[Column[Tried]]" = [
    Column("EXIT BEHIND", lambda one: one.layer),
    Column("MACS BEFORE", lambda one: f"{one.share:.1%}", right=True),
    Column("VALIDATION", lambda one: training.points(one.accuracy), right=True),
]
