"""From profile, limits and wishes to a cascade's rows for all ten rungs. Pure.

C0 is what `choice` found best. C1 and C2 have half its threads or fewer (of what was measured, the
best of those), C3 and C4 one thread on the slowest CPUs, which use the least power. From C2 on the
next certified threshold holds and escalations are rationed: to a quarter of the CPU time at C2, a
tenth at C3, where the device has measured what one costs. The residency rows are the bundle's, or
what a person has written.

`shed` is the planner's lever under a load that lasts: each step halves the threads of C0 until
every stage has one, then begins at the next threshold of the certificate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.fit import Form, chosen
from controller.schedules.choice import (
    Choice,
    StageOptions,
    answer_p95_ms,
    choose,
    mean_joules,
    measured,
)
from protocols.bundle import Bundle, Stage, Variant
from protocols.device import CoreClass, Inventory
from protocols.profile import LayoutRun
from protocols.schedule import (
    DEFAULT_ESCALATIONS_PER_S,
    CascadeSchedule,
    ComputeRung,
    StageCompute,
    Wishes,
)

_NICE = (0, 5, 5, 10, 10)
_CPU_SHARE = {2: 0.25, 3: 0.10}
"""At these compute rungs escalations may take so much of the allowed CPUs' time."""
_FEWEST_PER_S = 0.1
_SLOW_FROM = 3
"""From this compute rung on a stage has one thread on the slowest CPUs."""


_AWAY = Choice("intra-op", 1, None)
"""What is said of a stage that is not on the device."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A cascade's rows on one device, and how they came about.

    Attributes:
        rows: for the device.
        choices: by stage, what C0 goes by before anything is shed.
        missed: which wishes cannot be met, and why.
        most_shed: beyond this, shedding changes nothing any more.
        p95_ms: of an answer at C0, before anything is shed, at most; None: a stage was not
            measured.
        joules: of an answer there, mean, and the method; None: not known.
    """

    rows: CascadeSchedule
    choices: Mapping[str, Choice]
    missed: tuple[str, ...]
    most_shed: int
    p95_ms: float | None = None
    joules: tuple[float, str] | None = None


@dataclass(frozen=True, slots=True)
class _Best:
    """What every rung begins from."""

    choices: Mapping[str, Choice]
    options: Mapping[str, StageOptions]
    cores: Sequence[CoreClass]
    halvings: int

    @property
    def cpu_count(self) -> int:
        return sum(len(group.cpus) for group in self.cores)


def compile_cascade(
    bundle: Bundle,
    form: Form,
    inventory: Inventory | None,
    row: CascadeSchedule,
    wishes: Wishes,
    shed: int = 0,
) -> Compiled:
    """Return the rows of a cascade on a device.

    Args:
        bundle: the cascade.
        form: which variants, and which stages stay away.
        inventory: of the device, with what it has measured; None: it has not said.
        row: the bundle's or the deployment's; its thresholds, residency and pauses are kept.
        wishes: what a person wants of the speed.
        shed: steps down that the planner asks for, 0 or more.
    """
    cores = inventory.cores if inventory is not None else ()
    options = stage_options(bundle, form, inventory, row.base_threshold)
    there = [one for one in options if one.name not in form.dropped]
    found = choose(there, cores, wishes)
    halvings = max(choice.threads.bit_length() - 1 for choice in found.stages.values())
    steps = max(0, _ladder_length(bundle, form) - 1 - row.base_threshold)
    shed = min(shed, halvings + steps)
    best = _Best(found.stages, {one.name: one for one in options}, cores, min(shed, halvings))
    rows = row.with_(
        compute=tuple(_rung(rung, number, best) for number, rung in enumerate(row.compute)),
        base_threshold=row.base_threshold + max(0, shed - halvings),
    )
    runs = {name: choice.run for name, choice in found.stages.items() if choice.run is not None}
    return Compiled(
        rows,
        found.stages,
        found.missed,
        halvings + steps,
        p95_ms=answer_p95_ms(there, runs) if len(runs) == len(there) else None,
        joules=mean_joules(there, found.stages),
    )


def stage_options(
    bundle: Bundle, form: Form, inventory: Inventory | None, base_threshold: int
) -> tuple[StageOptions, ...]:
    """Return what is known of each stage of a form on a device."""
    variants = chosen(bundle, form)
    reached = reach(bundle, form, base_threshold)
    return tuple(
        _options(stage, before, variants.get(stage.name), reached[stage.name], inventory)
        for before, stage in zip((None, *bundle.stages), bundle.stages, strict=False)
    )


def reach(bundle: Bundle, form: Form, base_threshold: int) -> dict[str, float]:
    """Return by stage the share of requests that get to it; 1 where nothing was calibrated."""
    certificate = bundle.certificate(dict(form.variants))
    share, reached = 1.0, {}
    for stage in bundle.stages:
        reached[stage.name] = share
        ladder = certificate.gates.get(stage.name) if certificate is not None else None
        if ladder:
            # Each gate's `escalated` is of all the samples, so it is the share that goes on.
            share = ladder[min(base_threshold, len(ladder) - 1)].escalated
    return reached


def _options(
    stage: Stage,
    before: Stage | None,
    variant: Variant | None,
    reached: float,
    inventory: Inventory | None,
) -> StageOptions:
    if variant is None:
        return StageOptions(stage.name, 0.0, reached)
    is_part = before is not None and before.metric is None and stage.reads == f"stage:{before.name}"
    runs = measured(variant, inventory) if inventory is not None else ()
    return StageOptions(stage.name, variant.needs.answer_ms, reached, is_part, runs)


def _ladder_length(bundle: Bundle, form: Form) -> int:
    certificate = bundle.certificate(dict(form.variants))
    ladders = certificate.gates.values() if certificate is not None else ()
    return max((len(ladder) for ladder in ladders), default=1)


def _rung(rung: ComputeRung, number: int, best: _Best) -> ComputeRung:
    return rung.with_(
        stages={name: _stage(name, number, best) for name in rung.stages},
        escalations_per_s=_escalations_per_s(rung, number, best),
    )


def _stage(name: str, number: int, best: _Best) -> StageCompute:
    if number >= _SLOW_FROM:
        slowest = best.cores[-1].cpus if len(best.cores) > 1 else None
        return StageCompute(threads=1, cpus=slowest, nice=_NICE[number])
    choice = best.choices.get(name, _AWAY)
    for _ in range(best.halvings + (number > 0)):
        choice = _halved(choice, best.options[name].runs)
    return StageCompute(
        layout=choice.layout, threads=choice.threads, cpus=choice.cpus, nice=_NICE[number]
    )


def _halved(choice: Choice, runs: Sequence[LayoutRun]) -> Choice:
    """Return the best with half the threads: as it was measured, else on the first of its CPUs."""
    most = max(1, choice.threads // 2)
    if choice.threads == most:
        return choice
    fewer = [run for run in runs if run.threads <= most and run.layout == choice.layout]
    if fewer:
        return Choice.of(min(fewer, key=lambda run: (-run.threads, run.p95_ms)))
    cpus = choice.cpus[:most] if choice.cpus is not None else None
    return Choice(choice.layout, most, cpus)


def _escalations_per_s(rung: ComputeRung, number: int, best: _Best) -> float | None:
    """Ration by what an escalation costs here; a rate that a person chose stays."""
    if number not in _CPU_SHARE or rung.escalations_per_s != DEFAULT_ESCALATIONS_PER_S[number]:
        return rung.escalations_per_s
    later = list(best.choices)[1:]
    spent = [run.cpu_ms for name in later if (run := best.choices[name].run) is not None]
    if not spent or len(spent) < len(later) or not best.cpu_count:
        return rung.escalations_per_s
    room_ms = 1e3 * best.cpu_count * _CPU_SHARE[number]
    return round(max(_FEWEST_PER_S, room_ms / max(sum(spent), 1e-6)), 2)
