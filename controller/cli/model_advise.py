"""`ctl model advise`: which technique, and which together?"""

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import lightening, words
from controller.cli.context import globals_of, open_home
from controller.cli.exits import ExitCode
from controller.cli.options import duration_option
from controller.cli.output import Column, Format, Output, error_line, note, print_json, print_table
from controller.cli.running import Running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.compress.advise.advice import Advice, Untried
    from controller.compress.advise.choice import Form
    from controller.compress.advise.commands import Origin
    from controller.compress.advise.guide import Question

_STEP_SHOWN = 60
_NEEDS = "it needs "
"""What has no form because something before it has none is counted, not listed."""


class Keep(StrEnum):
    """Which files are written."""

    BEST = "best"
    FRONT = "front"


def advise(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    model: lightening.Model,
    *,
    data: Annotated[
        Path,
        typer.Option(metavar="FILE.npz", help="Samples x and labels y.", show_default=False),
    ],
    target: Annotated[
        str,
        typer.Option(
            metavar="BOUNDS",
            help="accuracy_loss<=, accuracy>=, latency<=, cpu<=, bytes<= (over the air), "
            "file_bytes<=, memory<=; with commas between.",
        ),
    ] = "accuracy_loss<=0.5pp",
    time_budget: Annotated[
        float, duration_option("--time-budget", "It ends within.", "10m")
    ] = 600.0,
    module: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE", help="Also cut channels, by training: as for `prune --channels`."
        ),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE,...",
            help="What channels are cut down to.",
            show_default="macs=0.1,macs=0.03,macs=0.25",
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="FORM,...",
            help="Try these alone, such as 'int8 + palette auto, prune 0.3 + int8'.",
            show_default="all that may be worth it",
        ),
    ] = None,
    x_key: lightening.XKey = "x",
    y_key: lightening.YKey = "y",
    scores: lightening.Scores = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Write the form to take there."),
    ] = None,
    keep: Annotated[
        Keep, typer.Option(help="With --out: the form to take, or the whole Pareto front.")
    ] = Keep.BEST,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write a page with plots.")
    ] = None,
    force: lightening.Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Try ways to make a model smaller, alone and together, and say which to take and why.

    One half of the samples chooses, the other half, held out, says what it costs. Exit code 2:
    nothing that was tried meets the target; the closest is shown. Ctrl-C ends the trying.

    Example: ctl model advise large.tflite --data digits.npz --target "accuracy_loss<=0.5pp,
    latency<=1ms, bytes<=400KiB"
    """
    from tempfile import TemporaryDirectory  # noqa: PLC0415

    from controller.compress.advise.guide import advise as ask  # noqa: PLC0415
    from controller.compress.sources import write_all  # noqa: PLC0415

    begun_s = time.monotonic()
    origin = _origin(ctx, model, (data, x_key, y_key), scores, module)
    question = _question(ctx, origin, target, time_budget, (channels, only))
    _check_places(folder, report, force=force)
    with TemporaryDirectory(prefix="sluice-advise-") as place:
        with Running("Looking at the model") as running:
            advice = ask(
                question,
                Path(place),
                lambda title, spent_s, in_all_s: running.at(
                    words.listed([title[:_STEP_SHOWN]]), round(spent_s), round(in_all_s)
                ),
                begun_s,
            )
        files = {} if folder is None else _files(advice, Path(place), folder, origin, keep)
        made_by = advice.commands(advice.choice.form, origin)
        if report is not None:
            files[report] = _page(advice, origin, target, made_by)
        _print(advice, origin, files, output)
        write_all(files)
    for path in files:
        note(f"Wrote {path}.")
    if advice.choice.misses:
        raise typer.Exit(ExitCode.INVALID)


def _origin(
    ctx: typer.Context,
    model: str,
    data: tuple[Path, str, str],
    scores: int | None,
    module: str | None,
) -> "Origin":
    """Return what the printed commands begin with.

    Raises:
        CatalogError: the catalog has no such model.
    """
    from controller.catalog import Catalog  # noqa: PLC0415
    from controller.compress.advise.commands import Origin  # noqa: PLC0415
    from controller.compress.sources import find_model, is_path  # noqa: PLC0415

    catalog, home = Catalog(open_home(ctx)), globals_of(ctx).home
    path, name = find_model(catalog, model)
    if scores is None and not is_path(model):
        scores = catalog.model(model).scores
    return Origin(
        model=model,
        stem=path.stem if is_path(model) else name,
        data=str(data[0]),
        x_key=data[1],
        y_key=data[2],
        scores=scores or 0,
        module=module,
        options=() if home is None or is_path(model) else ("--home", str(home)),
    )


def _question(
    ctx: typer.Context,
    origin: "Origin",
    target: str,
    budget_s: float,
    tried: tuple[str | None, str | None],
) -> "Question":
    """Return what is asked, with all that can be checked before anything is run.

    Raises:
        CompressError: the target, a size or a form cannot be read.
        BuildError: the samples cannot be used.
    """
    from controller.catalog import Catalog  # noqa: PLC0415
    from controller.compress.advise.guide import CHANNEL_SIZES, Question  # noqa: PLC0415
    from controller.compress.advise.recipes import read_recipes  # noqa: PLC0415
    from controller.compress.advise.target import parse_target  # noqa: PLC0415
    from controller.compress.advise.work import Data  # noqa: PLC0415
    from controller.compress.sources import find_model  # noqa: PLC0415
    from controller.compress.training.target import parse_target as parse_size  # noqa: PLC0415
    from controller.samples import read_samples  # noqa: PLC0415

    wanted, (channels, only) = parse_target(target), tried
    if channels is not None and origin.module is None:
        raise typer.BadParameter("--channels goes with --module MODULE")
    sizes = CHANNEL_SIZES if channels is None else tuple(channels.replace(" ", "").split(","))
    for size in sizes:
        parse_size(size)
    read_samples(Path(origin.data), origin.x_key, origin.y_key)
    path, _ = find_model(Catalog(open_home(ctx)), origin.model)
    return Question(
        model=path,
        name=origin.stem,
        data=Data(
            path=str(Path(origin.data).absolute()),
            x_key=origin.x_key,
            y_key=origin.y_key,
            scores=origin.scores,
        ),
        target=wanted,
        budget_s=budget_s,
        module=origin.module,
        channels=sizes,
        only=None if only is None else read_recipes(only),
    )


def _check_places(folder: Path | None, report: Path | None, *, force: bool) -> None:
    """Check before the work that what comes of it has a place.

    Raises:
        CompressError: something is there already.
    """
    from controller.compress.errors import CompressError  # noqa: PLC0415
    from controller.compress.sources import check_free  # noqa: PLC0415

    check_free([] if report is None else [report], force=force)
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise CompressError(f"cannot write to {folder}: it is no folder")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise CompressError(f"cannot write to {folder}: it is not empty; --force writes into it")


def _files(
    advice: "Advice", place: Path, folder: Path, origin: "Origin", keep: Keep
) -> dict[Path, bytes]:
    from controller.compress.advise.recipes import slug_of  # noqa: PLC0415

    wanted = [advice.choice.form, *(advice.choice.front if keep is Keep.FRONT else ())]
    slugs = {slug_of(form.recipe) for form in wanted}
    return {
        folder / f"{origin.stem}-{slug}.tflite": (place / f"{slug}.tflite").read_bytes()
        for slug in sorted(slugs)
    }


def _page(advice: "Advice", origin: "Origin", target: str, made_by: "Sequence[str]") -> bytes:
    from controller.compress.advise.page import render  # noqa: PLC0415

    return render(f"Advice on {origin.stem}", advice, target, made_by).encode()


# --- what it prints


def _print(advice: "Advice", origin: "Origin", files: dict[Path, bytes], output: Format) -> None:
    choice, made_by = advice.choice, advice.commands(advice.choice.form, origin)
    if output is Format.JSON:
        print_json(
            {
                "meets_target": not choice.misses,
                "recommended": choice.form.name,
                "reasons": advice.reasons,
                "commands": made_by,
                "forms": [_document(form, advice, origin) for form in advice.forms],
                "misses": choice.misses,
                "untried": advice.untried,
                "samples": {"chosen_on": advice.halves[0], "held_out": advice.halves[1]},
                "stopped_early": advice.is_stopped,
                "disturbed": advice.is_disturbed,
                "seconds": round(advice.spent_s, 3),
                "files": [str(path) for path in files],
            }
        )
    else:
        print_table(advice.forms, _columns(advice))
        _note_untried(advice.untried)
    if advice.is_stopped:
        note("Stopped before its time: this is what there is.")
    if advice.is_disturbed:
        note("Other programs had the CPU: latencies are the CPU time of a run.")
    verdict, *why = advice.reasons
    if choice.misses:
        error_line(verdict)
    else:
        note(verdict, style="green")
    for reason in why:
        note(reason)
    if output is Format.TABLE and made_by:
        note("These commands make it again, byte for byte:")
        for command in made_by:
            note(f"  {command}")


def _document(form: "Form", advice: "Advice", origin: "Origin") -> dict[str, object]:
    original = advice.forms[0]
    return {
        "name": form.name,
        "is_recommended": form is advice.choice.form,
        "is_on_front": form in advice.choice.front,
        "sha256": form.sha256,
        "accuracy": form.accuracy,
        "accuracy_held_out": form.held_out,
        "loss": original.accuracy - form.accuracy,
        "loss_held_out": original.held_out - form.held_out,
        "wire_bytes": form.wire_bytes,
        "file_bytes": form.file_bytes,
        "parameters": form.parameters,
        "nonzero": form.nonzero,
        "latency_us": form.latency_us,
        "cpu_us": form.cpu_us,
        "memory_bytes": form.memory_bytes,
        "took_s": round(form.took_s, 3),
        "commands": advice.commands(form, origin),
    }


def _note_untried(untried: "Sequence[Untried]") -> None:
    roots = [one for one in untried if not one.why.startswith(_NEEDS)]
    for one in roots:
        note(f"No {one.name}: {one.why}.")
    if len(roots) < len(untried):
        note(f"No {words.count(len(untried) - len(roots), 'form')} that would build on these.")


def _columns(advice: "Advice") -> "list[Column[Form]]":
    original, choice = advice.forms[0], advice.choice
    has_memory = any(form.memory_bytes is not None for form in advice.forms)

    def mark(form: "Form") -> str:
        return "*" * (form is choice.form) + "+" * (form in choice.front)

    def lost(before: float, after: float) -> str:
        return f"{(before - after) * 100 + 0.0:.2f}pp"

    memory: list[Column[Form]] = [
        Column("MEMORY", lambda form: words.size(form.memory_bytes), right=True)
    ]
    return [
        Column("", mark),
        Column("FORM", lambda form: form.name),
        Column("ACCURACY", lambda form: f"{form.accuracy:.2%}", right=True),
        Column("LOSS", lambda form: lost(original.accuracy, form.accuracy), right=True),
        Column("HELD OUT", lambda form: lost(original.held_out, form.held_out), right=True),
        Column("WIRE", lambda form: words.size(form.wire_bytes), right=True),
        Column("", lambda form: f"{form.wire_bytes / original.wire_bytes:.1%}", right=True),
        Column("LATENCY", lambda form: _milliseconds(form.latency_us), right=True),
        Column("", lambda form: _share(form.latency_us, original.latency_us), right=True),
        Column("CPU", lambda form: _milliseconds(form.cpu_us), right=True),
        *(memory if has_memory else []),
        Column("FILE", lambda form: words.size(form.file_bytes), right=True, spare=True),
        Column("NON-ZERO", lambda form: f"{form.nonzero:,}", right=True, spare=True),
        Column("TOOK", lambda form: f"{form.took_s:.0f} s", right=True, spare=True),
    ]


def _milliseconds(microseconds: float | None) -> str | None:
    return words.milliseconds(None if microseconds is None else microseconds / 1e3)


def _share(value: float | None, original: float | None) -> str | None:
    return None if value is None or not original else f"{value / original:.1%}"
