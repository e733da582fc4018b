"""The reflex that keeps a device alive: samples in, rungs of both ladders out. Pure.

On each ladder every signal asks for a rung (0: none); the ladder's demand is the largest.

* Down (to a worse rung): the level that the demand has held for `hold_s` is entered, several
  rungs at once if need be. A hard line enters rung 4 at that very sample. A time window puts a
  floor under its rungs.
* Up (recovery): one rung at a time, each after `recover_s` in which no level above the next one
  was held: a peak-hold that decays by a rung per `recover_s`. It also needs a token (at most
  `up_moves_per_hour` in any trailing hour, per ladder), for the residency ladder that `fits`
  agrees, and a sample that can be trusted.
* A signal never seen on this machine is no signal. One that was seen and is now null or not a
  number keeps its last demand and blocks the recovery of its ladder, whose peak-hold does not
  decay meanwhile. A gap of more than `stale_s` between samples restarts the hold, and does not
  count as time of recovery.

Without tokens and `fits`, a trace with more pressure never stands on a more permissive rung at any
moment; tokens and `fits` can only hold a ladder down.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from protocols.device import Rungs, Sample
from protocols.schedule import (
    LADDER_OF,
    WORST,
    Dwell,
    Ladder,
    Schedule,
    Signal,
    Threshold,
    Window,
)

_HOUR_S = 3600.0
_THROTTLED_NOW = 0b1110
"""Bits 1 to 3 of the firmware word: clock capped, throttled, soft temperature limit, all now."""

_SPACED = 3
"""The compute rung at which requests are spaced."""
_INTERVAL_MIN_S = 0.05
_INTERVAL_MAX_S = 2.0
_INTERVAL_FALL_S = 0.05

_LETTER: dict[Ladder, str] = {"residency": "R", "compute": "C"}
_WORDS: dict[Signal, tuple[str, str]] = {
    "memory_available_percent": ("memory available", " %"),
    "psi_memory_some_avg10": ("memory pressure (some)", " %"),
    "psi_memory_full_avg10": ("memory pressure (full)", " %"),
    "foreign_cpu_percent": ("foreign CPU", " %"),
    "temperature_c": ("temperature", " C"),
    "throttled": ("throttled", ""),
    "low_voltage": ("supply voltage", ""),
    "battery_percent": ("battery", " %"),
    "battery_temperature_c": ("battery temperature", " C"),
}

Since = tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Stand:
    """Where one ladder stands. All times are of the monotonic clock, in seconds."""

    rung: int
    peak_s: float
    """The peak-hold decays from here: the level of this rung was last held, or just entered."""
    since_s: Since = (None,) * WORST
    """For each of rungs 1 to 4: since when, without a break, it has been asked for."""
    ups_s: tuple[float, ...] = ()
    """When tokens were spent, in the last hour."""
    cause: str = ""
    """Why it came to this rung."""
    waits: str = ""
    """Why it does not recover although it would otherwise; empty: nothing is in its way."""


@dataclass(frozen=True, slots=True)
class State:
    """What the governor remembers between samples: a few numbers, never a history."""

    time_s: float
    residency: Stand
    compute: Stand
    demands: Mapping[Signal, int] = field(default_factory=dict)
    """The last demand of every signal that this machine has ever shown."""
    request_interval_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Change:
    """A ladder has moved."""

    ladder: Ladder
    before: int
    after: int
    cause: str


@dataclass(frozen=True, slots=True)
class Step:
    """The state after a sample, and the ladders that moved with it."""

    state: State
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class _Ask:
    """What one signal asks for at one sample; a value of None is a signal that was lost."""

    signal: Signal
    threshold: Threshold
    demand: int
    value: float | None

    @property
    def hard(self) -> bool:
        return self.value is not None and _reached(self.threshold, self.threshold.hard, self.value)


@dataclass(frozen=True, slots=True)
class _Pressure:
    """Everything that presses on one ladder at one sample."""

    asks: tuple[_Ask, ...]
    floor: int
    window: Window | None

    @property
    def demand(self) -> int:
        return max((ask.demand for ask in self.asks), default=0)


@dataclass(frozen=True, slots=True)
class _Moment:
    """When a sample was taken, and whether it follows closely enough on the one before."""

    time_s: float
    gap_s: float
    dwell: Dwell

    @property
    def stale(self) -> bool:
        return not 0 <= self.gap_s <= self.dwell.stale_s


def start(now_s: float, schedule: Schedule, local_minute: int | None = None) -> State:
    """Return the state of an agent that starts: the best rungs that the hour allows.

    Args:
        now_s: monotonic clock.
        schedule: its windows put a floor under the rungs from the start on.
        local_minute: minutes since midnight, local time; None: the clock is not set, no window
            applies.
    """

    def stand(ladder: Ladder) -> Stand:
        floor, window = _floor(schedule, ladder, local_minute)
        return Stand(rung=floor, peak_s=now_s, cause=_window_words(window))

    return State(time_s=now_s, residency=stand("residency"), compute=stand("compute"))


def step(
    state: State,
    sample: Sample,
    schedule: Schedule,
    fits: Callable[[int], bool],
    local_minute: int | None = None,
) -> Step:
    """Decide what a sample does to both ladders.

    A step changes nothing but its result. So before an unload, sample once more and call `step`
    again from the *same old state* with the fresh sample: if that step does not ask for the unload
    either, memory is short no more, and the first step is forgotten.

    Args:
        state: what `start` or the step before returned.
        sample: one reading of the sensors.
        schedule: lines, dwell times and windows; it may change from step to step.
        fits: whether what the given residency rung keeps loaded would fit into memory now; asked
            only when that ladder is otherwise due to recover to it.
        local_minute: minutes since midnight, local time; None: the clock is not set, no window
            applies.
    """
    moment = _Moment(sample.time_s, sample.time_s - state.time_s, schedule.dwell)
    asks = _asks(sample, schedule, state.demands)
    residency = _pressure(asks, schedule, "residency", local_minute)
    compute = _pressure(asks, schedule, "compute", local_minute)
    after = State(
        time_s=sample.time_s,
        residency=_climb("residency", state.residency, residency, moment, fits),
        compute=_climb("compute", state.compute, compute, moment, lambda _: True),
        demands={**state.demands, **{ask.signal: ask.demand for ask in asks}},
    )
    interval_s = _request_interval_s(state, after.compute.rung, compute.demand)
    return Step(replace(after, request_interval_s=interval_s), _changes(state, after))


def rungs(state: State) -> Rungs:
    """Return where both ladders stand and why, as telemetry and the reported document show it."""
    return Rungs(
        residency=state.residency.rung,
        compute=state.compute.rung,
        residency_cause=_cause(state.residency),
        compute_cause=_cause(state.compute),
        request_interval_s=state.request_interval_s,
    )


def due_s(state: State, schedule: Schedule) -> float | None:
    """Return when what is asked for now will have been held long enough; None: nothing waits.

    A sample at that time finds out half an interval sooner, on average, than the next one would.
    """
    waiting = [
        begun + schedule.dwell.hold_s
        for stand in (state.residency, state.compute)
        for rung, begun in enumerate(stand.since_s, 1)
        if begun is not None and rung > stand.rung
    ]
    return min(waiting, default=None)


def _asks(sample: Sample, schedule: Schedule, last: Mapping[Signal, int]) -> tuple[_Ask, ...]:
    """Every signal that is there, and those that were there once, with their last demand."""
    asks = []
    for signal, threshold in schedule.thresholds.items():
        if _is_off(signal, sample):
            asks.append(_Ask(signal, threshold, 0, 0.0))
        elif (value := value_of(signal, sample)) is not None:
            asks.append(_Ask(signal, threshold, _demand(threshold, value), value))
        elif signal in last:
            asks.append(_Ask(signal, threshold, last[signal], None))
    return tuple(asks)


def _is_off(signal: Signal, sample: Sample) -> bool:
    """On mains a battery's charge asks for nothing, whatever it is."""
    return signal == "battery_percent" and sample.battery_plugged is True


def value_of(signal: Signal, sample: Sample) -> float | None:
    """Return a signal's value in a sample; None: it is not known.

    `throttled` is 1 while the firmware throttles, `low_voltage` while the supply is too weak.
    """
    value: float | None = getattr(sample, signal)
    if value is None or not math.isfinite(value):
        return None
    return float(int(value) & _THROTTLED_NOW != 0) if signal == "throttled" else float(value)


def _demand(threshold: Threshold, value: float) -> int:
    if _reached(threshold, threshold.hard, value):
        return WORST
    reached = (
        rung for rung, line in enumerate(threshold.enter, 1) if _reached(threshold, line, value)
    )
    return max(reached, default=0)


def _reached(threshold: Threshold, line: float | None, value: float) -> bool:
    if line is None:
        return False
    return value <= line if threshold.falling else value >= line


def _pressure(
    asks: tuple[_Ask, ...], schedule: Schedule, ladder: Ladder, local_minute: int | None
) -> _Pressure:
    floor, window = _floor(schedule, ladder, local_minute)
    return _Pressure(tuple(a for a in asks if LADDER_OF[a.signal] == ladder), floor, window)


def _floor(
    schedule: Schedule, ladder: Ladder, local_minute: int | None
) -> tuple[int, Window | None]:
    """Return the worst rung that a window asks for at this minute, and that window."""
    floors = [
        (window.residency if ladder == "residency" else window.compute, window)
        for window in schedule.windows
        if local_minute is not None and _is_open(window, local_minute)
    ]
    rung, window = max(floors, key=lambda pair: pair[0], default=(0, None))
    return rung, window if rung else None


def _is_open(window: Window, local_minute: int) -> bool:
    day = 24 * 60
    length = (window.end_minute - window.start_minute) % day or day
    return (local_minute - window.start_minute) % day < length


def _climb(
    ladder: Ladder,
    stand: Stand,
    pressure: _Pressure,
    moment: _Moment,
    fits: Callable[[int], bool],
) -> Stand:
    """Move one ladder: at once to a held level that is worse, slowly to a better one."""
    stand = replace(_age(stand, pressure, moment), waits="")
    level = _level(stand, pressure, moment)
    if level > stand.rung:
        cause = _entry_cause(stand, level, pressure, moment)
        return replace(stand, rung=level, peak_s=moment.time_s, cause=cause)
    if level == stand.rung:
        return replace(stand, peak_s=moment.time_s)
    return _recover(ladder, stand, pressure, moment, fits)


def _recover(
    ladder: Ladder,
    stand: Stand,
    pressure: _Pressure,
    moment: _Moment,
    fits: Callable[[int], bool],
) -> Stand:
    """Move a ladder up by one rung if it is time, or say what it waits for."""
    better = stand.rung - 1
    if lost := _lost(pressure):
        return replace(stand, waits=f"{_WORDS[lost[0].signal][0]} cannot be read")
    if not _is_due(stand, pressure, moment):
        return stand
    if len(stand.ups_s) >= moment.dwell.up_moves_per_hour:
        spent = f"{len(stand.ups_s)} of {moment.dwell.up_moves_per_hour}"
        return replace(stand, waits=f"{spent} moves up of the last hour are spent")
    if not fits(better):
        return replace(stand, waits=f"{_LETTER[ladder]}{better} does not fit into memory")
    quiet = _seconds(moment.time_s - stand.peak_s)
    return replace(
        stand,
        rung=better,
        peak_s=moment.time_s,
        ups_s=(*stand.ups_s, moment.time_s),
        cause=f"recovered: nothing above {_LETTER[ladder]}{better} for {quiet}",
    )


def _age(stand: Stand, pressure: _Pressure, moment: _Moment) -> Stand:
    """Carry the clocks on: hold, peak-hold (which stands still while blind) and tokens."""
    blind = moment.stale or _lost(pressure)
    since = stand.since_s if not moment.stale else (None,) * WORST
    return replace(
        stand,
        peak_s=stand.peak_s + moment.gap_s if blind else stand.peak_s,
        since_s=tuple(
            (moment.time_s if begun is None else begun) if pressure.demand >= rung else None
            for rung, begun in enumerate(since, 1)
        ),
        ups_s=tuple(spent for spent in stand.ups_s if moment.time_s - spent < _HOUR_S),
    )


def _level(stand: Stand, pressure: _Pressure, moment: _Moment) -> int:
    """Return the rung to be on at least: the smallest demand over the hold, hard lines, windows.

    The demand never fell below a rung during the hold exactly if it has been asked for since
    before the hold began: four times say what a history would.
    """
    held = sum(
        begun is not None and moment.time_s - begun >= moment.dwell.hold_s
        for begun in stand.since_s
    )
    hard = WORST if any(ask.hard for ask in pressure.asks) else 0
    return max(held, hard, pressure.floor)


def _is_due(stand: Stand, pressure: _Pressure, moment: _Moment) -> bool:
    """Whether a rung's time is over, and nothing asks for that rung at this very sample."""
    quiet_s = moment.time_s - stand.peak_s
    return not moment.stale and quiet_s >= moment.dwell.recover_s and pressure.demand < stand.rung


def _lost(pressure: _Pressure) -> tuple[_Ask, ...]:
    return tuple(ask for ask in pressure.asks if ask.value is None)


def _request_interval_s(state: State, rung: int, demand: int) -> float:
    """Space requests at C3: twice as far while it is pressed, closer by a fixed bit when not.

    Additive increase of the rate, multiplicative decrease (Chiu and Jain 1989), as TCP does it.
    """
    if rung != _SPACED:
        return 0.0
    if state.compute.rung != _SPACED:
        return _INTERVAL_MIN_S
    if demand >= _SPACED:
        return min(_INTERVAL_MAX_S, 2 * state.request_interval_s)
    return max(_INTERVAL_MIN_S, state.request_interval_s - _INTERVAL_FALL_S)


def _changes(before: State, after: State) -> tuple[Change, ...]:
    pairs: tuple[tuple[Ladder, Stand, Stand], ...] = (
        ("residency", before.residency, after.residency),
        ("compute", before.compute, after.compute),
    )
    return tuple(
        Change(ladder, old.rung, new.rung, new.cause)
        for ladder, old, new in pairs
        if old.rung != new.rung
    )


def _entry_cause(stand: Stand, level: int, pressure: _Pressure, moment: _Moment) -> str:
    for ask in pressure.asks:
        if ask.hard:
            return f"{_compared(ask, ask.threshold.hard)} (hard)"
    begun = stand.since_s[level - 1]
    if begun is None or moment.time_s - begun < moment.dwell.hold_s:
        return _window_words(pressure.window)
    worst = max(pressure.asks, key=lambda ask: ask.demand)
    line = next((line for line in worst.threshold.enter[level - 1 :] if line is not None), None)
    return f"{_compared(worst, line)} for {_seconds(moment.time_s - begun)}"


def _compared(ask: _Ask, line: float | None) -> str:
    """Say a signal with its line: memory available 11 % <= 13 %."""
    name, unit = _WORDS[ask.signal]
    if ask.value is None or line is None:
        return f"{name} cannot be read, but asked for rung {ask.demand} when last seen,"
    if ask.signal == "throttled":
        return "throttled by the firmware"
    if ask.signal == "low_voltage":
        return "the supply's voltage is too low"
    sign = "<=" if ask.threshold.falling else ">="
    return f"{name} {_short(ask.value)}{unit} {sign} {_short(line)}{unit}"


def _window_words(window: Window | None) -> str:
    if window is None:
        return ""
    start_h, start_m = divmod(window.start_minute, 60)
    end_h, end_m = divmod(window.end_minute, 60)
    return f"time window {start_h:02}:{start_m:02}-{end_h:02}:{end_m:02}"


def _seconds(duration_s: float) -> str:
    return f"{_short(duration_s)} s"


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _cause(stand: Stand) -> str:
    return f"{stand.cause}; recovery waits: {stand.waits}" if stand.waits else stand.cause
