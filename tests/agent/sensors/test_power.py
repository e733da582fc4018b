"""Batteries and plugs, as drivers tell of them."""

from pathlib import Path

import pytest

from agent.sensors.power import Power, PowerMeter
from agent.sensors.tree import Tree
from tests.agent.sensors.machines import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def discover(machine: Machine) -> PowerMeter:
    meter = PowerMeter(Tree(machine.root))
    meter.discover()
    return meter


def read(machine: Machine) -> Power:
    return discover(machine).read()


def test_no_battery_is_no_battery_even_on_mains(machine: Machine) -> None:
    machine.supply("AC", type="Mains", online=1)
    assert read(machine) == Power()
    assert not discover(machine).has_battery


def test_batteries_of_others_and_empty_bays_do_not_count(machine: Machine) -> None:
    machine.supply("mouse", type="Battery", scope="Device", capacity=5, status="Discharging")
    machine.supply("BAT1", type="Battery", present=0, capacity=0, status="Unknown")
    assert read(machine) == Power()


def test_charge_plug_and_heat(machine: Machine) -> None:
    machine.supply("BAT0", type="Battery", capacity=80, status="Charging", temp=305)
    assert read(machine) == Power(80.0, plugged=True, temperature_c=30.5)
    assert discover(machine).has_battery


@pytest.mark.parametrize(
    ("status", "online", "plugged"),
    [
        ("Discharging", None, False),
        ("Discharging", 1, False),
        ("Charging", 0, True),
        ("Full", None, True),
        ("Not charging", None, True),
        ("Not charging", 0, False),
        ("Unknown", None, None),
        ("Unknown", 0, False),
        ("Unknown", 1, True),
        ("garbage", 2, True),
        ("", "nan", None),
    ],
)
def test_plugged(machine: Machine, status: str, online: object, plugged: bool | None) -> None:  # noqa: FBT001
    machine.supply("battery", type="Battery", capacity=50, status=status)
    if online is not None:
        machine.supply("usb", type="USB_DCP", online=online)
    assert read(machine).plugged is plugged


def test_any_of_several_lines(machine: Machine) -> None:
    machine.supply("battery", type="Battery", status="Unknown")
    machine.supply("usb", type="USB", online=0).supply("dc", type="Mains", online=1)
    assert read(machine).plugged is True


def test_several_batteries(machine: Machine) -> None:
    machine.supply("BAT0", type="Battery", capacity=20, status="Discharging", temp=300)
    machine.supply("BAT1", type="Battery", capacity=80, status="Unknown", temp=350)
    assert read(machine) == Power(50.0, plugged=False, temperature_c=35.0)


@pytest.mark.parametrize("kind", ["energy", "charge"])
def test_charge_from_its_parts(machine: Machine, kind: str) -> None:
    machine.supply("BAT0", type="Battery", **{f"{kind}_now": 3_000_000, f"{kind}_full": 4_000_000})
    assert read(machine).percent == 75


@pytest.mark.parametrize("bad", ["nan", "-1", "101", "full", ""])
def test_garbage(machine: Machine, bad: str) -> None:
    machine.supply("BAT0", type="Battery", capacity=bad, status=bad, temp=bad and 99999)
    machine.supply("BAT0", energy_now=5, energy_full=0)
    assert read(machine) == Power()


def test_a_battery_that_refuses_or_vanishes(machine: Machine) -> None:
    machine.supply("BAT0", type="Battery", capacity=50, status="Full", temp=300)
    meter = discover(machine)
    for file in ("capacity", "status", "temp"):
        machine.refuse(f"sys/class/power_supply/BAT0/{file}")
    assert meter.read() == Power()
    for file in ("capacity", "status", "temp", "type"):
        machine.remove(f"sys/class/power_supply/BAT0/{file}")
    assert meter.read() == Power()


# --- watts


def battery(machine: Machine, **files: object) -> Machine:
    return machine.supply("BAT0", **{"type": "Battery", "status": "Discharging", **files})


@pytest.mark.parametrize("current", [500_000, -500_000])
def test_what_a_battery_gives_whatever_the_sign(machine: Machine, current: int) -> None:
    battery(machine, voltage_now=4_000_000, current_now=current)
    assert read(machine).watts == 2
    assert read(battery(machine, power_now=abs(current) * 6)).watts == 3


def test_while_something_else_feeds_it_nobody_knows(machine: Machine) -> None:
    battery(machine, power_now=3_000_000).supply("usb", type="USB", online=1)
    assert read(machine).watts is None
    machine.supply("usb", online=0)
    assert read(machine).watts == 3
    for status in ("Charging", "Full", "Not charging", "Unknown", ""):
        assert read(machine.supply("BAT0", status=status)).watts is None


def test_several_batteries_that_give(machine: Machine) -> None:
    battery(machine, power_now=3_000_000)
    machine.supply("BAT1", type="Battery", status="Discharging", power_now=2_000_000)
    assert read(machine).watts == 5
    assert read(machine.supply("BAT1", status="Unknown")).watts == 3
    machine.supply("BAT1", status="Discharging", power_now="nan")
    assert read(machine).watts is None, "a part is not the whole"


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"voltage_now": 4_000_000},
        {"current_now": 500_000},
        {"voltage_now": 4_000_000, "current_now": 500},  # told in milliamperes
        {"voltage_now": 0, "current_now": 500_000},
        {"voltage_now": 4_000_000, "current_now": "nan"},
        {"power_now": "1e999"},
        {"power_now": 9e12},
    ],
)
def test_no_power_is_made_up(machine: Machine, files: dict[str, object]) -> None:
    assert read(battery(machine, **files)).watts is None
