"""A trace, sample by sample, through governor and planner. Pure.

The loop is open: a trace's signals are what they were, whatever is decided now. What the models of
the recorded device took is in them, what the replayed ones would take is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.planner import PlannerPolicy
from controller.simulate.holding import Holding, fits_mib, holding
from controller.simulate.loops import Loops, Subject
from controller.simulate.trace import Trace, TraceLine
from protocols.bundle import Bundle
from protocols.desired import Desired
from protocols.device import Rungs
from protocols.governor import Change
from protocols.memory import leaves_room
from protocols.schedule import RUNGS, Ladder

STALE_INTERVALS = 2.5
"""A gap of one missing sample is bridged, as long as it is not more than a schedule allows anyway;
a wider one restarts the hold and never counts as quiet."""
_EPOCH_S = 1_000_000.0
"""When a trace that does not say it began. Any time will do; only what passes counts."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One sample, and where the device stood after it.

    Attributes:
        at_s: since the beginning.
        lasts_s: until the next sample; 0 where that is the last one, or too far away to know.
        line: of the trace.
        rungs: of the replay.
        desired: the document in force.
        holding: memory and threads that follow from both.
    """

    at_s: float
    lasts_s: float
    line: TraceLine
    rungs: Rungs
    desired: Desired
    holding: Holding


@dataclass(frozen=True, slots=True)
class Move:
    """A ladder has moved."""

    at_s: float
    change: Change


@dataclass(frozen=True, slots=True)
class Revision:
    """The planner has written a document; the first one is the deployment itself."""

    at_s: float
    desired: Desired


@dataclass(slots=True)
class Course:
    """All that came of a replay.

    Attributes:
        frames: one a sample, in order.
        moves: of both ladders.
        revisions: what the planner wrote.
        starts_s: when the agent had started anew.
        interval_s: between two samples, median.
        stale_s: a wider gap was taken as one.
        gaps_s: seconds that nothing is known of.
    """

    interval_s: float
    stale_s: float
    frames: list[Frame] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    revisions: list[Revision] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)
    gaps_s: float = 0.0

    @property
    def span_s(self) -> float:
        """From the first sample to the last."""
        return self.frames[-1].at_s

    def seconds_at(self, ladder: Ladder) -> tuple[float, ...]:
        """Return the seconds at each rung of a ladder, gaps left out."""
        found = [0.0] * RUNGS
        for frame in self.frames:
            found[_rung(frame.rungs, ladder)] += frame.lasts_s
        return tuple(found)

    def agreement(self, ladder: Ladder) -> float | None:
        """Return the share of samples at which the device reported the same rung.

        None: no line has rungs.
        """
        same = [
            _rung(frame.line.rungs, ladder) == _rung(frame.rungs, ladder)
            for frame in self.frames
            if frame.line.rungs is not None
        ]
        return sum(same) / len(same) if same else None


def replay(trace: Trace, subject: Subject, policy: PlannerPolicy) -> Course:
    """Replay a trace.

    Args:
        trace: its samples.
        subject: the device and what is deployed to it.
        policy: how patient the planner is.

    Raises:
        FitError: a cascade cannot run there.
    """
    first = trace.lines[0]
    loops = Loops(
        subject,
        0.0,
        policy,
        epoch_s=first.ts or _EPOCH_S,
        stale_s=STALE_INTERVALS * trace.interval_s,
        local_minute=first.local_minute,
    )
    stale_s = max(loops.desired.schedule.dwell.stale_s, STALE_INTERVALS * trace.interval_s)
    course = Course(trace.interval_s, stale_s, revisions=[Revision(0.0, loops.desired)])
    held = _Held(subject.bundles, subject.cpus)
    ends_s = (*trace.at_s[1:], trace.at_s[-1])
    for line, at_s, end_s, begins in zip(
        trace.lines, trace.at_s, ends_s, trace.begins, strict=True
    ):
        if begins:
            loops.start_again(at_s, line.local_minute)
            course.starts_s.append(at_s)
        _take(loops, held, course, line, (at_s, end_s))
    return course


def _take(
    loops: Loops, held: "_Held", course: Course, line: TraceLine, span_s: tuple[float, float]
) -> None:
    at_s, end_s = span_s
    sample = line.model_copy(update={"time_s": at_s})

    def fits(rung: int) -> bool:
        memory = loops.desired.schedule.thresholds.get("memory_available_percent")
        need_mib = fits_mib(loops.desired, held.bundles, loops.rungs, rung)
        return leaves_room(sample, need_mib, rung, memory)

    tick = loops.sense(sample, fits, line.local_minute)
    course.moves += [Move(at_s, change) for change in tick.changes]
    if tick.revision is not None:
        course.revisions.append(Revision(at_s, tick.revision))
    lasts_s = end_s - at_s if end_s - at_s <= course.stale_s else 0.0
    course.gaps_s += end_s - at_s - lasts_s
    rungs, desired = loops.rungs, loops.desired
    frame = Frame(at_s, lasts_s, line, rungs, desired, held.at(desired, rungs))
    course.frames.append(frame)


@dataclass(slots=True)
class _Held:
    """Remembers holdings: there are a few dozen, for tens of thousands of samples."""

    bundles: Mapping[str, Bundle]
    cpus: int | None
    found: dict[tuple[int, int, int], Holding] = field(default_factory=dict)

    def at(self, desired: Desired, rungs: Rungs) -> Holding:
        key = (desired.generation, rungs.residency, rungs.compute)
        if key not in self.found:
            self.found[key] = holding(desired, self.bundles, rungs, self.cpus)
        return self.found[key]


def _rung(rungs: Rungs, ladder: Ladder) -> int:
    return rungs.residency if ladder == "residency" else rungs.compute
