"""Who tells the power at once, and whose word counts."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.sensors.power_now import PowerReader
from protocols.profile import EnergyMethod
from tests.agent.sensors.machines import (
    PMIC,
    TERMUX,
    Machine,
    jetson,
    phone,
    pi_4,
    pi_5,
    program,
    termux,
)
from tests.agent.sensors.test_added import install


def discharging(root: Path) -> Machine:
    return phone(root).supply("battery", voltage_now=3_900_000, current_now=-500_000)


def charging(root: Path) -> Machine:
    return discharging(root).supply("battery", status="Charging")


@pytest.mark.parametrize(
    ("make", "method", "watts"),
    [
        (pi_5, "rail", 3.62),
        (jetson, "rail", 5.04),
        (discharging, "battery", 1.95),
        (termux, "battery", 1.6068),
        (charging, None, None),
        (pi_4, None, None),
    ],
)
def test_the_best_source_that_tells_something(
    tmp_path: Path,
    make: Callable[[Path], Machine],
    method: EnergyMethod | None,
    watts: float | None,
) -> None:
    environ = program(tmp_path / "bin", "vcgencmd", f"cat <<'E'\n{PMIC}\nE")
    program(tmp_path / "bin", "termux-battery-status", f"cat <<'E'\n{TERMUX}\nE")
    if make is termux:
        environ["TERMUX_VERSION"] = "0.118.1"
    reader = PowerReader(make(tmp_path / "root").root, environ=environ)
    assert reader.method == method
    assert reader.watts() == (None if watts is None else pytest.approx(watts))


def test_a_meter_of_the_user_s_comes_first_and_one_that_raises_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(install(tmp_path / "site")))
    root = jetson(tmp_path / "root").root
    for providers, found in (
        (("ups-raises", "ups-good"), ("meter", 4.5)),
        (("ups-raises",), ("rail", 5.04)),
    ):
        reader = PowerReader(root, providers, os.environ)
        assert (reader.method, reader.watts()) == found


def test_a_meter_that_never_answers_does_not_hold_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(install(tmp_path / "site")))
    root = pi_4(tmp_path / "root").root
    reader = PowerReader(root, ("ups-hangs",), {}, first_within_s=0.5)
    assert (reader.method, reader.watts()) == (None, None)


def test_a_source_that_stops_is_not_replaced_by_another(tmp_path: Path) -> None:
    machine = jetson(tmp_path / "root").supply(
        "battery", type="Battery", status="Discharging", power_now=7_000_000
    )
    reader = PowerReader(machine.root, environ={})
    machine.remove("sys/class/hwmon/hwmon1/in2_input")
    assert (reader.method, reader.watts()) == ("rail", None)
