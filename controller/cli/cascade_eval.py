"""`ctl cascade eval`: a cascade as it will run, on samples that it has not been calibrated on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.context import open_home
from controller.cli.options import Bundle, Variants, parse_pairs
from controller.cli.output import Column, Format, Output, note, out, print_facts, table
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.catalog import StoredBundle
    from controller.evaluate import Evaluation, Loss, StageShare
    from protocols.bundle import Bundle as Manifest


def evaluate(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    bundle: Bundle,
    *,
    samples: Annotated[
        Path,
        typer.Option(metavar="FILE.npz", help="Samples x and labels y.", show_default=False),
    ],
    eps: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE", help="Step of the ladder.", show_default="where the schedule begins"
        ),
    ] = None,
    variants: Variants = None,
    x_key: Annotated[str, typer.Option(help="Name of the array of samples.")] = "x",
    y_key: Annotated[str, typer.Option(help="Name of the array of labels.")] = "y",
    output: Output = Format.TABLE,
) -> None:
    """Run a cascade of the catalog over labelled samples: accuracy, loss, who answers, time.

    Give samples that neither trained the models nor calibrated the gates.

    Example: ctl cascade eval digits --samples held-out.npz
    """
    from controller.catalog import Catalog  # noqa: PLC0415
    from controller.evaluate import evaluate as evaluate_cascade  # noqa: PLC0415
    from controller.recipe import read_eps  # noqa: PLC0415
    from controller.samples import read_samples  # noqa: PLC0415

    home = open_home(ctx)
    catalog = Catalog(home)
    stored = catalog.find_bundle(bundle, home.trust())
    given = read_samples(samples, x_key, y_key)
    chosen = parse_pairs(variants, "--variant STAGE=VARIANT")
    step = None if eps is None else read_eps(eps)
    with Running("Running the cascade") as running:
        found = evaluate_cascade(catalog, stored.bundle, given, chosen, step, running.at)
    name = f"{stored.ref.name}@{stored.ref.version}"
    facts = _facts(name, found, stored.bundle)
    print_facts(facts, output, {"name": name, "evaluation": found})
    if output is Format.TABLE:
        out().print(table(found.stages, _COLUMNS))
        _note_certificate(stored, found)


def _temperatures(bundle: "Manifest") -> str:
    shown = [f"{s.name} {s.temperature:.4g}" for s in bundle.stages if s.temperature != 1]
    return f" (at temperatures {', '.join(shown)})" if shown else ""


def _facts(name: str, found: "Evaluation", bundle: "Manifest") -> list[tuple[str, object]]:
    low, high = found.interval.low, found.interval.high
    facts: list[tuple[str, object]] = [
        ("Cascade", name),
        ("Samples", found.samples),
        ("Accuracy", f"{found.accuracy:.2%} (95%: {low:.2%} to {high:.2%})"),
        ("Calibration error", f"{found.calibration_error:.2%}{_temperatures(bundle)}"),
    ]
    if found.against is not None:
        loss = found.against
        facts += [
            ("Last alone", f"{loss.last_accuracy:.2%}"),
            ("Loss", f"{loss.loss:.2%} ({loss.harms} made wrong, {loss.gains} made right)"),
            ("Eps", f"{loss.eps:.1%}: {_verdict(loss)}"),
        ]
    saved = 1 - found.answer_ms / found.last_ms if found.last_ms else 0.0
    answer = words.milliseconds(found.answer_ms)
    alone = words.milliseconds(found.last_ms)
    facts.append(("Answer", f"{answer} expected, the last stage alone {alone} ({saved:.0%} saved)"))
    return facts


def _verdict(loss: "Loss") -> str:
    if loss.beyond_chance:
        return "broken, and not by chance: these samples are not like those that calibrated it"
    if not loss.held:
        return "exceeded here, within what chance does to so few samples"
    if loss.harm_bound <= loss.eps:
        return f"held, and proved again here (loss at most {loss.harm_bound:.2%} with 95%)"
    return f"held here (so few samples alone prove a loss of at most {loss.harm_bound:.2%})"


def _note_certificate(stored: "StoredBundle", found: "Evaluation") -> None:
    if found.same_file:
        note(
            f"warning: {stored.ref.name} was calibrated with samples of this very file; unless "
            "these are others of it (--x-key), the figures say nothing new",
            style="yellow",
        )


_COLUMNS: "list[Column[StageShare]]" = [
    Column("STAGE", lambda s: s.name),
    Column("VARIANT", lambda s: s.variant),
    Column("ASKED", lambda s: f"{s.asked:.1%}", right=True),
    Column("ANSWERED", lambda s: f"{s.answered:.1%}", right=True),
    Column("ACCURACY", lambda s: None if s.accuracy is None else f"{s.accuracy:.2%}", right=True),
]
