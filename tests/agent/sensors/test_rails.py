"""What goes into a board, where a kernel driver measures it."""

from pathlib import Path

import pytest

from agent.sensors.rails import InputMeter
from agent.sensors.tree import Tree
from tests.agent.sensors.machines import Machine, jetson

MONITOR = "sys/class/hwmon/hwmon1"


def watts(machine: Machine) -> float | None:
    meter = InputMeter(Tree(machine.root))
    meter.discover()
    return meter.watts()


def test_the_channel_that_says_it_is_the_input(tmp_path: Path) -> None:
    machine = jetson(tmp_path)
    assert watts(machine) == pytest.approx(5.04)
    assert watts(machine.write(f"{MONITOR}/in2_label", "POM_5V_IN\n")) == pytest.approx(5.04)


def test_a_meter_of_who_knows_what_is_none(tmp_path: Path) -> None:
    machine = jetson(tmp_path)
    assert watts(machine.write(f"{MONITOR}/name", "nct6775")) is None
    assert watts(machine.write(f"{MONITOR}/name", "ina219")) == pytest.approx(5.04)
    assert watts(machine.remove(f"{MONITOR}/in2_label")) is None


@pytest.mark.parametrize("bad", ["nan", "", "-5", "1e999", "0"])
@pytest.mark.parametrize("file", ["in2_input", "curr2_input"])
def test_garbage(tmp_path: Path, file: str, bad: str) -> None:
    assert watts(jetson(tmp_path).write(f"{MONITOR}/{file}", bad)) is None
    assert watts(jetson(tmp_path).refuse(f"{MONITOR}/{file}")) is None
