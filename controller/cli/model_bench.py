"""`ctl model bench`: what a model costs while it runs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.modelfiles import Model, Shape, model_file, parse_shape
from controller.cli.output import Column, Format, Output, note, out, print_json, table
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.compress.measure import ModelFile, Pace, Place, Weighed
    from controller.compress.timings import Timings


@dataclass(frozen=True, slots=True)
class _Bench:
    """One model's figures. `energy_j` is of one run; None: nobody said what a CPU draws."""

    name: str
    weighed: "Weighed"
    timings: "Timings"
    cpu_s: float
    energy_j: float | None


def bench(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    model: Model,
    *,
    against: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Another model: both run in turns, in one process."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of the interpreter.")] = 1,
    cpus: Annotated[
        str | None, typer.Option(metavar="0,1", help="CPUs to keep to; default: any.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="At least so many of each model.")] = 50,
    seconds: Annotated[float, typer.Option(min=0.0, help="At least so long, all together.")] = 1.0,
    watts: Annotated[
        float | None,
        typer.Option(min=0.0, help="What one busy CPU draws; estimates the energy of a run."),
    ] = None,
    shape: Shape = None,
    output: Output = Format.TABLE,
) -> None:
    """Time a model in a process of its own, with the habits of TFLite's benchmark_model.

    It warms up for half a second, then runs at least 50 times and one second, at most 150 s. A run
    is the interpreter's alone: the input lies ready, which is random and the same each time.

    Example: ctl model bench large-int8.tflite --against large.tflite
    """
    from controller.compress.measure import Pace, Place, clock, weigh  # noqa: PLC0415

    files = [model_file(ctx, one) for one in (model, against) if one is not None]
    place = Place(threads=threads, cpus=() if cpus is None else _parse_cpus(cpus))
    pace, sample_shape = Pace(runs=runs, seconds=seconds), parse_shape(shape)
    with Running("Loading", 100) as running:
        weighed = [weigh(file, place, sample_shape) for file in files]
        clocked = clock(
            files,
            place,
            pace,
            sample_shape,
            lambda share: running.at("Running", int(share * 100), 100),
        )
    found = [
        _Bench(file.name, one, timings, cpu_s, None if watts is None else cpu_s * watts)
        for file, one, timings, cpu_s in zip(
            files, weighed, clocked.timings, clocked.cpu_s, strict=True
        )
    ]
    if output is Format.JSON:
        print_json(_document(found, place, pace, files))
    else:
        _print(found, place)


def _parse_cpus(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"{text!r} are no CPUs; write 0,1")
    return tuple(sorted(set(map(int, parts))))


def _document(
    found: list[_Bench], place: "Place", pace: "Pace", files: "list[ModelFile]"
) -> dict[str, object]:
    from controller.compress.timings import cpu_share  # noqa: PLC0415

    return {
        "threads": place.threads,
        "cpus": place.cpus or None,
        "pace": pace,
        "models": [
            {
                "model": one.name,
                "size_bytes": file.path.stat().st_size,
                "runtime": one.weighed.runtime,
                "load_ms": one.weighed.load_ms,
                "load_rss_mib": one.weighed.load_mib,
                "peak_rss_mib": one.weighed.peak_mib,
                "timings_us": one.timings,
                "cpu_s_per_run": one.cpu_s,
                "cpu_share": cpu_share(one.timings, one.cpu_s),
                "energy_j_per_run": one.energy_j,
                "energy_method": None if one.energy_j is None else "model",
            }
            for one, file in zip(found, files, strict=True)
        ],
        "ratios": _ratios(found),
    }


def _ratios(found: list[_Bench]) -> dict[str, float] | None:
    """Return the first model's figures over the other's; None: there is no other."""
    if len(found) == 1:
        return None
    one, other = found
    return {
        "median": one.timings.median / other.timings.median,
        "min": one.timings.min / other.timings.min,
        "cpu_s": one.cpu_s / other.cpu_s,
    }


def _print(found: list[_Bench], place: "Place") -> None:
    from controller.compress.timings import cpu_share, was_disturbed  # noqa: PLC0415

    out().print(table(found, _COLUMNS))
    where = f" on CPUs {', '.join(map(str, place.cpus))}" if place.cpus else ""
    note(
        f"Microseconds; {words.count(place.threads, 'thread')}{where}, {found[0].weighed.runtime}."
    )
    if place.cpus and place.threads > len(place.cpus):
        note(f"More threads than CPUs: {place.threads} on {len(place.cpus)}.", style="yellow")
    if found[0].energy_j is not None:
        note("Energy is an estimate: CPU seconds times the watts that were given.")
    ratios = _ratios(found)
    if ratios is not None:
        note(
            f"{found[0].name} over {found[1].name}, run in turns in one process: median "
            f"{ratios['median']:.3f}, minimum {ratios['min']:.3f}, CPU seconds "
            f"{ratios['cpu_s']:.3f}."
        )
    if any(was_disturbed(one.timings, one.cpu_s, place.threads) for one in found):
        share = min(cpu_share(one.timings, one.cpu_s) for one in found)
        note(
            f"Other work had the CPU: only {share:.0%} of the time was the model's. Go by CPU "
            "seconds and minima, or measure again on a quiet machine.",
            style="yellow",
        )


_COLUMNS: list[Column[_Bench]] = [
    Column("MODEL", lambda b: b.name),
    Column("COUNT", lambda b: b.timings.count, right=True),
    Column("FIRST", lambda b: f"{b.timings.first:.4g}", right=True),
    Column("MIN", lambda b: f"{b.timings.min:.4g}", right=True),
    Column("MAX", lambda b: f"{b.timings.max:.4g}", right=True),
    Column("AVG", lambda b: f"{b.timings.avg:.4g}", right=True),
    Column("STD", lambda b: f"{b.timings.std:.4g}", right=True),
    Column("P5", lambda b: f"{b.timings.p5:.4g}", right=True),
    Column("MEDIAN", lambda b: f"{b.timings.median:.4g}", right=True),
    Column("P95", lambda b: f"{b.timings.p95:.4g}", right=True),
    Column("CPU", lambda b: f"{b.cpu_s * 1e6:.4g}", right=True),
    Column("LOAD", lambda b: words.milliseconds(b.weighed.load_ms), right=True),
    Column("PEAK RSS", lambda b: words.mib(b.weighed.peak_mib), right=True),
    Column(
        "ENERGY", lambda b: None if b.energy_j is None else f"{b.energy_j * 1e3:.3g} mJ", right=True
    ),
]
