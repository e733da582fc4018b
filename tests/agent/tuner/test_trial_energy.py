"""The energy of models that really run, on a device whose power follows them."""

import threading
from pathlib import Path

import pytest

from agent.runner import blackbox
from agent.runner.blackbox import BlackBox
from agent.tuner.candidates import Candidate
from agent.tuner.energy import Span
from agent.tuner.power_watch import PowerWatch
from agent.tuner.trial import Subject, Trial
from protocols.profile import EnergyMethod
from tests import models

IDLE_W, BUSY_W = 2.0, 5.0


class Board:
    """Takes more while there are threads that answer."""

    method: EnergyMethod = "rail"

    def __init__(self, *, tells: bool = True) -> None:
        self._tells, self._alone = tells, threading.active_count() + 1

    def watts(self) -> float | None:
        if not self._tells:
            return None
        return BUSY_W if threading.active_count() > self._alone else IDLE_W


@pytest.fixture
def subjects(tmp_path: Path) -> list[Subject]:
    found = []
    for name, width in (("small", 8), ("large", 512)):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(models.classifier(models.random_layers(16, width, width, 3)))
        found.append(Subject(path))
    return found


def watching(board: Board, seconds: float) -> PowerWatch:
    watch = PowerWatch(board, board.method)
    watch.span = Span(0.1, seconds)
    return watch


def test_what_is_taken_beyond_idling_is_shared_by_cpu_time(subjects: list[Subject]) -> None:
    watch = watching(Board(), 1.2)
    idle_w = watch.idle_w()
    assert set(idle_w) == {IDLE_W}
    pairs = [(one, Candidate("pipeline", 1, None)) for one in subjects]
    energies = Trial(BlackBox(blackbox.create())).measure_energy(pairs, watch, idle_w)
    assert energies is not None
    small, large = energies
    assert small.method == large.method == "rail"
    assert 0 < small.joules < large.joules


def test_power_that_is_not_told_is_no_energy(subjects: list[Subject]) -> None:
    watch = watching(Board(tells=False), 0.2)
    pairs = [(subjects[0], Candidate("intra-op", 1, None))]
    trial = Trial(BlackBox(blackbox.create()))
    assert trial.measure_energy(pairs, watch, watch.idle_w()) is None
