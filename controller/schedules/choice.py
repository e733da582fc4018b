"""How each stage of a cascade should run on one device, at its best. Pure.

Where the device has measured a stage's model (`protocols.profile`), its figures choose; where it
has not, a rule does that errs on the side of fewer threads.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from protocols.bundle import Variant
from protocols.device import CoreClass, Inventory
from protocols.profile import LayoutRun, StageProfile
from protocols.schedule import Layout, Wishes

_WORTH_THREADS_MS = 0.5
"""A model that answers sooner than this with one thread gets one: waking a pool and waiting for its
last thread costs tens of microseconds. Measured on two x86_64 cores: 0.83 ms became 0.46 ms with a
second thread, 0.016 ms became 0.020.
"""

_MOST_UNTUNED = 4
"""Threads of a stage that nobody has measured: beyond these small models rarely gain."""

_FAST = 0.75
"""CPUs at least this fast, relative to the fastest, share a stage's threads: a pool waits for its
slowest thread, so that a LITTLE core beside big ones costs more than it gives."""

_OFTEN = 0.05
"""What at least this share of the requests reaches is in the 95th percentile of an answer."""


@dataclass(frozen=True, slots=True)
class StageOptions:
    """A stage, and the ways in which it could run.

    Attributes:
        name: of the stage.
        answer_ms: of its model, one thread, where the bundle was built.
        reached: share of the requests that get to it, 0 to 1.
        chained: it reads the stage before it, which always hands on: parts of a split model.
        runs: what this device has measured of its model; may be empty.
    """

    name: str
    answer_ms: float
    reached: float = 1.0
    chained: bool = False
    runs: tuple[LayoutRun, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """How a stage is to run at C0.

    `run` is the measurement that says so; None: nobody has measured it here.
    """

    layout: Layout
    threads: int
    cpus: tuple[int, ...] | None
    run: LayoutRun | None = None

    @classmethod
    def of(cls, run: LayoutRun) -> "Choice":
        """Return what was measured, as a choice."""
        return cls(run.layout, run.threads, run.cpus, run)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Choices by stage, and what of the wishes they cannot meet."""

    stages: Mapping[str, Choice]
    missed: tuple[str, ...] = ()


def measured(variant: Variant, inventory: Inventory) -> tuple[LayoutRun, ...]:
    """Return the runs of a variant's model that still hold for a device.

    A profile counts if artifact, runtime and kernel are the device's, and its mask is the one that
    the device has now.
    """
    mask = {cpu for group in inventory.cores for cpu in group.cpus}
    return tuple(
        run
        for profile in inventory.profiles
        if _holds(profile, variant, inventory, mask)
        for run in profile.runs
    )


def choose(stages: Sequence[StageOptions], cores: Sequence[CoreClass], wishes: Wishes) -> Chosen:
    """Choose a run for every stage.

    Args:
        stages: in order; at least one.
        cores: of the device, fastest first; empty: not known.
        wishes: a goal, and limits that come before it: of all ways that meet the latency, the one
            that serves the goal best. The p95 of an answer is taken to be at most the sum of the
            p95 of the stages that at least 5 % of the requests reach.
    """
    untuned = {s.name: unmeasured(s.answer_ms, cores) for s in stages if not s.runs}
    tuned = [stage for stage in stages if stage.runs]
    single = _without_pipeline(tuned, wishes)
    chosen = _pipeline(tuned, wishes, single) if not untuned else None
    picked = {**untuned, **{name: Choice.of(run) for name, run in (chosen or single).items()}}
    ordered = {stage.name: picked[stage.name] for stage in stages}
    return Chosen(ordered, _missed(stages, ordered, wishes))


def unmeasured(answer_ms: float, cores: Sequence[CoreClass]) -> Choice:
    """Return how a model runs that nobody has measured here.

    Args:
        answer_ms: of one answer with one thread, wherever that was measured.
        cores: fastest first; empty: not known.
    """
    fast = fast_cpus(cores)
    threads = min(len(fast) or 1, _MOST_UNTUNED) if answer_ms >= _WORTH_THREADS_MS else 1
    # CPUs that are all alike are left to the kernel, which sees who else is busy.
    return Choice("intra-op", threads, fast if len(cores) > 1 else None)


def fast_cpus(cores: Sequence[CoreClass]) -> tuple[int, ...]:
    """Return the CPUs that are about as fast as the fastest, fastest first; empty: not known."""
    if not cores:
        return ()
    line = cores[0].capacity * _FAST
    return tuple(cpu for group in cores if group.capacity >= line for cpu in group.cpus)


def answer_p95_ms(stages: Sequence[StageOptions], runs: Mapping[str, LayoutRun]) -> float:
    """Return an upper estimate of an answer's p95: the sum over the stages reached often."""
    return sum(runs[s.name].p95_ms for s in stages if s.name in runs and s.reached >= _OFTEN)


def mean_joules(
    stages: Sequence[StageOptions], choices: Mapping[str, Choice]
) -> tuple[float, str] | None:
    """Return the mean energy of an answer, in joules, and its method.

    None: a stage's is not known, or they were not all found by one method.
    """
    total, methods = 0.0, set[str]()
    for stage in stages:
        run = choices[stage.name].run
        if run is None or run.energy is None:
            return None
        total += stage.reached * run.energy.joules
        methods.add(run.energy.method)
    return (total, methods.pop()) if len(methods) == 1 else None


def _holds(
    profile: StageProfile, variant: Variant, inventory: Inventory, mask: Iterable[int]
) -> bool:
    key = profile.key
    return (
        key.artifact == variant.artifact.sha256
        and key.runtime == inventory.runtime
        and key.kernel == inventory.kernel
        and set(key.cpus) == set(mask)
    )


@dataclass(frozen=True, slots=True)
class _Goal:
    """What is counted of a run: less is better."""

    wishes: Wishes
    in_joules: bool

    def spent(self, run: LayoutRun) -> float:
        """Return joules where all runs have them by one method, else CPU-ms."""
        return run.energy.joules if self.in_joules and run.energy is not None else run.cpu_ms

    def cost(self, run: LayoutRun) -> tuple[float, float]:
        """Return what the goal counts, then what breaks a tie."""
        if self.wishes.goal == "throughput":
            return -run.answers_per_s, self.spent(run)
        if self.wishes.goal == "energy" or self.wishes.latency_ms is not None:
            return self.spent(run), run.p95_ms
        return run.p95_ms, self.spent(run)

    def price(self, now: LayoutRun, faster: LayoutRun) -> float:
        """Return how much of the goal each millisecond gained costs."""
        return (self.cost(faster)[0] - self.cost(now)[0]) / (now.p95_ms - faster.p95_ms)


def _goal(tuned: Sequence[StageOptions], wishes: Wishes) -> _Goal:
    methods = {run.energy.method if run.energy else None for s in tuned for run in s.runs}
    return _Goal(wishes, in_joules=len(methods) == 1 and None not in methods)


def _without_pipeline(tuned: Sequence[StageOptions], wishes: Wishes) -> dict[str, LayoutRun]:
    """Choose what the goal likes best for each stage; then faster, until it is fast enough."""
    goal = _goal(tuned, wishes)
    single = {stage.name: _eligible(stage.runs, wishes) for stage in tuned}
    chosen = {name: min(runs, key=goal.cost) for name, runs in single.items()}
    while wishes.latency_ms is not None and answer_p95_ms(tuned, chosen) > wishes.latency_ms:
        faster = [
            (goal.price(chosen[stage.name], run), stage.name, run)
            for stage in tuned
            if stage.reached >= _OFTEN
            for run in single[stage.name]
            if run.p95_ms < chosen[stage.name].p95_ms
        ]
        if not faster:
            break
        _, name, run = min(faster, key=lambda step: step[0])
        chosen[name] = run
    return chosen


def _eligible(runs: Sequence[LayoutRun], wishes: Wishes) -> Sequence[LayoutRun]:
    """Return the runs that a stage by itself may have; all, where there is no other.

    Replicas make no answer sooner or cheaper, and each holds the weights in memory once more: they
    are for those who want more answers.
    """
    layouts = ("intra-op", "replicas") if wishes.goal == "throughput" else ("intra-op",)
    return [run for run in runs if run.layout in layouts] or runs


def _pipeline(
    tuned: Sequence[StageOptions], wishes: Wishes, single: Mapping[str, LayoutRun]
) -> dict[str, LayoutRun] | None:
    """Return the parts of a split model side by side, if that gives more answers in a second.

    Every part works all the time, so the slowest sets the pace: min of answers_per_s. Stages that
    take turns on the same CPUs give 1 / sum(reached / answers_per_s).
    """
    parts = {s.name: r for s in tuned for r in s.runs if r.layout == "pipeline"}
    is_split = len(tuned) > 1 and all(stage.chained for stage in tuned[1:])
    if wishes.goal != "throughput" or not is_split or len(parts) != len(tuned):
        return None
    if wishes.latency_ms is not None and answer_p95_ms(tuned, parts) > wishes.latency_ms:
        return None
    pace = min(run.answers_per_s for run in parts.values())
    turns_s = sum(s.reached / max(single[s.name].answers_per_s, 1e-9) for s in tuned)
    return parts if pace * turns_s > 1 else None


def _missed(
    stages: Sequence[StageOptions], choices: Mapping[str, Choice], wishes: Wishes
) -> tuple[str, ...]:
    said = []
    runs = {name: choice.run for name, choice in choices.items() if choice.run is not None}
    if wishes.latency_ms is not None:
        p95_ms = answer_p95_ms(stages, runs)
        if len(runs) < len(choices):
            said.append(f"cannot promise {wishes.latency_ms:g} ms: the device has not tuned yet")
        elif p95_ms > wishes.latency_ms:
            said.append(
                f"cannot answer within {wishes.latency_ms:g} ms: the stages' p95 add up to "
                f"{p95_ms:.3g} ms at best"
            )
    if wishes.joules is not None:
        said += _missed_joules(mean_joules(stages, choices), wishes.joules)
    return tuple(said)


def _missed_joules(found: tuple[float, str] | None, wanted: float) -> list[str]:
    if found is None:
        return [f"cannot promise {wanted:g} J: the energy of an answer is not known on this device"]
    joules, method = found
    if joules <= wanted:
        return []
    return [f"cannot answer with {wanted:g} J: it takes {joules:.3g} J (method {method})"]
