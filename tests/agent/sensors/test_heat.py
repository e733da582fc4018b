"""Which zones are the chip's, which values are believable, and the firmware's word."""

from pathlib import Path

import pytest

from agent.sensors.heat import HeatMeter
from agent.sensors.tree import Tree
from tests.agent.sensors.machines import THROTTLED, Machine


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


@pytest.mark.parametrize(
    ("text", "word"),
    [("0\n", 0), ("50005\n", 0x50005), ("0x50000", 0x50000), ("e", 14)],
)
def test_the_firmware_writes_hexadecimal(machine: Machine, text: str, word: int) -> None:
    assert discover(machine.write(THROTTLED, text)).throttled() == word


@pytest.mark.parametrize("text", ["", "nan", "-1", "throttled=0x0", "123456789"])
def test_a_word_that_is_none(machine: Machine, text: str) -> None:
    assert discover(machine.write(THROTTLED, text)).throttled() is None


def test_a_board_without_the_firmware_and_one_that_numbers_its_soc(machine: Machine) -> None:
    assert discover(machine).throttled() is None
    numbered = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"
    assert discover(machine.write(numbered, "2\n")).throttled() == 2
