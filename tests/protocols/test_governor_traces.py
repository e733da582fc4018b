"""The governor's rules over 5,000 traces, and over square waves of many periods and duties.

What a rule says is worked out here from the trace alone, by its own few lines. Traces are drawn by
a seed, so that every run sees the same ones; `test_governor` lets hypothesis look for others.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, get_args

import pytest

from protocols.device import Sample
from protocols.governor import Step, start, step
from protocols.schedule import (
    DEFAULT_THRESHOLDS,
    LADDER_OF,
    WORST,
    Dwell,
    Ladder,
    Schedule,
    Signal,
)

TRACES, BATCHES = 5000, 10
LADDERS: tuple[Ladder, ...] = get_args(Ladder)
SIGNALS: tuple[Signal, ...] = get_args(Signal)
QUICK = Schedule(dwell=Dwell(hold_s=1, recover_s=2, up_moves_per_hour=2, stale_s=3))
CORE = QUICK.with_(dwell=QUICK.dwell.with_(up_moves_per_hour=1_000_000))
"""The core rule: tokens never run out, and where it is played everything fits."""
G, D, STALE_S = QUICK.dwell.hold_s, QUICK.dwell.recover_s, QUICK.dwell.stale_s

TAIL_GAP_S = 2.0
THROTTLED = (0.0, float(0b0100))


def lines(signal: Signal) -> tuple[float, ...]:
    """Values that ask for nothing, for each rung that has a line, and beyond the hard line."""
    threshold = DEFAULT_THRESHOLDS[signal]
    if signal == "throttled":
        return THROTTLED
    if signal == "low_voltage":
        return (0.0, 1.0)
    there = [line for line in (*threshold.enter, threshold.hard) if line is not None]
    return (there[0] + (10 if threshold.falling else -10), *there)


LINES = {signal: lines(signal) for signal in SIGNALS}


@dataclass(frozen=True, slots=True)
class Moment:
    """One sample of a trace: since the one before, and which line each signal has reached."""

    gap_s: float
    reached: dict[Signal, int]

    def values(self) -> dict[str, float]:
        return {signal: LINES[signal][index] for signal, index in self.reached.items()}


def drawn(rng: random.Random) -> tuple[list[Moment], list[Moment]]:
    """Return a trace, and one that presses at least as hard at every moment.

    A trace has a few signals, each of which mostly holds its value, is calm now and then, and is
    lost now and then for a while.
    """
    mild, hard = [], []
    now = {signal: rng.randrange(len(LINES[signal])) for signal in rng.sample(SIGNALS, 2)}
    lost: Signal | None = None
    for _ in range(rng.randint(10, 20)):
        for signal in now:
            if rng.random() < 0.25:
                now[signal] = rng.choice((0, rng.randrange(len(LINES[signal]))))
        if rng.random() < 0.15:
            lost = rng.choice((None, None, *now))
        there = {signal: index for signal, index in now.items() if signal != lost}
        gap_s = rng.choice((0.5, 1.0, 1.0, 1.0, 2.0, 4.0))
        mild.append(Moment(gap_s, there))
        more = {s: max(n, rng.randrange(len(LINES[s]))) for s, n in there.items()}
        hard.append(Moment(gap_s, more))
    return mild, hard


def samples(trace: Sequence[Moment]) -> list[Sample]:
    time_s, found = 0.0, []
    for moment in trace:
        time_s += moment.gap_s
        values: dict[str, Any] = {"battery_plugged": False, **moment.values()}
        if "throttled" in values:
            values["throttled"] = int(values["throttled"])
        found.append(Sample.model_construct(time_s=time_s, **values))
    return found


def play(trace: Sequence[Sample], schedule: Schedule, unfit_below: int = 0) -> list[Step]:
    """Play a trace on a machine into which rungs better than `unfit_below` never fit."""
    state, steps = start(0, schedule), []
    for sample in trace:
        steps.append(step(state, sample, schedule, lambda rung: rung >= unfit_below))
        state = steps[-1].state
    return steps


def path(steps: Sequence[Step], ladder: Ladder) -> list[int]:
    return [getattr(one.state, ladder).rung for one in steps]


@dataclass(frozen=True, slots=True)
class Truth:
    """What a trace says of one ladder at one moment, by the book.

    `held`: the worst rung that has been asked for at every moment of the hold. `lost`: a signal
    that was seen before is not there.
    """

    time_s: float
    demand: int
    held: int
    hard: bool
    lost: bool
    stale: bool


def truths(trace: Sequence[Moment], ladder: Ladder) -> list[Truth]:
    last: dict[Signal, int] = {}
    found: list[Truth] = []
    time_s = 0.0
    for moment in trace:
        time_s += moment.gap_s
        here = {s: asked(s, n) for s, n in moment.reached.items() if LADDER_OF[s] == ladder}
        last |= {signal: demand for signal, (demand, _) in here.items()}
        demand, stale = max(last.values(), default=0), moment.gap_s > STALE_S
        one = Truth(
            time_s,
            demand,
            0,
            any(hard for _, hard in here.values()),
            bool(last.keys() - here.keys()),
            stale,
        )
        found.append(one)
        found[-1] = Truth(time_s, demand, held(found), one.hard, one.lost, stale)
    return found


def asked(signal: Signal, index: int) -> tuple[int, bool]:
    """Return the rung that a line asks for, and whether it is the hard one."""
    threshold = DEFAULT_THRESHOLDS[signal]
    if signal == "throttled":
        return 2 * index, False
    if index == 0:
        return 0, False
    rungs = [rung for rung, line in enumerate(threshold.enter, 1) if line is not None]
    return (rungs[index - 1], False) if index <= len(rungs) else (WORST, True)


def held(past: Sequence[Truth]) -> int:
    """Return the smallest demand of the hold; 0: it began anew less than a hold ago."""
    least = WORST
    for one in reversed(past):
        least = min(least, one.demand)
        if past[-1].time_s - one.time_s >= G:
            return least
        if one.stale:
            return 0
    return 0


def check_down(found: Sequence[Truth], rungs: Sequence[int]) -> None:
    for before, (one, rung) in zip((0, *rungs), zip(found, rungs, strict=True), strict=False):
        if one.hard:
            assert rung == WORST, "a hard line did not act at its sample"
        assert rung >= one.held, "a soft line did not act when its hold was over"
        if rung > before:
            assert rung == (WORST if one.hard else one.held), "entered what was not held"


def check_up(found: Sequence[Truth], rungs: Sequence[int], tokens: int) -> None:
    changed_s, ups, moves = -math.inf, 0, 0
    for before, (one, rung) in zip((0, *rungs), zip(found, rungs, strict=True), strict=False):
        if rung < before:
            assert rung == before - 1
            assert one.time_s - changed_s >= D
            assert not one.lost, "moved up although a signal was lost"
            assert not one.stale, "moved up on a late sample"
            assert one.demand < before
            ups += 1
        if rung != before:
            changed_s, moves = one.time_s, moves + 1
    assert ups <= tokens
    assert moves <= 2 * tokens + WORST


def check_recovery(trace: Sequence[Moment]) -> None:
    """All signals back and calm: the best rung is reached within rungs x D and one sample."""
    count = math.ceil((WORST * D) / TAIL_GAP_S) + 1
    calm = [Moment(TAIL_GAP_S, dict.fromkeys(SIGNALS, 0))] * count
    end = play(samples([*trace, *calm]), CORE)[-1].state
    assert (end.residency.rung, end.compute.rung) == (0, 0)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_rule_over_5000_traces(batch: int) -> None:
    rng = random.Random(batch)  # noqa: S311 - the same traces in every run
    played = 0
    for _ in range(TRACES // BATCHES):
        mild, hard = drawn(rng)
        free, harder = play(samples(mild), CORE), play(samples(hard), CORE)
        bound = play(samples(mild), QUICK, unfit_below=rng.choice((0, 0, 1, 2, 3)))
        for ladder in LADDERS:
            least, more, mine = path(free, ladder), path(harder, ladder), path(bound, ladder)
            assert all(a <= b for a, b in zip(least, more, strict=True)), "not monotone"
            assert all(a <= b for a, b in zip(least, mine, strict=True)), "beyond the core rule"
            found = truths(mild, ladder)
            check_down(found, mine)
            check_up(found, mine, QUICK.dwell.up_moves_per_hour)
        if played % 4 == 0:
            check_recovery(mild)
        played += 1
    assert played * BATCHES >= 5000


def test_the_traces_reach_every_rung_and_every_rule() -> None:
    """Else the properties would hold for nothing."""
    rng = random.Random(0)  # noqa: S311 - the same traces in every run
    seen, ups, lost, hard, waits = set(), 0, 0, 0, 0
    for _ in range(200):
        mild, _ = drawn(rng)
        steps = play(samples(mild), QUICK)
        for ladder in LADDERS:
            rungs, found = path(steps, ladder), truths(mild, ladder)
            seen |= {(ladder, rung) for rung in rungs}
            ups += sum(after < before for before, after in pairwise(rungs))
            lost += sum(one.lost for one in found)
            hard += sum(one.hard for one in found)
            waits += sum("are spent" in getattr(one.state, ladder).waits for one in steps)
    assert seen == set(product(LADDERS, range(WORST + 1)))
    assert min(ups, lost, hard, waits) > 20


# --- square waves --------------------------------------------------------------------------------

HOUR_S = 3600.0
HEAT = (40.0, 70.0, 75.0, 79.0, 82.0, 83.0)
"""Temperatures that ask for rung 0 to 4, and the hard one."""
HOT = Schedule(thresholds={"temperature_c": DEFAULT_THRESHOLDS["temperature_c"]})
INTERVAL_S = 2.5
LEVELS = ((0, 1), (0, 4), (0, 5), (1, 3), (3, 5))
LOW_S = (60.0, 120.0, 122.5, 402.5)
HIGH_S = (2.5, 7.5, 105.0)


def most_transitions_in_an_hour(low: int, high: int, low_s: float, high_s: float) -> int:
    """Play an hour of a square wave, whose tokens are all there when it begins, and a bit more."""
    state, moved_s = start(0, HOT), []
    for n in range(1, int(1.1 * HOUR_S / INTERVAL_S)):
        time_s = n * INTERVAL_S
        level = high if time_s % (low_s + high_s) >= low_s else low
        sample = Sample.model_construct(time_s=time_s, temperature_c=HEAT[level])
        found = step(state, sample, HOT, lambda _: True)
        state = found.state
        moved_s += [time_s] * len(found.changes)
    return max((sum(t <= s < t + HOUR_S for s in moved_s) for t in moved_s), default=0)


@pytest.mark.parametrize("levels", LEVELS)
def test_no_square_wave_makes_more_than_15_transitions_an_hour(levels: tuple[int, int]) -> None:
    """Tokens decide it: a fall of several rungs is one transition, winning it back is several."""
    worst = max(
        (most_transitions_in_an_hour(*levels, low_s, high_s), low_s, high_s)
        for low_s, high_s in product(LOW_S, HIGH_S)
    )
    assert worst[0] <= 15, worst
