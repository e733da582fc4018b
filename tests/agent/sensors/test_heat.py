"""Which zones are the chip's, which values are believable, and the firmware's word."""

from pathlib import Path

import pytest

from agent.sensors.heat import HeatMeter
from agent.sensors.tree import Tree
from tests.agent.sensors.machines import Machine


def discover(machine: Machine) -> HeatMeter:
    meter = HeatMeter(Tree(machine.root))
    meter.discover()
    return meter


def temperature_c(machine: Machine) -> float | None:
    return discover(machine).temperature_c()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_no_zone(machine: Machine) -> None:
    assert temperature_c(machine) is None


@pytest.mark.parametrize(
    "kind", ["cpu-thermal", "cpu_thermal", "soc-thermal", "x86_pkg_temp", "CPU-therm", "BIG"]
)
def test_the_hottest_zone_of_the_chip(machine: Machine, kind: str) -> None:
    machine.zone(0, kind, 45000).zone(1, kind, 61500).zone(2, "gpu-thermal", 90000)
    assert temperature_c(machine) == 61.5


def test_a_zone_that_says_little_serves_where_no_zone_is_surely_the_chip(machine: Machine) -> None:
    machine.zone(0, "acpitz", 40000).zone(1, "battery", 50000).zone(2, "iwlwifi_1", 60000)
    assert temperature_c(machine) == 40.0
    machine.zone(3, "cpu-thermal", 30000)
    assert temperature_c(machine) == 30.0


@pytest.mark.parametrize(
    "bad", ["nan", "inf", "-40000", "-274000", "150000", "2147483647", "hot", ""]
)
def test_values_that_nobody_believes(machine: Machine, bad: str) -> None:
    machine.zone(0, "cpu-thermal", bad)
    assert temperature_c(machine) is None
    machine.zone(1, "cpu-thermal", 40000)
    assert temperature_c(machine) == 40.0


def test_a_zone_that_refuses_or_vanishes(machine: Machine) -> None:
    machine.zone(0, "cpu-thermal", 70000).zone(1, "cpu-thermal", 40000)
    meter = discover(machine)
    machine.refuse("sys/class/thermal/thermal_zone0/temp")
    assert meter.temperature_c() == 40.0
    machine.remove("sys/class/thermal/thermal_zone1/temp")
    assert meter.temperature_c() is None


def test_a_desktop_chip_with_a_hardware_monitor_alone(machine: Machine) -> None:
    machine.write("sys/class/hwmon/hwmon0/name", "nvme\n")
    machine.write("sys/class/hwmon/hwmon0/temp1_input", "80000\n")
    machine.write("sys/class/hwmon/hwmon1/name", "k10temp\n")
    machine.write("sys/class/hwmon/hwmon1/temp1_input", "55250\n")
    machine.write("sys/class/hwmon/hwmon1/temp1_label", "Tctl\n")
    assert temperature_c(machine) == 55.25
