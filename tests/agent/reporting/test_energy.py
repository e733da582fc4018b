"""What a busy CPU takes, and whose joules it are."""

import itertools
import math
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.reporting.energy import EnergyBook
from agent.reporting.watts import BusyPower
from protocols.device import CascadeStats, Sample, StageStats
from protocols.profile import EnergyMethod

CPUS = 4
IDLE_W, CPU_W = 3.0, 1.5


def reading(
    time_s: float,
    busy_cpus: float | None,
    power_w: float | None,
    method: EnergyMethod | None = "rail",
) -> Sample:
    return Sample(
        time_s=time_s,
        cpu_percent=None if busy_cpus is None else 100 * busy_cpus / CPUS,
        power_w=power_w,
        power_method=None if power_w is None else method,
    )


def device(
    busy: Iterable[float], begin_s: float = 0.0, method: EnergyMethod = "rail", every: int = 1
) -> Iterator[Sample]:
    """Yield what a device reads whose power follows its CPUs; it is read anew `every` seconds."""
    power_w = IDLE_W
    for second, cpus in enumerate(busy):
        if second % every == 0:
            power_w = IDLE_W + CPU_W * cpus
        yield reading(begin_s + second, cpus, power_w, method)


def learned(samples: Iterable[Sample]) -> BusyPower:
    power = BusyPower(CPUS)
    for sample in samples:
        power.look(sample)
    return power


def watts(power: BusyPower) -> float:
    assert power.rate is not None
    return power.rate.watts_per_cpu


IDLE, BUSY = [0.0] * 130, [2.0] * 130


def test_what_is_taken_beyond_idling_is_of_the_cpus_that_work() -> None:
    power = learned(device(IDLE + BUSY))
    assert power.rate is not None
    assert power.rate.method == "rail"
    assert power.rate.watts_per_cpu == pytest.approx(CPU_W, rel=0.02)


def test_nothing_is_known_before_it_has_idled_and_worked() -> None:
    for busy in (IDLE, BUSY, [2.0] * 30 + [0.0] * 30):
        assert learned(device(busy * 4)).rate is None


@settings(max_examples=25)
@given(st.lists(st.sampled_from([0.0, 0.2, 1.0, 2.5, 4.0]), min_size=5, max_size=40))
def test_it_is_never_wide_of_the_mark_whatever_the_load(minutes: list[float]) -> None:
    """At most a tenth of the CPU counts as idling: 0.4 of these four, 0.6 of the watts."""
    rate = learned(device(itertools.chain(IDLE, *([m] * 60 for m in minutes)))).rate
    if rate is not None:
        assert CPU_W * 0.9 <= rate.watts_per_cpu <= CPU_W * 1.1


def test_slow_readings_of_a_load_that_comes_and_goes_even_out() -> None:
    """Three seconds of work in every seven, read every ten seconds."""
    bursts = [4.0 if second % 7 < 3 else 0.0 for second in range(1800)]
    assert watts(learned(device(IDLE + bursts, every=10))) == pytest.approx(CPU_W, rel=0.15)


def test_a_brighter_screen_becomes_the_idle_power_in_time() -> None:
    power = learned(device(IDLE + BUSY))
    brighter = [
        sample.with_(power_w=(sample.power_w or 0) + 2.0)
        for sample in device([0.0] * 4 * 3600 + [2.0] * 3600, 300.0)
    ]
    for sample in brighter:
        power.look(sample)
    assert watts(power) == pytest.approx(CPU_W, rel=0.1)


@pytest.mark.parametrize(
    "lost",
    [reading(260, 1.0, None), reading(260, None, 6.0), reading(290, 2.0, 6.0)],
    ids=["no power", "no CPU use", "a gap"],
)
def test_a_break_in_the_readings_is_one_in_the_rate(lost: Sample) -> None:
    power = learned(device(IDLE + BUSY))
    assert power.rate is not None
    assert power.rate.since_s < 260
    known = power.rate.watts_per_cpu
    power.look(lost)
    after = reading(lost.time_s + 1, 2.0, 6.0)
    power.look(after)
    assert power.rate is not None
    assert power.rate.since_s == pytest.approx(after.time_s, abs=1)
    assert power.rate.watts_per_cpu == known


def test_a_battery_that_is_charged_tells_nothing() -> None:
    power = learned(device(IDLE + BUSY, method="battery"))
    power.look(reading(261, 2.0, None))
    assert power.rate is None


def test_another_method_begins_everything_anew() -> None:
    power = learned(device(IDLE + BUSY))
    power.look(reading(260, 2.0, 9.0, "meter"))
    assert power.rate is None
    for sample in device(IDLE + BUSY, 261.0, "meter"):
        power.look(sample)
    assert power.rate is not None
    assert power.rate.method == "meter"
    assert power.rate.since_s == 260


# --- whose they are


def stage(name: str, cpu_s: float, runs: int) -> StageStats:
    return StageStats(name=name, variant="int8", loaded=True, cpu_s=cpu_s, runs=runs)


def cascade(answers: int, *stages: StageStats, name: str = "digits") -> tuple[CascadeStats, ...]:
    return (CascadeStats(name=name, version=1, stages=stages, answers=answers),)


def test_a_stage_has_its_cpu_seconds_times_the_watts() -> None:
    power = learned(device(IDLE + BUSY))
    book = EnergyBook(power, None)
    book.count(cascade(10, stage("small", 1.0, 10), stage("large", 2.0, 5)), 255.0)
    (shown,) = book.count(cascade(30, stage("small", 2.0, 30), stage("large", 6.0, 12)), 259.0)
    assert (shown.energy_method, shown.energy_answers) == ("rail", 20)
    rate = watts(power)
    assert [s.energy_runs for s in shown.stages] == [20, 7]
    assert [s.joules for s in shown.stages] == pytest.approx([rate, rate * 4], abs=1e-5)


def test_without_a_source_nothing_is_known_and_with_watts_it_is_the_model() -> None:
    for owner_says, expected in ((None, (None, None, 0)), (2.0, ("model", 6.0, 4))):
        book = EnergyBook(BusyPower(CPUS), owner_says)
        book.count(cascade(1, stage("only", 1.0, 1)), 5.0)
        (shown,) = book.count(cascade(5, stage("only", 4.0, 5)), 10.0)
        only = shown.stages[0]
        assert (shown.energy_method, only.joules, only.energy_runs) == expected


def test_of_a_time_that_was_not_read_throughout_neither_joules_nor_answers_are_counted() -> None:
    power = learned(device(IDLE + BUSY))
    book = EnergyBook(power, None)
    book.count(cascade(0, stage("only", 0.0, 0)), 255.0)
    book.count(cascade(10, stage("only", 1.0, 10)), 260.0)
    power.look(reading(261, 2.0, None))
    power.look(reading(262, 2.0, 6.0))
    (held,) = book.count(cascade(50, stage("only", 9.0, 50)), 265.0)
    (again,) = book.count(cascade(60, stage("only", 10.0, 60)), 270.0)
    joules = [one.stages[0].joules for one in (held, again)]
    assert joules == pytest.approx([watts(power), 2 * watts(power)], abs=1e-5)
    assert [one.stages[0].energy_runs for one in (held, again)] == [10, 20]
    assert [one.energy_answers for one in (held, again)] == [10, 20]


def test_methods_are_never_added_up() -> None:
    power = learned(device(IDLE + BUSY, method="battery"))
    book = EnergyBook(power, 10.0)
    book.count(cascade(0, stage("only", 0.0, 0)), 255.0)
    (on_battery,) = book.count(cascade(10, stage("only", 1.0, 10)), 260.0)
    power.look(reading(261, 2.0, None))
    (plugged,) = book.count(cascade(20, stage("only", 2.0, 20)), 265.0)
    power.look(reading(262, 2.0, 6.0, "battery"))
    book.count(cascade(20, stage("only", 2.0, 20)), 266.0)
    (back,) = book.count(cascade(30, stage("only", 3.0, 30)), 270.0)
    course = (on_battery, plugged, back)
    assert [one.energy_method for one in course] == ["battery", "model", "battery"]
    joules = [one.stages[0].joules for one in course]
    assert joules == pytest.approx([watts(power), 10.0, 2 * watts(power)], abs=1e-5)
    assert [one.stages[0].energy_runs for one in course] == [10, 10, 20]
    assert [one.energy_answers for one in course] == [10, 10, 20]


def test_another_runner_begins_at_nothing() -> None:
    book = EnergyBook(BusyPower(CPUS), 2.0)
    book.count(cascade(0, stage("only", 0.0, 0)), 1.0)
    book.count(cascade(10, stage("only", 3.0, 10)), 2.0)
    book.begin()
    (first,) = book.count(cascade(7, stage("only", 1.0, 7)), 3.0)
    assert first.energy_method is None
    assert first.stages[0].joules is None
    (second,) = book.count(cascade(8, stage("only", 2.0, 8)), 4.0)
    assert (second.stages[0].joules, second.energy_answers) == (2.0, 1)


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 9)), min_size=1, max_size=20),
    st.floats(0.1, 20),
)
def test_the_parts_add_up_to_the_whole(steps: list[tuple[float, int]], watts: float) -> None:
    book = EnergyBook(BusyPower(CPUS), watts)
    cpu_s, runs = 0.0, 0
    shown = book.count(cascade(0, stage("only", 0.0, 0)), 0.0)
    for at, (more_s, more) in enumerate(steps, start=1):
        cpu_s, runs = cpu_s + more_s, runs + more
        shown = book.count(cascade(runs, stage("only", cpu_s, runs)), float(at))
    only = shown[0].stages[0]
    assert only.joules is not None
    assert math.isclose(only.joules, watts * cpu_s, abs_tol=1e-5)
    assert only.energy_runs == runs == shown[0].energy_answers
