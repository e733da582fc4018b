"""Whole samples of scripted machines, and of the one that runs the tests."""

import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.sensors import Sensors, read_hardware
from protocols.device import Sample
from tests.agent.sensors.machines import (
    PMIC,
    TERMUX,
    THROTTLED,
    Machine,
    big_little,
    jetson,
    phone,
    pi_4,
    pi_5,
    program,
    proot,
    stat,
    termux,
    until,
)


def known(sample: Sample) -> dict[str, float | bool]:
    return {k: v for k, v in sample.model_dump().items() if v is not None and k != "time_s"}


def test_a_pi_4(tmp_path: Path) -> None:
    machine = pi_4(tmp_path)
    sensors = Sensors(tmp_path)
    first = sensors.sample(10.0)
    assert first.cpu_percent is None
    machine.write("proc/stat", stat(1100, 9300))
    second = sensors.sample(11.0)
    assert second.time_s == 11.0
    assert second.own_cpu_percent is not None
    assert second.foreign_cpu_percent == pytest.approx(25 - second.own_cpu_percent, abs=0.02)
    facts = known(second)
    del facts["own_cpu_percent"], facts["foreign_cpu_percent"]
    assert facts == {
        "cpu_percent": 25.0,
        "memory_total_mib": 3794.0,
        "memory_available_mib": 3000.0,
        "memory_available_percent": 79.07,
        "psi_cpu_some_avg10": 1.5,
        "psi_memory_some_avg10": 0.25,
        "psi_memory_full_avg10": 0.1,
        "temperature_c": 51.12,
        "throttled": 0x50000,
        "low_voltage": False,
    }


def test_a_big_little_board(tmp_path: Path) -> None:
    big_little(tmp_path)
    assert known(Sensors(tmp_path).sample(1.0)) == {
        "memory_total_mib": 1950.0,
        "memory_available_mib": 900.0,
        "memory_available_percent": 46.15,
        "temperature_c": 48.0,
    }


def test_a_phone(tmp_path: Path) -> None:
    phone(tmp_path)
    facts = known(Sensors(tmp_path).sample(1.0))
    assert {k: v for k, v in facts.items() if not k.startswith("memory")} == {
        "psi_memory_some_avg10": 2.0,
        "psi_memory_full_avg10": 0.0,
        "temperature_c": 47.3,
        "battery_percent": 63.0,
        "battery_plugged": False,
        "battery_temperature_c": 33.1,
    }


def test_a_pi_5_as_it_comes(tmp_path: Path) -> None:
    environ = program(tmp_path / "bin", "vcgencmd", f"cat {tmp_path}/adc")
    (tmp_path / "adc").write_text(PMIC)
    sensors = Sensors(pi_5(tmp_path / "root").root, environ=environ)
    until(lambda: sensors.sample(1.0).power_w is not None)
    assert known(sensors.sample(1.1)) == {
        "memory_total_mib": 8052.0,
        "memory_available_mib": 6900.0,
        "memory_available_percent": 85.69,
        "temperature_c": 55.4,
        "throttled": 0,
        "low_voltage": False,
        "power_w": 3.62,
        "power_method": "rail",
    }


TERMUX_KNOWS = {
    "memory_total_mib": 5600.0,
    "memory_available_mib": 2100.0,
    "memory_available_percent": 37.5,
    "battery_percent": 64.0,
    "battery_plugged": False,
    "battery_temperature_c": 31.4,
    "power_w": 1.61,
    "power_method": "battery",
}


@pytest.mark.parametrize("make", [termux, proot])
def test_a_phone_with_termux_and_a_proot_there(
    make: Callable[[Path], Machine], tmp_path: Path
) -> None:
    environ = program(tmp_path / "bin", "termux-battery-status", f"cat {tmp_path}/status")
    (tmp_path / "status").write_text(TERMUX)
    root = make(tmp_path / "root").root
    sensors = Sensors(root, environ=environ | {"TERMUX_VERSION": "0.118.1"})
    until(lambda: sensors.sample(1.0).power_w is not None)
    assert known(sensors.sample(1.1)) == TERMUX_KNOWS
    facts = known(sensors.sample(9.0))
    assert 0 <= facts.pop("own_cpu_percent") <= 100
    assert facts == TERMUX_KNOWS, "of the machine's use nothing is made up"


def test_a_board_that_measures_its_input(tmp_path: Path) -> None:
    sample = Sensors(jetson(tmp_path).root).sample(1.0)
    assert (sample.power_w, sample.power_method) == (5.04, "rail")


def test_a_machine_without_any_file_knows_nothing(tmp_path: Path) -> None:
    sensors = Sensors(tmp_path / "nowhere")
    assert known(sensors.sample(1.0)) == {}
    assert known(sensors.sample(2.0)) == {}


def test_files_that_vanish_leave_null_and_nothing_raises(tmp_path: Path) -> None:
    machine = pi_4(tmp_path)
    sensors = Sensors(tmp_path)
    assert known(sensors.sample(1.0))
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        machine.remove(str(path.relative_to(tmp_path)))
        sensors.sample(2.0)
    assert known(sensors.sample(3.0)).keys() == {"own_cpu_percent"}


def test_files_that_refuse_to_be_read_are_null(tmp_path: Path) -> None:
    machine = phone(tmp_path)
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        machine.refuse(str(path.relative_to(tmp_path)))
    assert known(Sensors(tmp_path).sample(1.0)) == {}


GARBAGE = st.one_of(
    st.binary(max_size=40),
    st.from_regex(r"(MemTotal:|cpu) +[0-9]{300,700}( kB)?\n", fullmatch=True).map(str.encode),
    st.sampled_from([b"nan", b"-inf", b"1e999", b"\xff\xfe", b"", b"-274000", b"99999999999999"]),
)


MACHINES = [pi_4, pi_5, big_little, phone, termux, proot, jetson]


def spoil(machine: Machine, path: str, how: bytes | str) -> None:
    target = machine.root / path
    if isinstance(how, bytes):
        target.unlink()
        machine.write(path, how)
    elif how == "refuse":
        machine.refuse(path)
    else:
        target.unlink()
        if how == "folder":
            target.mkdir()


@pytest.mark.parametrize("make", MACHINES)
@given(st.data())
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_spoilt_files_never_raise_and_are_not_believed(
    make: Callable[[Path], Machine], tmp_path: Path, data: st.DataObject
) -> None:
    shutil.rmtree(tmp_path)
    machine = make(tmp_path)
    sensors = Sensors(tmp_path, environ={"PATH": ""})
    sensors.sample(0.0)
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if not p.is_dir())
    hows = GARBAGE | st.sampled_from(["refuse", "vanish", "folder"])
    spoilt = st.lists(st.sampled_from(files), min_size=1, max_size=6, unique=True)
    for path in data.draw(spoilt):
        spoil(machine, path, data.draw(hows))
    for now_s in (1.0, 2.0, 100.0):
        sample = sensors.sample(now_s)
        numbers = [v for v in sample.model_dump().values() if isinstance(v, float)]
        assert all(map(math.isfinite, numbers))
        assert (sample.power_w is None) == (sample.power_method is None)
        assert 0 <= (sample.power_w or 0) <= 1000
        assert -40 < (sample.temperature_c or 0) < 150
        assert 0 <= (sample.battery_percent or 0) <= 100
        assert 0 <= (sample.memory_available_percent or 0) <= 100
    read_hardware(tmp_path)


def test_drivers_and_batteries_that_appear_later_are_found(tmp_path: Path) -> None:
    machine = Machine(tmp_path).write("proc/meminfo", "")
    sensors = Sensors(tmp_path)
    assert known(sensors.sample(0.0)) == {}
    machine.zone(0, "cpu-thermal", 40000).write(THROTTLED, "0")
    machine.supply("BAT0", type="Battery", capacity=50)
    assert known(sensors.sample(30.0)) == {}
    assert known(sensors.sample(61.0)) == {
        "temperature_c": 40.0,
        "throttled": 0,
        "low_voltage": False,
        "battery_percent": 50.0,
    }


def test_this_machine() -> None:
    sensors = Sensors()
    first = sensors.sample(time.monotonic())
    assert first.memory_total_mib
    assert first.memory_available_mib
    assert 0 < first.memory_available_mib <= first.memory_total_mib
    begun_s = time.process_time()
    while time.process_time() < begun_s + 0.3:
        pass
    second = sensors.sample(time.monotonic())
    assert second.cpu_percent is not None
    assert second.own_cpu_percent is not None
    assert second.own_cpu_percent > 0


def test_a_sample_is_cheap(tmp_path: Path) -> None:
    phone(tmp_path)
    sensors = Sensors(tmp_path)

    def batch_s() -> float:
        begun_s = time.process_time()
        for n in range(20):
            sensors.sample(float(n))
        return (time.process_time() - begun_s) / 20

    assert min(batch_s() for _ in range(5)) < 0.001


def test_the_supervisor_is_not_made_to_carry_numpy_or_psutil() -> None:
    code = (
        "import json, sys, protocols.governor, agent.placement, agent.affinity\n"
        "from agent.sensors import Sensors, read_hardware\n"
        "read_hardware(); Sensors().sample(1.0)\n"
        "print(json.dumps(sorted({'numpy', 'psutil'} & set(sys.modules))))\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    assert json.loads(done.stdout) == []
