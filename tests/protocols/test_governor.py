"""The governor's rules, each as a property, and its words; `test_governor_traces` plays many more.

`play` runs a whole trace. The core rule is the governor without what may only hold a ladder down:
its token bucket never empties and everything fits.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protocols.device import Sample
from protocols.governor import Change, State, Step, due_s, rungs, start, step
from protocols.schedule import (
    DEFAULT_THRESHOLDS,
    LADDER_OF,
    WORST,
    Dwell,
    Ladder,
    Schedule,
    Signal,
    Threshold,
    Window,
)

HOUR_S = 3600.0
DEFAULT = Schedule()
G = DEFAULT.dwell.hold_s
D = DEFAULT.dwell.recover_s
QUICK = Schedule(dwell=Dwell(hold_s=2, recover_s=5, up_moves_per_hour=3, stale_s=4))
LADDERS: tuple[Ladder, ...] = get_args(Ladder)

SIGNALS: tuple[Signal, ...] = get_args(Signal)
Values = dict[Signal, float | None]


def sample(time_s: float, **values: float | None) -> Sample:
    return Sample.model_validate({"time_s": time_s, **values})


def unchecked(time_s: float, values: Values) -> Sample:
    """A sample that may hold what validation would refuse, such as NaN."""
    return Sample(time_s=0).model_copy(update={"time_s": time_s} | dict(values))


def anything(_: int) -> bool:
    return True


def nothing(_: int) -> bool:
    return False


def memory(time_s: float, percent: float | None) -> Sample:
    return sample(time_s, memory_available_percent=percent)


def play(
    samples: Iterable[Sample],
    schedule: Schedule = DEFAULT,
    fits: Callable[[int], bool] = anything,
    begin: State | None = None,
) -> list[Step]:
    state = start(0, schedule) if begin is None else begin
    steps = []
    for one in samples:
        steps.append(step(state, one, schedule, fits))
        state = steps[-1].state
    return steps


def core(schedule: Schedule) -> Schedule:
    dwell = schedule.dwell.with_(up_moves_per_hour=1_000_000)
    return schedule.with_(dwell=dwell)


def rung(state: State, ladder: Ladder) -> int:
    return getattr(state, ladder).rung  # type: ignore[no-any-return]


def path(steps: Sequence[Step], ladder: Ladder) -> list[int]:
    return [rung(one.state, ladder) for one in steps]


def changes(steps: Sequence[Step]) -> list[tuple[float, Change]]:
    return [(one.state.time_s, change) for one in steps for change in one.changes]


# --- strategies: traces in which every signal may press, be absent, or be garbage ---------------


def line_values(signal: Signal) -> list[float]:
    """Values around every line of a signal, from no pressure to the most."""
    threshold = DEFAULT_THRESHOLDS[signal]
    if signal == "throttled":
        return [0, 0x50001, 0b0010, 0b1110]
    if signal == "low_voltage":
        return [0, 1]
    lines = [line for line in (*threshold.enter, threshold.hard) if line is not None]
    beyond = 1.0 if threshold.falling else -1.0
    return [lines[0] + 10 * beyond, *lines]


def pressing(signal: Signal) -> st.SearchStrategy[float]:
    return st.sampled_from(line_values(signal))


gaps = st.sampled_from([0.5, 1.0, 1.0, 1.0, 2.0, 3.0, 6.0])


@st.composite
def readings(draw: st.DrawFn) -> Values:
    """Signals of one sample: any of them may be missing."""
    values: Values = {}
    for signal in draw(st.sets(st.sampled_from(SIGNALS), max_size=3)):
        values[signal] = draw(pressing(signal))
    return values


Trace = list[tuple[float, Values]]
traces = st.lists(st.tuples(gaps, readings()), max_size=60)


def as_samples(trace: Trace) -> list[Sample]:
    time_s, samples = 0.0, []
    for gap_s, values in trace:
        time_s += gap_s
        samples.append(sample(time_s, battery_plugged=False, **values))
    return samples


def harder(draw: st.DrawFn, values: Values) -> Values:
    """The same signals, each with as much pressure or more."""
    worse: Values = {}
    for signal, value in values.items():
        assert value is not None
        more = [v for v in line_values(signal) if presses(signal, v) >= presses(signal, value)]
        worse[signal] = draw(st.sampled_from(more))
    return worse


def presses(signal: Signal, value: float) -> float:
    if signal == "throttled":
        return float(int(value) & 0b1110 != 0)
    return -value if DEFAULT_THRESHOLDS[signal].falling else value


@st.composite
def trace_pairs(draw: st.DrawFn) -> tuple[Trace, Trace]:
    mild = draw(traces)
    return mild, [(gap_s, harder(draw, values)) for gap_s, values in mild]


# --- monotone ------------------------------------------------------------------------------------


@given(trace_pairs())
@settings(max_examples=80, deadline=None)
def test_core_rule_is_monotone_over_whole_traces(pair: tuple[Trace, Trace]) -> None:
    mild, hard = (play(as_samples(trace), core(QUICK)) for trace in pair)
    for ladder in LADDERS:
        for less, more in zip(path(mild, ladder), path(hard, ladder), strict=True):
            assert less <= more


@given(traces, st.data(), st.integers(0, WORST + 1))
@settings(max_examples=80, deadline=None)
def test_whole_governor_is_monotone_from_any_state(
    history: Trace, data: st.DataObject, unfit_below: int
) -> None:
    steps = play(as_samples(history), QUICK)
    state = steps[-1].state if steps else start(0, QUICK)
    gap_s, mild = data.draw(gaps), data.draw(readings())
    hard = data.draw(st.composite(harder)(mild))
    outcomes = [
        step(
            state,
            sample(state.time_s + gap_s, battery_plugged=False, **values),
            QUICK,
            lambda residency: residency >= unfit_below,
        ).state
        for values in (mild, hard)
    ]
    for ladder in LADDERS:
        assert rung(outcomes[0], ladder) <= rung(outcomes[1], ladder)


@given(traces, st.integers(0, WORST + 1))
@settings(max_examples=80, deadline=None)
def test_tokens_and_fits_never_make_it_more_permissive(trace: Trace, unfit_below: int) -> None:
    samples = as_samples(trace)
    free = play(samples, core(QUICK))
    bound = play(samples, QUICK, lambda residency: residency >= unfit_below)
    for ladder in LADDERS:
        for less, more in zip(path(free, ladder), path(bound, ladder), strict=True):
            assert less <= more


@given(traces, st.integers(0, WORST), st.integers(0, WORST))
@settings(max_examples=40, deadline=None)
def test_a_window_never_makes_it_more_permissive(
    trace: Trace, residency: int, compute: int
) -> None:
    quiet = Window(start_minute=60, end_minute=120, residency=residency, compute=compute)
    windowed = core(QUICK).with_(windows=(quiet,))
    without, within = start(0, core(QUICK)), start(0, windowed, local_minute=60)
    for one in as_samples(trace):
        without = step(without, one, core(QUICK), anything).state
        within = step(within, one, windowed, anything, local_minute=60).state
        assert max(without.residency.rung, residency) <= within.residency.rung
        assert max(without.compute.rung, compute) <= within.compute.rung


# --- down ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("signal", [s for s in SIGNALS if DEFAULT_THRESHOLDS[s].hard is not None])
def test_a_hard_line_acts_at_the_next_sample(signal: Signal) -> None:
    hard = sample(1, **{signal: DEFAULT_THRESHOLDS[signal].hard})
    assert rung(play([hard])[-1].state, LADDER_OF[signal]) == WORST


@given(traces, st.sampled_from([0.1, 1.0, 100.0]))
@settings(max_examples=40, deadline=None)
def test_a_hard_line_acts_from_any_state_and_after_any_gap(history: Trace, gap_s: float) -> None:
    steps = play(as_samples(history))
    state = steps[-1].state if steps else start(0, DEFAULT)
    after = step(state, memory(state.time_s + gap_s, 6), DEFAULT, anything).state
    assert after.residency.rung == WORST


SOFT = [
    (signal, rung_, line)
    for signal in SIGNALS
    for rung_, line in enumerate(DEFAULT_THRESHOLDS[signal].enter, 1)
    if line is not None
]


@pytest.mark.parametrize(("signal", "entered", "line"), SOFT)
@pytest.mark.parametrize("interval_s", [0.3, 1.0, 2.5, 6.0])
def test_a_soft_line_acts_after_the_hold_and_within_one_more_sample(
    signal: Signal, entered: int, line: float, interval_s: float
) -> None:
    value = 0b0100 if signal == "throttled" else line
    times = [interval_s * n for n in range(1, 40)]
    steps = play(sample(t, battery_plugged=False, **{signal: value}) for t in times)
    [(acted_s, change)] = changes(steps)
    assert (change.ladder, change.before, change.after) == (LADDER_OF[signal], 0, entered)
    held_s = acted_s - times[0]
    assert G - 1e-6 <= held_s <= G + interval_s + 1e-6


@given(traces)
@settings(max_examples=80, deadline=None)
def test_only_what_was_asked_for_over_the_whole_hold_is_entered(trace: Trace) -> None:
    """A worse rung needs each sample of the hold to ask for it, or a hard line now."""
    samples = as_samples(trace)
    steps = play(samples, QUICK)
    for index, one in enumerate(steps):
        for change in (c for c in one.changes if c.after > c.before):
            lines = [(s, t) for s, t in DEFAULT_THRESHOLDS.items() if LADDER_OF[s] == change.ladder]
            if any(crossed(t.hard, t, value_of(samples[index], s)) for s, t in lines):
                continue
            begin = samples[index].time_s - QUICK.dwell.hold_s
            covering = [i for i in range(index + 1) if samples[i].time_s <= begin]
            assert covering, "entered before the hold was over"
            for i in range(covering[-1], index + 1):
                assert last_demand(samples[: i + 1], change.ladder) >= change.after


def value_of(one: Sample, signal: Signal) -> float | None:
    value = getattr(one, signal)
    if value is None:
        return None
    return float(value & 0b1110 != 0) if signal == "throttled" else value


def crossed(line: float | None, threshold: Threshold, value: float | None) -> bool:
    if line is None or value is None:
        return False
    return value <= line if threshold.falling else value >= line


def last_demand(history: Sequence[Sample], ladder: Ladder) -> int:
    """The largest demand of the last value of every signal, by the book."""
    worst = 0
    for signal, threshold in DEFAULT_THRESHOLDS.items():
        seen = [v for one in history if (v := value_of(one, signal)) is not None]
        if LADDER_OF[signal] != ladder or not seen:
            continue
        lines = [*threshold.enter, threshold.hard]
        reached = [
            min(n, WORST) for n, ln in enumerate(lines, 1) if crossed(ln, threshold, seen[-1])
        ]
        worst = max([worst, *reached])
    return worst


def test_a_dip_below_the_line_begins_the_hold_anew() -> None:
    values = [10, 10, 10, 30, 10, 10, 10, 10]
    steps = play(memory(t, v) for t, v in enumerate(values, 1))
    assert path(steps, "residency") == [0] * 8


def test_the_smallest_demand_of_the_hold_is_entered() -> None:
    values = [17, 12, 7, 12, 24, 7, 7, 7, 7]
    steps = play(memory(t, v) for t, v in enumerate(values, 1))
    assert path(steps, "residency") == [0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_it_says_when_a_hold_will_be_over() -> None:
    assert due_s(start(0, DEFAULT), DEFAULT) is None
    begun = play([memory(1, 30), memory(2, 20), memory(3, 12)])[-1].state
    assert due_s(begun, DEFAULT) == 2 + DEFAULT.dwell.hold_s
    moved = step(begun, memory(6, 12), DEFAULT, anything).state
    assert (moved.residency.rung, due_s(moved, DEFAULT)) == (1, 3 + DEFAULT.dwell.hold_s)
    calm = step(moved, memory(6.5, 60), DEFAULT, anything).state
    assert due_s(calm, DEFAULT) is None


def test_several_rungs_at_once() -> None:
    steps = play(memory(t, 7) for t in range(1, 8))
    assert path(steps, "residency") == [0, 0, 0, 0, 4, 4, 4]


def test_without_a_hold_every_sample_acts() -> None:
    quick = Schedule(dwell=Dwell(hold_s=0))
    assert path(play([memory(1, 20)], quick), "residency") == [1]


def test_the_ladders_are_apart() -> None:
    steps = play(sample(t, foreign_cpu_percent=99) for t in range(1, 8))
    assert path(steps, "residency")[-1] == 0
    assert path(steps, "compute")[-1] == WORST


def test_memory_is_sampled_again_before_an_unload() -> None:
    """The fresh sample is stepped from the old state; what the first step said is forgotten."""
    held = play(memory(t, 17) for t in range(1, 5))[-1].state
    assert step(held, memory(5, 17), DEFAULT, anything).state.residency.rung == 2
    again = step(held, memory(5.01, 60), DEFAULT, anything)
    assert again.changes == ()
    assert again.state.residency.rung == 0
    still = step(held, memory(5.01, 12), DEFAULT, anything)
    assert still.state.residency.rung == 2


# --- up ------------------------------------------------------------------------------------------


@given(
    st.sampled_from([s for s in SIGNALS if s != "throttled"]),
    st.integers(1, WORST),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.integers(5, 200),
)
@settings(max_examples=30, deadline=None)
def test_full_recovery_after_one_episode(
    signal: Signal, level: int, interval_s: float, pressed: int
) -> None:
    threshold = DEFAULT_THRESHOLDS[signal]
    line = threshold.enter[level - 1]
    assume(line is not None and pressed * interval_s > G)
    free = line_values(signal)[0]
    calm = math.ceil((level * D) / interval_s) + level + 1
    values = [line] * pressed + [free] * calm
    steps = play(
        sample(n * interval_s, battery_plugged=False, **{signal: value})
        for n, value in enumerate(values, 1)
    )
    ladder = LADDER_OF[signal]
    assert rung(steps[pressed].state, ladder) == level
    assert rung(steps[-1].state, ladder) == 0
    ups = [(t, c) for t, c in changes(steps) if c.after < c.before]
    assert [(c.before, c.after) for _, c in ups] == [(n, n - 1) for n in range(level, 0, -1)]
    moments = [pressed * interval_s, *(t for t, _ in ups)]
    for earlier, later in pairwise(moments):
        assert D <= later - earlier <= D + interval_s


@given(traces)
@settings(max_examples=80, deadline=None)
def test_up_is_always_one_rung_a_dwell_apart(trace: Trace) -> None:
    for ladder in LADDERS:
        last_s = -math.inf
        for time_s, change in changes(play(as_samples(trace), QUICK)):
            if change.ladder != ladder:
                continue
            if change.after < change.before:
                assert change.after == change.before - 1
                assert time_s - last_s >= QUICK.dwell.recover_s
            last_s = time_s


def test_no_recovery_while_the_sample_asks_for_the_rung() -> None:
    """A spike too short to be held still says that this is not the moment."""
    entered = play(memory(t, 17) for t in range(1, 6))[-1].state
    calm = play((memory(t, 60) for t in range(6, 125)), begin=entered)[-1].state
    assert calm.residency.rung == 2
    spike = step(calm, memory(125, 17), DEFAULT, anything).state
    assert spike.residency.rung == 2
    assert step(spike, memory(126, 60), DEFAULT, anything).state.residency.rung == 1


def test_fits_holds_the_residency_ladder_alone_and_is_asked_for_the_next_rung() -> None:
    asked: list[int] = []

    def fits(residency: int) -> bool:
        asked.append(residency)
        return False

    pressed = [sample(t, memory_available_percent=12, foreign_cpu_percent=90) for t in range(1, 6)]
    calm = [sample(t, memory_available_percent=60, foreign_cpu_percent=0) for t in range(6, 500)]
    steps = play([*pressed, *calm], fits=fits)
    assert path(steps, "residency")[-1] == 3
    assert path(steps, "compute")[-1] == 0
    assert set(asked) == {2}
    assert rungs(steps[-1].state).residency_cause.endswith(
        "; recovery waits: R2 does not fit into memory"
    )


# --- a sample that is missing, not a number, or late -------------------------------------------


@given(traces, st.sampled_from(SIGNALS), st.booleans())
@settings(max_examples=80, deadline=None)
def test_a_signal_that_is_lost_never_moves_up(history: Trace, lost: Signal, nan: bool) -> None:  # noqa: FBT001
    """Whatever the rest of the sample says, the ladder of a signal once seen does not recover."""
    seen: Values = {lost: line_values(lost)[1]}
    samples = as_samples([*history, (1.0, seen)])
    state = play(samples, QUICK)[-1].state
    ladder = LADDER_OF[lost]
    free: Values = {s: line_values(s)[0] for s in SIGNALS if s != "throttled"}
    free[lost] = math.nan if nan else None
    for n in range(1, 40):
        garbage = unchecked(samples[-1].time_s + n, free)
        after = step(state, garbage, QUICK, anything).state
        assert rung(after, ladder) >= rung(state, ladder)
        state = after


def test_the_peak_hold_stands_still_while_a_signal_is_lost() -> None:
    pressed = [memory(t, 17) for t in range(1, 6)]
    calm = [memory(t, 60) for t in range(6, 105)]
    blind = [memory(t, None) for t in range(105, 1000)]
    seen = [memory(t, 60) for t in range(1000, 1100)]
    steps = play([*pressed, *calm, *blind, *seen])
    [_, (recovered_s, change)] = changes(steps)
    assert change.after == 1
    assert recovered_s == pytest.approx(5 + D + len(blind), abs=1)
    waiting = rungs(steps[500].state).residency_cause
    assert waiting.endswith("; recovery waits: memory available cannot be read")


def test_a_lost_signal_keeps_its_last_demand() -> None:
    values = [17, 17, None, None, None, None]
    steps = play(memory(t, v) for t, v in enumerate(values, 1))
    assert path(steps, "residency") == [0, 0, 0, 0, 2, 2]
    assert "cannot be read, but asked for rung 2 when last seen" in changes(steps)[0][1].cause


def test_a_signal_never_seen_is_no_signal() -> None:
    pressed = [sample(t, foreign_cpu_percent=75, battery_percent=None) for t in range(1, 6)]
    calm = [sample(t, foreign_cpu_percent=5, battery_percent=None) for t in range(6, 400)]
    assert path(play([*pressed, *calm]), "compute")[-1] == 0


@pytest.mark.parametrize("late_s", [10.5, 3000.0, -5.0, math.nan])
def test_a_late_sample_never_moves_up(late_s: float) -> None:
    """Not even where recovery is long due and only waited for room."""
    due = [memory(t, 17 if t < 6 else 60) for t in range(1, 200)]
    state = play(due, fits=nothing)[-1].state
    late = unchecked(state.time_s + late_s, {"memory_available_percent": 60.0})
    assert step(state, late, DEFAULT, anything).state.residency.rung == 2


def test_the_time_without_samples_does_not_count_as_recovery() -> None:
    before = play(memory(t, 17 if t < 6 else 60) for t in range(1, 100))[-1].state
    after = play((memory(t, 60) for t in range(5000, 5100)), begin=before)
    [(recovered_s, _)] = changes(after)
    assert recovered_s == pytest.approx(5000 + D - (99 - 5), abs=1)


def test_a_late_sample_begins_the_hold_anew() -> None:
    times = [1, 2, 3, 20, 21, 22, 23, 24]
    steps = play(memory(t, 17) for t in times)
    assert [(t, c.after) for t, c in changes(steps)] == [(24, 2)]


# --- tokens --------------------------------------------------------------------------------------


@given(traces, st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_tokens_bound_recoveries_in_any_hour(trace: Trace, tokens: int) -> None:
    eager = Schedule(dwell=Dwell(hold_s=0.5, recover_s=0.5, up_moves_per_hour=tokens, stale_s=10))
    stretched = [(gap_s, values) for gap_s, values in trace for _ in range(4)]
    for ladder in LADDERS:
        ups = [
            t
            for t, c in changes(play(as_samples(stretched), eager))
            if c.ladder == ladder and c.after < c.before
        ]
        assert most_in_any_hour(ups) <= tokens


def test_a_token_comes_back_an_hour_after_it_was_spent() -> None:
    eager = Schedule(dwell=Dwell(hold_s=0, recover_s=1, up_moves_per_hour=1, stale_s=10))
    values = [17, *([60] * 4000)]
    steps = play((memory(t, v) for t, v in enumerate(values, 1)), eager)
    ups = [t for t, c in changes(steps) if c.after < c.before]
    assert [later - earlier for earlier, later in pairwise(ups)] == [HOUR_S]
    assert rungs(steps[100].state).residency_cause.endswith(
        "; recovery waits: 1 of 1 moves up of the last hour are spent"
    )


def most_in_any_hour(times: Sequence[float]) -> int:
    return max((sum(t <= other < t + HOUR_S for other in times) for t in times), default=0)


@given(traces)
@settings(max_examples=60, deadline=None)
def test_any_trace_at_all_is_bounded_by_its_tokens(trace: Trace) -> None:
    """Each move down is at least a rung, and only as many rungs are won back as tokens spent."""
    found = changes(play(as_samples(trace), QUICK))
    for ladder in LADDERS:
        moves = [t for t, c in found if c.ladder == ladder]
        assert most_in_any_hour(moves) <= 2 * QUICK.dwell.up_moves_per_hour + WORST


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plugged", "percent", "expected"),
    [(False, 10, 3), (None, 10, 3), (True, 10, 0), (True, None, 0), (False, None, 0)],
)
def test_a_battery_asks_only_while_unplugged(
    plugged: bool | None,  # noqa: FBT001
    percent: float | None,
    expected: int,
) -> None:
    steps = play(sample(t, battery_percent=percent, battery_plugged=plugged) for t in range(1, 8))
    assert path(steps, "compute")[-1] == expected


def test_plugging_in_lets_a_battery_recover_even_if_its_charge_is_no_longer_told() -> None:
    low = [sample(t, battery_percent=10, battery_plugged=False) for t in range(1, 8)]
    charging = [sample(t, battery_percent=None, battery_plugged=True) for t in range(8, 400)]
    assert path(play([*low, *charging]), "compute")[-1] == 0


@pytest.mark.parametrize(
    ("word", "expected"),
    [(0, 0), (0b0001, 0), (0xF0000, 0), (0b0010, 2), (0b0100, 2), (0b1000, 2), (0x50005, 2)],
)
def test_throttling_counts_while_it_lasts(word: int, expected: int) -> None:
    steps = play(sample(t, throttled=word) for t in range(1, 8))
    assert path(steps, "compute")[-1] == expected


def test_signals_that_the_schedule_does_not_name_ask_for_nothing() -> None:
    schedule = Schedule(thresholds={})
    steps = play((memory(t, 1) for t in range(1, 20)), schedule)
    assert path(steps, "residency")[-1] == 0


def test_a_schedule_may_change_between_samples() -> None:
    state = play(memory(t, 50) for t in range(1, 8))[-1].state
    strict = Schedule(
        thresholds={
            "memory_available_percent": Threshold(enter=(60, 50, 40, 30), hard=20, falling=True)
        }
    )
    steps = play((memory(t, 50) for t in range(8, 14)), strict, begin=state)
    assert path(steps, "residency")[-1] == 2


# --- windows -------------------------------------------------------------------------------------

NIGHT = Window(start_minute=22 * 60, end_minute=6 * 60, compute=3, residency=1)
QUIET = Schedule(windows=(NIGHT,))


@pytest.mark.parametrize(
    ("minute", "is_night"),
    [(22 * 60, True), (0, True), (359, True), (360, False), (720, False), (1319, False)],
)
def test_a_window_may_span_midnight(minute: int, is_night: bool) -> None:  # noqa: FBT001
    state = step(start(0, QUIET), memory(1, 60), QUIET, anything, minute).state
    assert (state.residency.rung, state.compute.rung) == ((1, 3) if is_night else (0, 0))
    begun = start(0, QUIET, minute)
    assert (begun.residency.rung, begun.compute.rung) == ((1, 3) if is_night else (0, 0))


def test_a_window_that_ends_where_it_starts_lasts_all_day() -> None:
    always = Schedule(windows=(Window(start_minute=0, end_minute=0, compute=1),))
    for minute in (0, 700, 1439):
        assert start(0, always, minute).compute.rung == 1


def test_without_a_clock_no_window_applies() -> None:
    assert step(start(0, QUIET), memory(1, 60), QUIET, anything).changes == ()


def test_a_window_says_so_and_is_left_rung_by_rung() -> None:
    state = step(start(0, QUIET), memory(1, 60), QUIET, anything, 0).state
    assert rungs(state).compute_cause == "time window 22:00-06:00"
    found = [state.compute.rung]
    for t in range(2, 400):
        state = step(state, memory(t, 60), QUIET, anything, 720).state
        if state.compute.rung != found[-1]:
            found.append(state.compute.rung)
    assert found == [3, 2, 1, 0]


def test_an_agent_that_starts_in_a_window_starts_on_its_rungs() -> None:
    state = start(0, QUIET, 23 * 60)
    assert rungs(state).model_dump() == {
        "residency": 1,
        "compute": 3,
        "residency_cause": "time window 22:00-06:00",
        "compute_cause": "time window 22:00-06:00",
        "request_interval_s": 0.0,
    }


# --- spacing of requests -------------------------------------------------------------------------


def test_requests_are_spaced_by_aimd_at_c3() -> None:
    pressed = [sample(t, foreign_cpu_percent=90) for t in range(1, 13)]
    intervals = [one.state.request_interval_s for one in play(pressed)]
    assert intervals == pytest.approx([0] * 4 + [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])


def test_the_spacing_falls_by_a_fixed_amount_and_ends_with_c3() -> None:
    pressed = [sample(t, foreign_cpu_percent=90) for t in range(1, 9)]
    calm = [sample(t, foreign_cpu_percent=0) for t in range(9, 140)]
    steps = play([*pressed, *calm])
    intervals = [one.state.request_interval_s for one in steps]
    assert intervals[7:14] == pytest.approx([0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1])
    assert intervals[20] == pytest.approx(0.05)
    assert [i for i, c in zip(intervals, path(steps, "compute"), strict=True) if c != 3] == (
        [0.0] * sum(c != 3 for c in path(steps, "compute"))
    )
    assert rungs(steps[7].state).request_interval_s == pytest.approx(0.4)


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"memory_available_percent": 11.04}, "memory available 11 % <= 13 % for 4 s"),
        ({"memory_available_percent": 5.5}, "memory available 5.5 % <= 6 % (hard)"),
        ({"psi_memory_full_avg10": 12}, "memory pressure (full) 12 % >= 10 % (hard)"),
        ({"foreign_cpu_percent": 72.5}, "foreign CPU 72.5 % >= 70 % for 4 s"),
        ({"throttled": 0x50005}, "throttled by the firmware for 4 s"),
        (
            {"temperature_c": 76, "foreign_cpu_percent": 55},
            "temperature 76 C >= 75 C for 4 s",
        ),
    ],
)
def test_a_change_says_why(values: dict[str, float], cause: str) -> None:
    found = changes(play(sample(t, **values) for t in range(1, 7)))
    assert [change.cause for _, change in found] == [cause]


def test_a_recovery_says_why() -> None:
    steps = play(memory(t, 17 if t < 6 else 60) for t in range(1, 260))
    assert [change.cause for _, change in changes(steps)][1:] == [
        "recovered: nothing above R1 for 120 s",
        "recovered: nothing above R0 for 120 s",
    ]
    assert rungs(steps[-1].state).residency_cause == "recovered: nothing above R0 for 120 s"


@given(traces)
@settings(max_examples=40, deadline=None)
def test_every_change_has_a_cause_and_the_state_stays_small(trace: Trace) -> None:
    steps = play(as_samples(trace), QUICK)
    assert all(change.cause for _, change in changes(steps))
    for one in steps:
        assert len(one.state.demands) <= len(SIGNALS)
        for stand in (one.state.residency, one.state.compute):
            assert len(stand.since_s) == WORST
            assert len(stand.ups_s) <= QUICK.dwell.up_moves_per_hour
        assert rungs(one.state).residency == one.state.residency.rung
