"""Pressure stall information, where the kernel gives it."""

from pathlib import Path

import pytest

from agent.sensors.pressure import Pressure, read_pressure
from agent.sensors.tree import Tree
from tests.agent.sensors.machines import Machine, pressure

MEMORY = "proc/pressure/memory"


def test_both_lines(tmp_path: Path) -> None:
    Machine(tmp_path).write(MEMORY, pressure("12.34", "5.60"))
    assert read_pressure(Tree(tmp_path), "memory") == Pressure(12.34, 5.6, 1e-6)


def test_kernels_before_5_13_have_no_full_line_for_the_cpu(tmp_path: Path) -> None:
    Machine(tmp_path).write("proc/pressure/cpu", "some avg10=1.00 avg60=0.00 total=1\n")
    assert read_pressure(Tree(tmp_path), "cpu") == Pressure(1.0, None, 1e-6)


def test_missing_and_refusing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert read_pressure(Tree(tmp_path), "memory") == Pressure()
    machine.refuse(MEMORY)
    assert read_pressure(Tree(tmp_path), "memory") == Pressure()


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "101", "x", ""])
def test_garbage(tmp_path: Path, value: str) -> None:
    Machine(tmp_path).write(MEMORY, pressure(value, "1.00"))
    assert read_pressure(Tree(tmp_path), "memory") == Pressure(None, 1.0, 1e-6)
