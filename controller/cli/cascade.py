"""`ctl cascade`: the signed cascades of the local catalog, and how they are built."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.context import open_home
from controller.cli.options import Bundle, parse_pairs
from controller.cli.output import Column, Format, Output, note, out, print_facts, print_rows, table
from controller.cli.running import Running
from protocols.errors import TrustError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from controller.catalog import StoredBundle
    from controller.recipe import Recipe
    from controller.report import Built, Ladder, LadderStep
    from protocols.bundle import Bundle as Manifest
    from protocols.bundle import CertifiedThreshold, SampleSpec, Stage, Variant

app = typer.Typer(no_args_is_help=True, help="Cascades: stages, gates and what was proved of them.")

_SURE = 1.0
"""No confidence is above it: a higher threshold lets nothing leave."""


@app.command("build")
def build(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Of the cascade.", show_default=False)],
    stages: Annotated[
        list[str],
        typer.Option(
            "--stage",
            metavar="NAME=MODEL[,MODEL...]",
            help="A stage, in order: models of the catalog or .tflite files, best variant first.",
            show_default=False,
        ),
    ],
    *,
    samples: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Samples x and labels y to calibrate the gates on."),
    ] = None,
    gates: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            metavar="[STAGE=]METRIC",
            help="max_prob (default), margin, entropy or none; before the last stage.",
        ),
    ] = None,
    no_gate: Annotated[
        bool, typer.Option("--no-gate", help="No gates: the stages are parts of one model.")
    ] = False,
    temperatures: Annotated[
        list[str] | None,
        typer.Option(
            "--temperature",
            metavar="[STAGE=]NUMBER|auto",
            help="Of the probabilities, which stay as they are at 1; auto: half of the samples "
            "fit it, the others certify.",
            show_default="1",
        ),
    ] = None,
    reads: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE=stage:NAME", help="A stage that reads another one, not the request."
        ),
    ] = None,
    scores: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE=NAME|NUMBER", help="Which output holds the class scores of a stage."
        ),
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE", help="Accuracy that may be lost: 0.5%, 1% (default), 2% or 5%."
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="FILE|A,B,C", help="Names of the classes, in a file one a line."),
    ] = None,
    x_key: Annotated[str, typer.Option(help="Name of the array of samples.")] = "x",
    y_key: Annotated[str, typer.Option(help="Name of the array of labels.")] = "y",
    version: Annotated[
        int | None, typer.Option(min=1, help="Of the cascade.", show_default="the next")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Build a cascade, calibrate its gates, sign it with the release key.

    A gate lets an answer leave early where it is sure enough. How sure that is follows from the
    samples: the threshold is the lowest of which it is proved that at most eps of the accuracy is
    lost (with probability 95%, for samples like these). 1,000 labelled samples are a good number.

    Example: ctl cascade build digits --stage small=small.tflite --stage large=large.tflite
    --samples digits.npz
    """
    from controller.build import build as build_cascade  # noqa: PLC0415
    from controller.cli.signing import say_unfinished  # noqa: PLC0415
    from controller.recipe import Recipe, read_eps, read_labels, read_stages  # noqa: PLC0415

    home = open_home(ctx)
    recipe = Recipe(
        name=name,
        stages=read_stages(
            stages,
            reads=parse_pairs(reads, "--reads STAGE=stage:NAME"),
            gates=["none", *(gates or ())] if no_gate else gates or (),
            scores=parse_pairs(scores, "--scores STAGE=NAME|NUMBER"),
            temperatures=temperatures or (),
        ),
        samples=samples,
        x_key=x_key,
        y_key=y_key,
        eps=None if eps is None else read_eps(eps),
        labels=() if labels is None else read_labels(labels),
        version=version,
    )
    with Running("Looking at models") as running:
        built = build_cascade(home, recipe, running.next, running.at)
    _print_built(built, recipe, output)
    say_unfinished(home, built.ref)


@app.command("ls")
def list_cascades(ctx: typer.Context, output: Output = Format.TABLE) -> None:
    """List the cascades of the catalog, every version.

    Example: ctl cascade ls
    """
    from controller.catalog import Catalog  # noqa: PLC0415

    home = open_home(ctx)
    catalog = Catalog(home)
    names = catalog.bundle_names()
    keys = home.trust() if names else None
    found = []
    for name, version in ((n, v) for n in names for v in catalog.versions(n)):
        try:
            if keys is not None:
                found.append(catalog.find_bundle(f"{name}@{version}", keys))
        except TrustError as error:
            note(f"{name}@{version}: {error}; ctl sign {name}@{version}", style="yellow")
    print_rows(
        found,
        _columns(time.time()),
        output,
        empty="No cascades; build one with `ctl cascade build`.",
        document=_document,
    )


@app.command("show")
def show(ctx: typer.Context, bundle: Bundle, output: Output = Format.TABLE) -> None:
    """Show one cascade: its stages, and what was proved of its gates.

    Example: ctl cascade show digits@2
    """
    from controller.catalog import Catalog  # noqa: PLC0415

    home = open_home(ctx)
    found = Catalog(home).find_bundle(bundle, home.trust())
    print_facts(_facts(found), output, _document(found))
    if output is Format.JSON:
        return
    print_rows(list(_variants(found)), _VARIANT_COLUMNS, output)
    for certificate in found.bundle.certificates:
        note(
            f"\nCertified with {', '.join(f'{s}={v}' for s, v in certificate.variants.items())} "
            f"on {certificate.data_sha256[:12]} (each gate's share of eps and delta):"
        )
        rows = [(s, step) for s, ladder in certificate.gates.items() for step in ladder]
        out().print(table(rows, _GATE_COLUMNS))


# --- what build prints


def _print_built(built: "Built", recipe: "Recipe", output: Format) -> None:
    if output is Format.JSON:
        print_facts((), output, _built_document(built))
        return
    bundle = built.bundle
    facts: list[tuple[str, object]] = [
        ("Cascade", f"{bundle.name}@{bundle.version}"),
        ("SHA-256", built.ref.artifact.sha256),
        ("Input", _spec(bundle.input)),
        ("Output", _spec(bundle.output)),
        ("Classes", bundle.classes),
        ("Golden", f"{bundle.golden.count} samples"),
    ]
    if built.accuracy is not None:
        facts.append(("Accuracy", f"{built.accuracy:.1%} of the samples"))
    if scaled := _temperatures(bundle):
        fitted = f" ({built.fitted} samples fitted)" if built.fitted else ""
        shown = ", ".join(f"{stage} {degrees:.4g}" for stage, degrees in scaled.items())
        facts.append(("Temperature", shown + fitted))
    print_facts(facts, output, None)
    for ladder in built.ladders:
        _print_ladder(ladder)
    for warning in built.warnings:
        note(f"warning: {warning}", style="yellow")
    if not recipe.samples:
        note("No samples were given: the golden samples are random input.")


def _print_ladder(ladder: "Ladder") -> None:
    names = ", ".join(f"{stage}={variant}" for stage, variant in ladder.variants.items())
    n = next(iter(ladder.steps[0].gates.values())).n
    alone = ", ".join(f"{stage} {share:.1%}" for stage, share in ladder.accuracy.items())
    last = list(ladder.accuracy)[-1]
    note(f"\n{names}: certified on {n} samples, all steps at once with probability 95%")
    out().print(table(list(enumerate(ladder.steps)), _ladder_columns(ladder)))
    note(
        f"Alone: {alone}; {last} takes {words.milliseconds(ladder.alone_ms)} an answer. "
        "* is where the schedule begins."
    )


def _ladder_columns(ladder: "Ladder") -> "list[Column[tuple[int, LadderStep]]]":
    several = len(ladder.steps[0].gates) > 1
    columns: list[Column[tuple[int, LadderStep]]] = [
        Column("EPS", lambda row: f"{row[1].eps:.1%}{'*' if row[0] == ladder.base else ''}")
    ]
    for stage in ladder.steps[0].gates:
        suffix = f" {stage}" if several else ""
        columns += [
            Column(f"THRESHOLD{suffix}", _cell(stage, _threshold), right=True),
            Column(f"HARMS{suffix}", _cell(stage, lambda g: f"{g.harms}/{g.n}"), right=True),
            Column(f"ESCALATED{suffix}", _cell(stage, lambda g: f"{g.escalated:.1%}"), right=True),
        ]
    return [
        *columns,
        Column("ACCURACY", lambda row: f"{row[1].accuracy:.1%}", right=True),
        Column("ANSWER", lambda row: words.milliseconds(row[1].answer_ms), right=True),
    ]


def _cell(
    stage: str, show: "Callable[[CertifiedThreshold], str]"
) -> "Callable[[tuple[int, LadderStep]], str]":
    return lambda row: show(row[1].gates[stage])


def _threshold(gate: "CertifiedThreshold") -> str:
    return "never" if gate.threshold > _SURE else f"{gate.threshold:.7g}"


def _temperatures(bundle: "Manifest") -> dict[str, float]:
    """Return the temperatures that change anything, by stage."""
    return {s.name: s.temperature for s in bundle.stages if s.temperature != 1}


def _built_document(built: "Built") -> dict[str, object]:
    bundle = built.bundle
    return {
        "name": bundle.name,
        "version": bundle.version,
        "sha256": built.ref.artifact.sha256,
        "size_bytes": built.ref.artifact.size_bytes,
        "input": bundle.input,
        "output": bundle.output,
        "classes": bundle.classes,
        "golden_count": bundle.golden.count,
        "accuracy": built.accuracy,
        "temperatures": _temperatures(bundle),
        "fitted": built.fitted,
        "ladders": built.ladders,
        "warnings": built.warnings,
    }


# --- what ls and show print


def _document(found: "StoredBundle") -> dict[str, object]:
    return {
        "name": found.ref.name,
        "version": found.ref.version,
        "sha256": found.ref.artifact.sha256,
        "bundle": found.bundle,
    }


def _columns(now_s: float) -> "list[Column[StoredBundle]]":
    return [
        Column("NAME", lambda f: f"{f.ref.name}@{f.ref.version}"),
        Column("STAGES", lambda f: " > ".join(map(_stage, f.bundle.stages)), wrap=True),
        Column("INPUT", lambda f: _spec(f.bundle.input)),
        Column("CLASSES", lambda f: f.bundle.classes, right=True),
        Column("ACCURACY", _accuracy, right=True),
        Column("SIZE", _size, right=True),
        Column("AGE", lambda f: words.age(now_s - f.bundle.created_ts), right=True),
    ]


def _facts(found: "StoredBundle") -> list[tuple[str, object]]:
    bundle = found.bundle
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(bundle.created_ts))
    return [
        ("Cascade", f"{bundle.name}@{bundle.version}"),
        ("SHA-256", found.ref.artifact.sha256),
        ("Made", made),
        ("Input", _spec(bundle.input)),
        ("Output", _spec(bundle.output)),
        ("Classes", bundle.classes),
        ("Labels", ", ".join(bundle.labels)),
        ("Accuracy", _accuracy(found)),
        ("Golden", f"{bundle.golden.count} samples"),
        ("Size", _size(found)),
        ("Begins at", _base(found)),
    ]


def _stage(stage: "Stage") -> str:
    degrees = _scaled(stage)
    gate = ", ".join(filter(None, (stage.metric, degrees and f"T {degrees}")))
    return f"{stage.name} ({gate})" if gate else stage.name


def _scaled(stage: "Stage") -> str | None:
    return None if stage.temperature == 1 else f"{stage.temperature:.4g}"


def _accuracy(found: "StoredBundle") -> str | None:
    certificates = found.bundle.certificates
    return f"{certificates[0].accuracy:.1%}" if certificates else None


def _base(found: "StoredBundle") -> str | None:
    """Return the eps that C0 takes, all gates together."""
    certificates = found.bundle.certificates
    if not certificates:
        return None
    base = found.bundle.schedule.base_threshold
    return f"eps {sum(ladder[base].eps for ladder in certificates[0].gates.values()):.1%}"


def _size(found: "StoredBundle") -> str | None:
    return words.size(sum(ref.size_bytes for ref in found.bundle.artifacts))


def _spec(spec: "SampleSpec") -> str:
    return f"{spec.dtype}[{','.join(map(str, spec.shape))}]"


def _variants(found: "StoredBundle") -> "Iterator[tuple[Stage, Variant]]":
    for stage in found.bundle.stages:
        for variant in stage.variants:
            yield stage, variant


_VARIANT_COLUMNS: "list[Column[tuple[Stage, Variant]]]" = [
    Column("STAGE", lambda row: row[0].name),
    Column("READS", lambda row: row[0].reads),
    Column("GATE", lambda row: row[0].metric),
    Column("TEMPERATURE", lambda row: _scaled(row[0]), right=True),
    Column("VARIANT", lambda row: row[1].name),
    Column("SCORES", lambda row: row[1].score_kind),
    Column("SIZE", lambda row: words.size(row[1].artifact.size_bytes), right=True),
    Column("MEMORY", lambda row: words.mib(row[1].needs.load_mib), right=True),
    Column("ANSWER", lambda row: words.milliseconds(row[1].needs.answer_ms), right=True),
]

_GATE_COLUMNS: "list[Column[tuple[str, CertifiedThreshold]]]" = [
    Column("GATE", lambda row: row[0]),
    Column("EPS", lambda row: f"{row[1].eps:.2%}", right=True),
    Column("DELTA", lambda row: f"{row[1].delta:.2%}", right=True),
    Column("THRESHOLD", lambda row: _threshold(row[1]), right=True),
    Column("HARMS", lambda row: f"{row[1].harms}/{row[1].n}", right=True),
    Column("ESCALATED", lambda row: f"{row[1].escalated:.1%}", right=True),
]
