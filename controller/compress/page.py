"""One HTML page about models: figures, plots, tables. Pure; it loads nothing from elsewhere."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from controller.compress.anatomy import Anatomy
from controller.compress.evaluate import Evaluation
from controller.compress.markup import card, document, named, prose, row_of, table_of
from controller.compress.measure import Weighed
from controller.compress.plots import (
    Spot,
    confusion_chart,
    cost_chart,
    layer_chart,
    pareto,
    reliability_chart,
)
from controller.compress.svg import COLOURS, si
from controller.compress.timings import Timings, was_disturbed
from controller.compress.wire import Wire

_FEW_CLASSES = 40

_ON_COSTS = (
    "Left and up is better. The dashed line is the Pareto front: the most accuracy that can be had "
    "for at most so much. Whiskers are 95% intervals (Wilson) of the accuracy; where they overlap "
    "widely, more samples are needed to tell models apart."
)
_ON_DISTURBANCE = (
    "Other work had the CPU while these were timed, which hits long runs more often than short "
    "ones: go by the CPU time of a run and by minima, or measure again on a quiet machine."
)
_ON_RELIABILITY = (
    "A dot on the diagonal: answers that are 80% sure are right in 80% of the cases. Below it the "
    "model is too sure of itself. The bars at the bottom show how many answers are that sure."
)


@dataclass(frozen=True, slots=True)
class Subject:
    """All that was found out about one model.

    Attributes:
        anatomy: what it is made of.
        wire: its bytes over the air.
        weighed: what loading it took.
        timings: of its runs, in microseconds.
        cpu_s: CPU seconds of one run.
        energy_j: of one run, estimated; None: nobody said what a CPU draws.
        evaluation: on the samples.
    """

    anatomy: Anatomy
    wire: Wire
    weighed: Weighed
    timings: Timings
    cpu_s: float
    energy_j: float | None
    evaluation: Evaluation

    @property
    def name(self) -> str:
        """The model's."""
        return self.anatomy.name


def render(
    title: str, subjects: Sequence[Subject], samples: str, machine: str, labels: Sequence[str] = ()
) -> str:
    """Return the page.

    Args:
        title: of the page.
        subjects: the models, at least one; the first is what the others are compared with.
        samples: what they were judged on, in words.
        machine: what they were timed on, in words.
        labels: names of the classes; empty: their numbers.
    """
    n = subjects[0].evaluation.quality.samples
    body = [
        f"<h1>{escape(title)}</h1>",
        prose(f"{len(subjects)} models on {n} samples ({samples}); timed on {machine}."),
        *_summary(subjects),
        "<h2>Accuracy against cost</h2>",
        prose(_ON_COSTS),
        f'<div class="grid">{"".join(_costs(subjects))}</div>',
        "<h2>Time</h2>",
        _times(subjects),
        *_disturbed(subjects),
        "<h2>Reliability</h2>",
        prose(_ON_RELIABILITY),
        f'<div class="grid">{"".join(_reliabilities(subjects))}</div>',
        "<h2>Classes</h2>",
        f'<div class="grid">{"".join(_confusions(subjects, labels))}</div>',
        _by_class(subjects, labels),
        "<h2>Layers</h2>",
        *_layers(subjects),
    ]
    return document(title, body)


def _named(number: int, subject: Subject) -> str:
    return named(number, subject.name)


def _summary(subjects: Sequence[Subject]) -> Iterable[str]:
    metric = any(s.evaluation.metric is not None for s in subjects)
    top_k = subjects[0].evaluation.top_k
    energy = any(s.energy_j is not None for s in subjects)
    head = ["Model", "Accuracy", "95%"]
    head += [] if top_k is None else [f"Top {top_k[0]}"]
    head += ["Metric"] * metric
    head += ["Agrees", "File", "Over the air", "Parameters", "Not zero", "MACs"]
    head += ["Median", "CPU a run", *["Energy a run"] * energy, "Memory"]
    rows = []
    for number, subject in enumerate(subjects):
        found, weighed = subject.evaluation, subject.weighed
        beside, interval = found.comparison, found.interval
        row = [_named(number, subject), f"{found.quality.accuracy:.2%}"]
        row.append(f"{interval.low * 100:.1f}\u2013{interval.high * 100:.1f}")
        row += [] if found.top_k is None else [f"{found.top_k[1]:.2%}"]
        row += ["-" if found.metric is None else f"{found.metric:.4g}"] * metric
        row += [
            "-" if beside is None else f"{beside.agreement:.1%}",
            _bytes(subject.wire.raw_bytes),
            _bytes(subject.wire.sent_bytes),
            si(subject.anatomy.parameters),
            si(subject.anatomy.nonzero),
            si(subject.anatomy.macs),
            _microseconds(subject.timings.median),
            _microseconds(subject.cpu_s * 1e6),
        ]
        joules = subject.energy_j
        row += ["-" if joules is None else _joules(joules)] * energy
        row.append("-" if weighed.peak_mib is None else f"{weighed.peak_mib:.3g} MiB")
        rows.append(row)
    yield table_of(head, rows)
    notes = ["Over the air: as sent. Memory: the most that loading and running added."]
    if subjects[1:]:
        notes.append(f"Agrees: answers as {subjects[0].name} does.")
    if energy:
        notes.append("Energy: an estimate, CPU seconds times the watts that were given.")
    yield prose(" ".join(notes))


def _costs(subjects: Sequence[Subject]) -> Iterable[str]:
    kinds = [
        ("Bytes of the file", "bytes", [float(s.wire.raw_bytes) for s in subjects], _bytes),
        (
            "Bytes over the air",
            "bytes, as sent",
            [float(s.wire.sent_bytes) for s in subjects],
            _bytes,
        ),
        ("Latency", "median of a run", [s.timings.median for s in subjects], _microseconds),
        ("CPU", "CPU time of a run", [s.cpu_s * 1e6 for s in subjects], _microseconds),
    ]
    joules = [s.energy_j for s in subjects if s.energy_j]
    if len(joules) == len(subjects):
        kinds.append(("Energy, estimated", "energy of a run", joules, _joules))
    for title, axis, costs, show in kinds:
        spots = [_spot(s, max(cost, 1e-9)) for s, cost in zip(subjects, costs, strict=True)]
        yield card(cost_chart(spots, title, axis, show))


def _spot(subject: Subject, cost: float) -> Spot:
    found = subject.evaluation
    return Spot(subject.name, cost, found.quality.accuracy, found.interval.low, found.interval.high)


def best(subjects: Sequence[Subject]) -> list[str]:
    """Return the names of those that no other beats in both accuracy and bytes over the air."""
    return [spot.name for spot in pareto([_spot(s, s.wire.sent_bytes) for s in subjects])]


def _times(subjects: Sequence[Subject]) -> str:
    first = subjects[0]
    return table_of(
        ["Model", "Runs", "First", "Min", "p5", "Median", "Avg", "p95", "Max", "Std", "Load"]
        + [f"{what} / {first.name}" for what in ("Median", "CPU")] * bool(subjects[1:]),
        [
            [
                _named(number, s),
                str(s.timings.count),
                *(
                    _microseconds(value)
                    for value in (
                        s.timings.first,
                        s.timings.min,
                        s.timings.p5,
                        s.timings.median,
                        s.timings.avg,
                        s.timings.p95,
                        s.timings.max,
                        s.timings.std,
                    )
                ),
                _microseconds(s.weighed.load_ms * 1e3),
                *[
                    f"{s.timings.median / first.timings.median:.3f}",
                    f"{s.cpu_s / first.cpu_s:.3f}",
                ]
                * bool(subjects[1:]),
            ]
            for number, s in enumerate(subjects)
        ],
    )


def _disturbed(subjects: Sequence[Subject]) -> Iterable[str]:
    if any(was_disturbed(s.timings, s.cpu_s, 1) for s in subjects):
        yield prose(_ON_DISTURBANCE)


def _reliabilities(subjects: Sequence[Subject]) -> Iterable[str]:
    for number, subject in enumerate(subjects):
        found = subject.evaluation
        colour = COLOURS[number % len(COLOURS)]
        error = found.quality.calibration_error
        yield card(reliability_chart(found.bins, subject.name, error, colour))


def _confusions(subjects: Sequence[Subject], labels: Sequence[str]) -> Iterable[str]:
    for subject in subjects:
        confusion = subject.evaluation.quality.confusion
        names = _names(labels, len(confusion))
        yield card(confusion_chart(confusion, subject.name, names))


def _by_class(subjects: Sequence[Subject], labels: Sequence[str]) -> str:
    classes = subjects[0].evaluation.classes
    names = _names(labels, len(classes))
    models = "".join(f'<th colspan="2">{_named(n, s)}</th>' for n, s in enumerate(subjects))
    figures = "<th>recall</th><th>precision</th>" * len(subjects)
    lines = []
    for number, one in enumerate(classes):
        row = [escape(names[number]), str(one.samples)]
        for subject in subjects:
            found = subject.evaluation.classes[number]
            row += [_share(found.recall), _share(found.precision)]
        lines.append(row_of(row))
    head = f"<tr><th></th><th></th>{models}</tr><tr><th>class</th><th>samples</th>{figures}</tr>"
    table = card(f"<table><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table>")
    opened = " open" if len(classes) <= _FEW_CLASSES else ""
    return f"<details{opened}><summary>Every class</summary>{table}</details>"


def _layers(subjects: Sequence[Subject]) -> Iterable[str]:
    for number, subject in enumerate(subjects):
        opened = " open" if not number else ""
        chart = card(layer_chart(subject.anatomy))
        name = escape(subject.name)
        yield f"<details{opened}><summary>{name}</summary>{chart}</details>"


def _names(labels: Sequence[str], classes: int) -> list[str]:
    given = list(labels[:classes])
    return given + [str(number) for number in range(len(given), classes)]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _bytes(count: float) -> str:
    return si(count, "B")


def _microseconds(value: float) -> str:
    return si(value * 1e-6, "s")


def _joules(value: float) -> str:
    return si(value, "J")
