"""Who decides what is in memory: ours, and three that never look at the device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent.cascades.plan import runner_plans, schedule_of
from agent.runner.control import CascadePlan
from controller.fleet import Device
from controller.planner import PlannerPolicy
from controller.simulate.loops import Loops, Subject, first_desired
from protocols import governor
from protocols.bundle import Bundle
from protocols.desired import Desired
from protocols.device import Rungs, Sample
from protocols.memory import leaves_room, rung_mib
from protocols.schedule import Schedule
from tests.controller.cascades import ref_of
from tests.controller.world import deployment, status
from tests.plant.pictures import WORKS, Picture, Work
from tests.plant.serving import Runner, Serving

START_TS = 1_000_000.0

PATIENCE = PlannerPolicy()


class Policy(Protocol):
    """What decides."""

    budget_mib: float | None

    def begin(self, runner: Runner, now_s: float) -> None:
        """Put the cascades into a runner."""

    def sense(self, sample: Sample, runner: Runner) -> None:
        """Take a sample, and let the runner's plans follow it."""


class Fixed:
    """One plan for ever, with the same measured threads as ours at its best.

    Args:
        picture: the device.
        residence: of the stages that are not the first.
        budget_mib: see `Runner`.
    """

    def __init__(
        self, picture: Picture, residence: str = "resident", budget_mib: float | None = None
    ) -> None:
        self.budget_mib = budget_mib
        self._desired = first_desired(subject_of(picture), START_TS, PATIENCE)
        first = "on_demand" if residence == "on_demand" else "resident"
        self._residence = {"small": first, "large": residence}
        self._cpus = picture.cpus

    def begin(self, runner: Runner, now_s: float) -> None:
        """Put the cascades into a runner."""
        plans = _plans(self._desired, Rungs(), self._cpus)
        for work, plan in zip(WORKS, plans, strict=True):
            stages = [t.with_(residence=self._residence[t.name]) for t in plan.stages]
            fixed = plan.with_(stages=stages)
            variants = self._desired.cascades[WORKS.index(work)].variants
            runner.cascades[plan.name] = Serving(work, variants, fixed)
            runner.cascades[plan.name].follow(fixed, now_s)

    def sense(self, sample: Sample, runner: Runner) -> None:
        """Do nothing."""


def all_loaded(picture: Picture) -> Fixed:
    """Return the policy that keeps everything."""
    return Fixed(picture)


def small_only(picture: Picture) -> Fixed:
    """Return the policy that never has a large model."""
    return Fixed(picture, residence="out")


def least_recently_used(picture: Picture) -> Fixed:
    """Return the policy whose budget holds all but the smaller of the two large models."""
    sizes = [work.models["large", "fp32"].declared_mib for work in WORKS]
    small = sum(work.models["small", "int8"].declared_mib for work in WORKS)
    return Fixed(picture, residence="on_demand", budget_mib=max(sizes) + small)


@dataclass(frozen=True, slots=True)
class Revision:
    """A desired document, when it was written and what was sensed then."""

    at_s: float
    desired: Desired
    rungs: Rungs


@dataclass
class Ours:
    """The agent's governor every second, and the controller's planner on its telemetry.

    Attributes:
        picture: the device.
        patience: of the planner.
        schedule: lines and dwell; the planner adds the compiled rows.
        revisions: what the planner wrote, the first document included.
        moves: every change of a ladder, with its time.
        watch: called with every sample and the rungs that follow from it.
    """

    picture: Picture
    patience: PlannerPolicy = PATIENCE
    schedule: Schedule | None = None
    revisions: list[Revision] = field(default_factory=list)
    moves: list[tuple[float, governor.Change]] = field(default_factory=list)
    watch: Callable[[Sample, Rungs], None] | None = None
    budget_mib: float | None = None

    def begin(self, runner: Runner, now_s: float) -> None:
        """Deploy, and put the cascades into the runner."""
        subject = subject_of(self.picture, self.schedule)
        self._loops = Loops(subject, now_s, self.patience, epoch_s=START_TS)
        self._planned: tuple[int, Rungs] | None = None
        desired = self._loops.desired
        self.revisions.append(Revision(now_s, desired, Rungs()))
        self._install(runner, desired, now_s)

    def sense(self, sample: Sample, runner: Runner) -> None:
        """Take a sample: the reflex at once, the planner every few seconds."""
        now_s, before = sample.time_s, self._loops.desired
        tick = self._loops.sense(sample, lambda rung: self._fits(sample, rung, runner))
        self.moves += [(now_s, change) for change in tick.changes]
        desired, rungs = self._loops.desired, self._loops.rungs
        if self.watch is not None:
            self.watch(sample, rungs)
        if tick.revision is not None:
            self.revisions.append(Revision(now_s, tick.revision, rungs))
        if before.cascades != desired.cascades:
            self._install(runner, desired, now_s)
        if self._planned != (desired.generation, rungs):
            self._planned = (desired.generation, rungs)
            for plan in _plans(desired, rungs, self.picture.cpus):
                runner.cascades[plan.name].follow(plan, now_s)

    def _install(self, runner: Runner, desired: Desired, now_s: float) -> None:
        """Put the cascades that are new in this form in place of what was there."""
        plans = _plans(desired, self._loops.rungs, self.picture.cpus)
        for work, plan, wanted in zip(WORKS, plans, desired.cascades, strict=True):
            there = runner.cascades.get(plan.name)
            fresh = Serving(work, wanted.variants, plan)
            if there is not None:
                _keep(there, fresh)
            runner.cascades[plan.name] = fresh
            fresh.follow(plan, now_s)
        self._planned = None

    def _fits(self, sample: Sample, rung: int, runner: Runner) -> bool:
        desired = self._loops.desired
        need_mib = sum(
            _need_mib(desired, work, runner.cascades[work.bundle.name], n, rung)
            for n, work in enumerate(WORKS)
        )
        line = desired.schedule.thresholds.get("memory_available_percent")
        return leaves_room(sample, need_mib, rung, line)


def _need_mib(desired: Desired, work: Work, serving: Serving, number: int, rung: int) -> float:
    dropped = desired.cascades[number].dropped
    sizes = {n: s.model.mib for n, s in serving.slots.items() if n not in dropped}
    loaded = [name for name, slot in serving.slots.items() if slot.loaded]
    return rung_mib(schedule_of(desired, work.bundle).residency[rung], sizes, loaded)


def _keep(there: Serving, fresh: Serving) -> None:
    """Stages whose model is the same go on as they are."""
    for name, slot in there.slots.items():
        if slot.model == fresh.slots[name].model:
            target = fresh.slots[name].target
            fresh.slots[name] = slot
            slot.target = target


def subject_of(picture: Picture, schedule: Schedule | None = None) -> Subject:
    """Return a device as the controller knows it, with both cascades deployed to it."""
    name = picture.name
    device = Device(name, status=status(name), inventory=picture.inventory())
    ruling = tuple(
        deployment(ref_of(work.bundle), order=order, schedule=schedule)
        for order, work in enumerate(WORKS, start=1)
    )
    return Subject(device, ruling, _bundles())


def _bundles() -> dict[str, Bundle]:
    return {ref_of(work.bundle).artifact.sha256: work.bundle for work in WORKS}


def _plans(desired: Desired, rungs: Rungs, cpus: Sequence[int]) -> tuple[CascadePlan, ...]:
    pairs = zip(desired.cascades, (work.bundle for work in WORKS), strict=True)
    return runner_plans(desired, pairs, rungs, cpus)
