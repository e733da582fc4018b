"""`ctl cascade search`: the cheapest certified cascade of a pool of models."""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.context import open_home
from controller.cli.output import Column, Format, Output, note, out, print_json, table
from controller.cli.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from controller.catalog import Catalog
    from controller.pool import Costs, Entry
    from controller.samples import Samples
    from controller.search import Found, Row, Search, Single

_CHOOSE_SHARE = 1 / 3
"""Of the samples, where no others are given to certify on."""

_SEED = 0
_TITLE = "cascade"


class CostKind(StrEnum):
    """What is made small."""

    LATENCY = "latency"
    CPU = "cpu"
    ENERGY = "energy"
    BYTES = "bytes"


def search(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    *,
    models: Annotated[
        str,
        typer.Option(
            metavar="MODEL,MODEL,...",
            help="The pool: models of the catalog or .tflite files.",
            show_default=False,
        ),
    ],
    samples: Annotated[
        Path,
        typer.Option(metavar="FILE.npz", help="Samples x and labels y.", show_default=False),
    ],
    certify: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz",
            help="Other samples that the chosen cascades are certified on.",
            show_default="two thirds of the samples, written beside them",
        ),
    ] = None,
    cost: Annotated[CostKind, typer.Option(help="What is made small.")] = CostKind.LATENCY,
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help='Costs on a device: {"MODEL": {"latency_ms": 3.1}}.'
        ),
    ] = None,
    watts: Annotated[
        float | None,
        typer.Option(min=0.001, help="What one busy CPU draws; with --cost energy."),
    ] = None,
    recorded: Annotated[
        bool, typer.Option("--recorded", help="Latencies of the catalog; none is measured.")
    ] = False,
    stages: Annotated[int, typer.Option(min=1, max=4, help="At most so many stages.")] = 4,
    eps: Annotated[
        str, typer.Option(metavar="SHARE,...", help="Accuracies that may be lost.")
    ] = "0.5%,1%,2%,5%",
    name: Annotated[str, typer.Option(help="Of the cascade, in the printed commands.")] = _TITLE,
    x_key: Annotated[str, typer.Option(help="Name of the array of samples.")] = "x",
    y_key: Annotated[str, typer.Option(help="Name of the array of labels.")] = "y",
    force: Annotated[
        bool, typer.Option("--force", help="Write over the samples that were kept before.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Search a pool of models for the cascade of least expected cost, at every eps.

    A third of the samples chooses among all cascades, gates and metrics; the others, that choosing
    has not seen, certify what was chosen. They are kept in a file, and the printed commands build
    the cascades with them.

    Example: ctl cascade search --models small,medium,large --samples digits.npz
    """
    from controller.catalog import Catalog  # noqa: PLC0415
    from controller.pool import find_pool, run_pool  # noqa: PLC0415
    from controller.recipe import read_eps  # noqa: PLC0415
    from controller.search import search as search_pool  # noqa: PLC0415

    if recorded and (profile is not None or cost is not CostKind.LATENCY):
        raise typer.BadParameter("--recorded goes with --cost latency, and without --profile")
    if watts is not None and cost is not CostKind.ENERGY:
        raise typer.BadParameter("--watts goes with --cost energy")
    catalog, steps = Catalog(open_home(ctx)), [read_eps(one) for one in eps.split(",")]
    pool = find_pool(catalog, [one.strip() for one in models.split(",") if one.strip()])
    choose, prove, kept = _two(samples, certify, (x_key, y_key), force=force)
    with Running("Looking at models") as running:
        costs = _costs(catalog, pool, cost, (profile, recorded, watts), choose, running)
        chosen = run_pool(pool, choose, costs, running.at)
        proved = run_pool(pool, prove, costs, running.at)
        running.at("Searching", 0, 1)
        found = search_pool(chosen, proved, sorted(steps), stages, add_up=cost is CostKind.BYTES)
    keys = [] if certify is None else _keys(x_key, y_key)
    commands = {
        row.eps: build_command(name, pool, row.cascade, kept, keys)
        for row in found.rows
        if row.cascade is not None
    }
    if certify is None:
        _keep(kept, prove)
    _print(found, costs, prove, commands, output)


def build_command(
    name: str, pool: "Sequence[Entry]", found: "Found", samples: Path, keys: "Sequence[str]" = ()
) -> str:
    """Return the command that builds a cascade that was found, with the samples that prove it."""
    words_of = {entry.name: entry.words for entry in pool}
    parts = ["ctl", "cascade", "build", name]
    for stage in found.stages:
        parts += ["--stage", f"{stage}={words_of[stage]}"]
    for stage, metric in zip(found.stages, found.metrics, strict=False):
        parts += ["--gate", f"{stage}={metric}"]
    parts += ["--samples", str(samples), *keys, "--eps", f"{found.eps:.3g}"]
    return shlex.join(parts)


def _keys(x_key: str, y_key: str) -> list[str]:
    return [
        *(["--x-key", x_key] if x_key != "x" else []),
        *(["--y-key", y_key] if y_key != "y" else []),
    ]


def _two(
    samples: Path, certify: Path | None, keys: tuple[str, str], *, force: bool
) -> "tuple[Samples, Samples, Path]":
    """Return the samples that choose, those that certify, and the file that has the latter."""
    import numpy as np  # noqa: PLC0415

    from controller.compress.sources import check_free  # noqa: PLC0415
    from controller.pool import labels  # noqa: PLC0415
    from controller.samples import Samples, read_samples  # noqa: PLC0415

    given = read_samples(samples, *keys)
    y = labels(given)
    if certify is not None:
        return given, read_samples(certify, *keys), certify
    kept = samples.with_name(f"{samples.stem}-certify.npz")
    check_free([kept], force=force)
    order = np.random.default_rng(_SEED).permutation(len(given.x))
    count = round(len(order) * _CHOOSE_SHARE)
    chosen, proved = np.sort(order[:count]), np.sort(order[count:])
    return (
        Samples(given.x[chosen], y[chosen], given.sha256, str(samples)),
        Samples(given.x[proved], y[proved], "", str(kept)),
        kept,
    )


def _keep(path: Path, samples: "Samples") -> None:
    import io  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415

    from controller.compress.sources import write_all  # noqa: PLC0415
    from controller.pool import labels  # noqa: PLC0415

    file = io.BytesIO()
    np.savez_compressed(file, x=samples.x, y=labels(samples))
    write_all({path: file.getvalue()})


def _costs(
    catalog: "Catalog",
    pool: "Sequence[Entry]",
    kind: CostKind,
    given: tuple[Path | None, bool, float | None],
    samples: "Samples",
    running: Running,
) -> "Costs":
    from controller.pool import measured_costs, profile_costs, recorded_costs  # noqa: PLC0415

    profile, recorded, watts = given
    if profile is not None:
        return profile_costs(kind.value, pool, profile, watts)
    if recorded:
        return recorded_costs(catalog, pool)
    return measured_costs(kind.value, pool, samples.x.shape[1:], running.at, watts)


# --- what it prints


def _print(
    found: "Search",
    costs: "Costs",
    prove: "Samples",
    commands: "Mapping[float, str]",
    output: Format,
) -> None:
    if output is Format.JSON:
        print_json(_document(found, costs, commands))
        return
    out().print(table(found.singles, _single_columns(found, costs)))
    out().print()
    out().print(table(found.rows, _row_columns(costs)))
    note(
        f"\nCosts: {costs.source}{_method(costs)}. {found.weighed} choices of stages and metrics "
        "were weighed; "
        f"what was chosen is certified on {len(prove.x)} other samples, against {found.reference}, "
        "the most accurate model (all rows together with 95%, bounds of single models with 95%)."
    )
    for row in found.rows:
        _note_row(row, costs, commands)


def _method(costs: "Costs") -> str:
    return "" if costs.method is None else f" (method: {costs.method})"


def _note_row(row: "Row", costs: "Costs", commands: "Mapping[float, str]") -> None:
    if row.cascade is None:
        note(f"\neps {row.eps:.1%}: no cascade ({row.why}); deploy {row.single.name} alone.")
    elif not row.cascade_wins:
        note(
            f"\neps {row.eps:.1%}: {row.single.name} alone is as safe and costs "
            f"{cost_words(row.single.cost, costs)}, the best cascade "
            f"{cost_words(row.cascade.cost, costs)}: deploy the single model.",
            style="yellow",
        )
    else:
        saved = 1 - row.cascade.cost / row.single.cost
        note(f"\neps {row.eps:.1%}: {saved:.0%} less than {row.single.name} alone:")
        note(f"  {commands[row.eps]}")


def cost_words(value: float, costs: "Costs") -> str:
    """Return a cost with its unit."""
    if costs.kind == "bytes":
        return words.size(value) or ""
    if costs.kind == "energy":
        return f"{value:.3g} mJ"
    suffix = " CPU" if costs.kind == "cpu" else ""
    return f"{words.milliseconds(value)}{suffix}"


def _single_columns(found: "Search", costs: "Costs") -> "list[Column[Single]]":
    return [
        Column("MODEL", lambda s: s.name + ("*" if s.name == found.reference else "")),
        Column("COST", lambda s: cost_words(s.cost, costs), right=True),
        Column("ACCURACY", lambda s: f"{s.accuracy:.2%}", right=True),
        Column("LOSS", lambda s: f"{s.loss:.2%}", right=True),
        Column("AT MOST", lambda s: f"{s.bound:.2%}", right=True),
    ]


def _row_columns(costs: "Costs") -> "list[Column[Row]]":
    return [
        Column("EPS", lambda row: f"{row.eps:.1%}"),
        Column("CASCADE", lambda row: None if row.cascade is None else _stages(row.cascade)),
        Column("ESCALATED", lambda row: _escalated(row.cascade), right=True),
        Column("COST", lambda row: _of(row, lambda f: cost_words(f.cost, costs)), right=True),
        Column("ACCURACY", lambda row: _of(row, lambda f: f"{f.accuracy:.2%}"), right=True),
        Column("LOSS", lambda row: _of(row, lambda f: f"{f.loss:.2%}"), right=True),
        Column("SINGLE", lambda row: row.single.name),
        Column("ITS COST", lambda row: cost_words(row.single.cost, costs), right=True),
        Column("CHEAPER", lambda row: "cascade" if row.cascade_wins else "single model"),
    ]


def _of(row: "Row", show: "Callable[[Found], str]") -> str | None:
    return None if row.cascade is None else show(row.cascade)


def _stages(found: "Found") -> str:
    gates = [
        f"{stage} ({metric} {found.calibration.gates[stage][found.step].threshold:.4g})"
        for stage, metric in zip(found.stages, found.metrics, strict=False)
    ]
    return " > ".join([*gates, found.stages[-1]])


def _escalated(found: "Found | None") -> str | None:
    if found is None:
        return None
    shares = [ladder[found.step].escalated for ladder in found.calibration.gates.values()]
    return ", ".join(f"{share:.1%}" for share in shares)


def _document(
    found: "Search", costs: "Costs", commands: "Mapping[float, str]"
) -> dict[str, object]:
    return {
        "cost": costs.kind,
        "costs_from": costs.source,
        "energy_method": costs.method,
        "reference": found.reference,
        "weighed": found.weighed,
        "singles": found.singles,
        "rows": [_row_document(row, commands) for row in found.rows],
    }


def _row_document(row: "Row", commands: "Mapping[float, str]") -> dict[str, object]:
    return {
        "eps": row.eps,
        "cascade": None if row.cascade is None else _found_document(row.cascade),
        "single": row.single,
        "cascade_wins": row.cascade_wins,
        "why": row.why,
        "build": commands.get(row.eps),
    }


def _found_document(found: "Found") -> dict[str, object]:
    return {
        "stages": found.stages,
        "metrics": found.metrics,
        "certificate_eps": found.eps,
        "last_stage_bound": found.bound,
        "gates": {stage: ladder[found.step] for stage, ladder in found.calibration.gates.items()},
        "cost": found.cost,
        "accuracy": found.accuracy,
        "loss": found.loss,
    }
