"""How a schedule reads in a terminal: its rungs, its lines, and where the figures come from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from controller.cli import words
from controller.cli.output import Column
from controller.cli.views import pin_words
from controller.fleet import Device
from controller.planner import outlook
from controller.schedules.check import cautions
from controller.schedules.compile import Compiled
from controller.schedules.difference import Difference
from controller.schedules.origin import origin_of_lines, origin_of_stage, words_of_person
from controller.schedules.revision import rows_of
from controller.schedules.text import null_word, window_words
from protocols.bundle import Bundle, CertifiedThreshold
from protocols.desired import Deployment, Desired, DesiredCascade
from protocols.schedule import (
    LADDER_OF,
    CascadeSchedule,
    ComputeRung,
    Dwell,
    ResidencyRung,
    Schedule,
    StageCompute,
    Threshold,
)

_ANSWERS = ("", "", "", "degraded", "503")


@dataclass(frozen=True, slots=True)
class CascadeView:
    """The rows of one cascade that hold on a device.

    Attributes:
        wanted: the cascade, and in which form.
        row: its rows.
        bundle: None: it is not in the catalog here.
        person: the deployment whose rows they are; None: the compiler's.
        origins: by stage, where threads, layout and CPUs come from.
    """

    wanted: DesiredCascade
    row: CascadeSchedule
    bundle: Bundle | None
    person: Deployment | None
    origins: Mapping[str, str]

    @property
    def ladders(self) -> Mapping[str, tuple[CertifiedThreshold, ...]]:
        """By gated stage, its certified thresholds; empty: not known."""
        found = self.bundle.certificate(dict(self.wanted.variants)) if self.bundle else None
        return found.gates if found is not None else {}

    def step(self, stage: str, rung: ComputeRung) -> CertifiedThreshold | None:
        """Return the certified threshold of a stage at a rung; None: it has no gate."""
        ladder = self.ladders.get(stage)
        if not ladder:
            return None
        return ladder[min(self.row.base_threshold + rung.threshold_step, len(ladder) - 1)]


@dataclass(frozen=True, slots=True)
class View:
    """The schedule that holds on a device."""

    device: Device
    desired: Desired
    schedule: Schedule
    lines: Deployment | None
    """Whose lines, dwell times and windows hold; None: the defaults."""
    cascades: tuple[CascadeView, ...]


def view_of(
    device: Device,
    desired: Desired,
    ruling: Sequence[Deployment],
    bundles: Mapping[str, Bundle],
    only: str | None = None,
) -> View:
    """Return the schedule of a device, of all its cascades or of one."""
    compiled = outlook(device, ruling, bundles).compiled
    by_name = {d.bundle.name: d for d in ruling}
    found = tuple(
        _cascade(one, desired, by_name.get(one.bundle.name), bundles, compiled)
        for one in desired.cascades
        if only in {None, one.bundle.name}
    )
    rows = {one.wanted.bundle.name: one.row for one in found}
    lines = next((d for d in reversed(ruling) if d.schedule is not None), None)
    return View(device, desired, desired.schedule.with_(cascades=rows), lines, found)


def _cascade(
    wanted: DesiredCascade,
    desired: Desired,
    deployment: Deployment | None,
    bundles: Mapping[str, Bundle],
    compiled: Mapping[str, Compiled],
) -> CascadeView:
    name = wanted.bundle.name
    bundle = bundles.get(wanted.bundle.artifact.sha256)
    row = desired.schedule.cascades.get(name) or (bundle.schedule if bundle else _nothing())
    person = deployment if deployment and rows_of(deployment.schedule, name) == row else None
    mine = None if person else compiled.get(name)
    unknown = not person and mine is None
    origins = {
        stage: "not known: its manifest is not in the catalog here"
        if unknown
        else origin_of_stage(stage, row, mine)
        for stage in row.compute[0].stages
    }
    return CascadeView(wanted, row, bundle, person, origins)


def _nothing() -> CascadeSchedule:
    """Return the rows of a cascade of which nothing at all is known."""
    compute, residency = ComputeRung(stages={}), ResidencyRung(resident=())
    return CascadeSchedule(compute=(compute,) * 5, residency=(residency,) * 5)


def facts(view: View) -> Iterator[tuple[str, object]]:
    """Yield what `ctl schedule show` says above the tables."""
    device, desired = view.device, view.desired
    accepted = device.reported.generation if device.reported is not None else 0
    late = "" if accepted >= desired.generation else f"; the device has accepted {accepted or '-'}"
    yield "Device", device.name if device.online else f"{device.name} (offline)"
    yield "Generation", f"{desired.generation}{late}"
    now = device.reported.rungs if device.reported is not None else None
    if now is not None:
        causes = "; ".join(c for c in (now.residency_cause, now.compute_cause) if c)
        yield "Rungs now", f"{words.rungs(now)}{f': {causes}' if causes else ''}"
    yield "Lines", origin_of_lines(view.lines)
    yield "Dwell", _dwell(view.schedule.dwell)
    yield "Windows", "; ".join(map(window_words, view.schedule.windows)) or "none"
    for name, section in view.schedule.model_dump(mode="json").items():
        if isinstance(section, dict) and name not in {"thresholds", "dwell", "cascades"}:
            said = {k: null_word(k) if v is None else v for k, v in section.items()}
            yield name.capitalize(), ", ".join(f"{k} {v}" for k, v in said.items())
    if desired.shed:
        yield "Shed", f"{words.count(desired.shed, 'step')}, by the planner under lasting load"
    if pinned := pin_words(device):
        yield "Pins", "; ".join(pinned)


def _dwell(dwell: Dwell) -> str:
    return (
        f"down after {dwell.hold_s:g} s; up one rung after {dwell.recover_s:g} s, at most "
        f"{dwell.up_moves_per_hour} an hour; a gap of {dwell.stale_s:g} s is stale"
    )


@dataclass(frozen=True, slots=True)
class _ComputeLine:
    rung: int | None
    """None: the stage before is of the same rung."""
    stage: str
    compute: StageCompute
    leaves: str
    rate: str
    also: str


COMPUTE_COLUMNS: list[Column[_ComputeLine]] = [
    Column("RUNG", lambda r: "" if r.rung is None else f"C{r.rung}"),
    Column("STAGE", lambda r: r.stage),
    Column("THREADS", lambda r: r.compute.threads, right=True),
    Column("CPUS", lambda r: words.cpus(r.compute.cpus)),
    Column("NICE", lambda r: r.compute.nice, right=True, spare=True),
    Column("LAYOUT", lambda r: r.compute.layout),
    Column("SURE FROM", lambda r: r.leaves),
    Column("ESC/S", lambda r: r.rate, right=True),
    Column("", lambda r: r.also),
]


def compute_lines(found: CascadeView) -> list[_ComputeLine]:
    """Return a line for every stage that is on the device at every compute rung."""
    lines = []
    for number, rung in enumerate(found.row.compute):
        stages = [stage for stage in rung.stages if stage not in found.wanted.dropped]
        for place, stage in enumerate(stages):
            first = place == 0
            rate = "any" if rung.escalations_per_s is None else f"{rung.escalations_per_s:g}"
            also = ["spaced"] * rung.spaced + ["paused"] * rung.paused
            lines.append(
                _ComputeLine(
                    number if first else None,
                    stage,
                    rung.stages[stage],
                    _leaves(found, stage, rung),
                    rate if first else "",
                    " ".join(also) if first else "",
                )
            )
    return lines


def _leaves(found: CascadeView, stage: str, rung: ComputeRung) -> str:
    step = found.step(stage, rung)
    if step is not None:
        return f"{step.threshold:.3g} eps {100 * step.eps:g}%"
    if found.bundle is None:
        return f"step {found.row.base_threshold + rung.threshold_step}"
    return ""


_ResidencyLine = tuple[int, ResidencyRung]

RESIDENCY_COLUMNS: list[Column[_ResidencyLine]] = [
    Column("RUNG", lambda r: f"R{r[0]}"),
    Column("STAY LOADED", lambda r: ", ".join(r[1].resident) or "none", wrap=True),
    Column("ON DEMAND", lambda r: ", ".join(r[1].on_demand) or "none", wrap=True),
    Column("LEAVE AFTER", lambda r: words.age(r[1].idle_unload_s) or "never", right=True),
    Column("AT A TIME", lambda r: "one" if r[1].one_at_a_time else "all"),
    Column("ANSWERS", lambda r: _ANSWERS[r[0]]),
]


def residency_lines(found: CascadeView) -> list[_ResidencyLine]:
    """Return a line for every residency rung."""
    return list(enumerate(found.row.residency))


def head_of(found: CascadeView) -> str:
    """Say which cascade it is, in which form, and whose rows it has."""
    form = ", ".join(f"{s}={v}" for s, v in found.wanted.variants.items())
    dropped = f"; dropped: {', '.join(found.wanted.dropped)}" if found.wanted.dropped else ""
    return f"{words.ref(found.wanted.bundle)} ({form}{dropped})"


def origins(found: CascadeView, device: Device) -> Iterator[tuple[str, str]]:
    """Yield where the figures of a cascade come from, and what the device cannot give."""
    for stage, origin in found.origins.items():
        yield f"{stage}: threads", origin if found.person is None else _person(found.person)
    for stage, ladder in found.ladders.items():
        step = ladder[0]
        yield f"{stage}: sure from", f"its certificate: n {step.n}, delta {100 * step.delta:g}%"
    if found.person is None:
        yield "residency", "the bundle's rows"
        yield "ESC/S", _origin_of_rates(found)
    if device.inventory is not None and found.bundle is not None:
        for caution in cautions(found.row, found.bundle, device.inventory):
            yield "note", caution


def _origin_of_rates(found: CascadeView) -> str:
    theirs = found.bundle.schedule if found.bundle is not None else found.row
    pairs = zip(theirs.compute, found.row.compute, strict=True)
    same = all(one.escalations_per_s == other.escalations_per_s for one, other in pairs)
    return "the bundle's rows" if same else "what one costs here, as measured"


def _person(deployment: Deployment) -> str:
    return f"a person's rows, {words_of_person(deployment)}"


_SignalLine = tuple[str, str, Threshold]

SIGNAL_COLUMNS: list[Column[_SignalLine]] = [
    Column("SIGNAL", lambda r: r[0]),
    Column("ASKS FOR", lambda r: f"{r[1]}1-{r[1]}4 {'<=' if r[2].falling else '>='}"),
    Column("1", lambda r: _line(r[2].enter[0]), right=True),
    Column("2", lambda r: _line(r[2].enter[1]), right=True),
    Column("3", lambda r: _line(r[2].enter[2]), right=True),
    Column("4", lambda r: _line(r[2].enter[3]), right=True),
    Column("HARD", lambda r: _line(r[2].hard), right=True),
]


def signal_lines(schedule: Schedule) -> list[_SignalLine]:
    """Return a line for every signal."""
    return [(s, LADDER_OF[s][0].upper(), line) for s, line in schedule.thresholds.items()]


def _line(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def difference_columns(before: str, after: str) -> list[Column[Difference]]:
    """Return the columns of what differs between two schedules."""
    return [
        Column("WHERE", lambda d: d.place),
        Column("WHAT", lambda d: d.what, wrap=True),
        Column(before, lambda d: d.before, wrap=True),
        Column(after, lambda d: d.after, wrap=True),
    ]


def document(view: View) -> dict[str, object]:
    """Return a device's schedule for JSON."""
    return {
        "device": view.device.name,
        "generation": view.desired.generation,
        "accepted": view.device.reported.generation if view.device.reported else None,
        "version": view.schedule.version,
        "shed": view.desired.shed,
        "lines_from": origin_of_lines(view.lines),
        "schedule": view.schedule,
        "cascades": {one.wanted.bundle.name: _cascade_document(one) for one in view.cascades},
    }


def _cascade_document(one: CascadeView) -> dict[str, object]:
    gated = one.ladders
    return {
        "bundle": one.wanted.bundle,
        "variants": one.wanted.variants,
        "dropped": one.wanted.dropped,
        "rows_from": words_of_person(one.person) if one.person else "the compiler",
        "stages_from": one.origins,
        "thresholds": {s: [one.step(s, rung) for rung in one.row.compute] for s in gated},
    }
