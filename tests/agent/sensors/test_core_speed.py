"""Measuring CPUs: what drifts or disturbs makes no class, and a start costs it once."""

import os
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent.sensors.core_speed import Turns, measure_speeds
from agent.storage.core_speeds import CoreSpeedFile

ALLOWED = tuple(sorted(os.sched_getaffinity(0)))


def after(*turns: dict[int, float]) -> Turns:
    taken = Turns()
    for times_s in turns:
        taken.note(times_s)
    return taken


@given(
    st.lists(st.floats(1, 10), min_size=3, max_size=20),
    st.floats(0.9, 1.1),
)
def test_a_clock_that_rises_or_falls_meets_all_cpus(slow: list[float], other: float) -> None:
    assert after(*({0: 1e-4 * s, 1: 1e-4 * other * s} for s in slow)).all_alike


@given(st.lists(st.sampled_from((0, 1)), min_size=3, max_size=20), st.floats(1.5, 50))
def test_one_calm_turn_of_each_is_enough(disturbed: list[int], factor: float) -> None:
    noisy = [{0: 1e-4, 1: 1e-4} | {cpu: factor * 1e-4} for cpu in disturbed]
    assert after(*noisy, {0: 1e-4, 1: 1.1e-4}).all_alike


@given(st.lists(st.floats(1, 1.15), min_size=3, max_size=20))
def test_cores_that_are_slower_at_every_turn_are_another_class(noise: list[float]) -> None:
    turns = after(*({0: 1e-4 * n, 1: 1e-4, 2: 2e-4 * n} for n in noise))
    assert not turns.all_alike
    assert turns.speeds[1] > 1.5 * turns.speeds[2]


def test_the_alike_cpus_of_this_machine_are_never_told_apart() -> None:
    # Whoever else works here: the answer is that they are alike, or that it cannot be told now.
    before = os.sched_getaffinity(0)
    speeds = measure_speeds(ALLOWED)
    assert os.sched_getaffinity(0) == before
    if speeds:
        assert set(speeds) == set(ALLOWED)
        assert min(speeds.values()) > 0


def test_a_cpu_that_is_not_there_is_not_measured() -> None:
    assert measure_speeds((*ALLOWED, 4000)) == {}


class Counting:
    """Measures by a made-up rule, and counts."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []
        self.silent = False

    def __call__(self, cpus: Sequence[int]) -> dict[int, float]:
        self.asked.append(tuple(cpus))
        return {} if self.silent else {cpu: 1.0 + cpu for cpu in cpus}


def test_a_mask_is_measured_once_and_a_part_of_it_never(tmp_path: Path) -> None:
    measure = Counting()
    path = tmp_path / "cores.json"
    assert CoreSpeedFile(path, measure).find((0, 1, 2)) == {}
    speeds = CoreSpeedFile(path, measure).find_or_measure((0, 1, 2))
    assert CoreSpeedFile(path, measure).find_or_measure((0, 1, 2)) == speeds
    assert CoreSpeedFile(path, measure).find((2, 0)) == {0: 1.0, 2: 3.0}
    assert measure.asked == [(0, 1, 2)]
    CoreSpeedFile(path, measure).find_or_measure((0, 1, 2, 3))
    assert measure.asked == [(0, 1, 2), (0, 1, 2, 3)]


def test_what_could_not_be_told_is_tried_again(tmp_path: Path) -> None:
    measure = Counting()
    measure.silent = True
    file = CoreSpeedFile(tmp_path / "cores.json", measure)
    assert file.find_or_measure((0, 1)) == {}
    assert not (tmp_path / "cores.json").exists()
    measure.silent = False
    assert file.find_or_measure((0, 1)) == {0: 1.0, 1: 2.0}


def test_another_kernel_or_a_damaged_file_is_measured_again(tmp_path: Path) -> None:
    measure, path = Counting(), tmp_path / "cores.json"
    CoreSpeedFile(path, measure).find_or_measure((0, 1))
    path.write_text(path.read_text().replace(os.uname().release, "1.0"))
    assert CoreSpeedFile(path, measure).find_or_measure((0, 1))
    path.write_bytes(b"{")
    assert CoreSpeedFile(path, measure).find_or_measure((0, 1)) == {0: 1.0, 1: 2.0}
    assert len(measure.asked) == 3


def test_a_folder_that_takes_no_file_costs_the_measurement_alone(tmp_path: Path) -> None:
    file = CoreSpeedFile(tmp_path / "nowhere" / "cores.json", Counting())
    assert file.find_or_measure((0, 1)) == {0: 1.0, 1: 2.0}
