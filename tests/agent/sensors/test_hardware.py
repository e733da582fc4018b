"""What scripted machines are, and the one that runs the tests."""

import os
import platform
from pathlib import Path

import pytest

from agent.sensors import read_hardware
from agent.sensors.cores import parse_cpu_list, read_cpus
from agent.sensors.tree import Tree
from protocols.device import CoreClass, Inventory
from tests.agent.sensors.machines import MIB, Machine, big_little, phone, pi_4, stat


def test_a_pi_4(tmp_path: Path) -> None:
    hardware = read_hardware(pi_4(tmp_path).root)
    assert hardware.machine == "aarch64"
    assert hardware.model == "Raspberry Pi 4 Model B Rev 1.4"
    assert hardware.kernel == "6.6.51+rpt-rpi-v8"
    assert hardware.cores == (CoreClass(cpus=(0, 1, 2, 3), capacity=1024, max_mhz=1800),)
    assert (hardware.memory_mib, hardware.swap_mib) == (3794, 100)
    assert hardware.memory_limit_mib is None
    assert not hardware.has_battery


def test_a_big_little_board(tmp_path: Path) -> None:
    hardware = read_hardware(big_little(tmp_path).root)
    assert hardware.cores == (
        CoreClass(cpus=(4, 5), capacity=1024, max_mhz=1800),
        CoreClass(cpus=(0, 1, 2, 3), capacity=381, max_mhz=1416),
    )
    assert hardware.cpus == (4, 5, 0, 1, 2, 3)


def test_a_phone(tmp_path: Path) -> None:
    hardware = read_hardware(phone(tmp_path).root)
    assert hardware.has_battery
    assert hardware.model is None
    assert [len(group.cpus) for group in hardware.cores] == [4, 4]
    assert hardware.machine == platform.machine()


def test_cpus_that_are_offline_are_not_there(tmp_path: Path) -> None:
    machine = big_little(tmp_path).write("sys/devices/system/cpu/online", "0-2,5\n")
    assert [group.cpus for group in read_hardware(machine.root).cores] == [(5,), (0, 1, 2)]


def test_the_limit_of_our_control_group(tmp_path: Path) -> None:
    machine = pi_4(tmp_path)
    machine.write("sys/fs/cgroup/system.slice/sluice-agent.service/memory.max", f"{512 * MIB}\n")
    assert read_hardware(machine.root).memory_limit_mib == 512


def test_a_machine_without_any_file_says_nothing(tmp_path: Path) -> None:
    hardware = read_hardware(tmp_path / "nowhere")
    assert (hardware.cores, hardware.memory_mib, hardware.model, hardware.kernel) == (
        (),
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0-3", (0, 1, 2, 3)),
        ("0,2-3,7", (0, 2, 3, 7)),
        ("5", (5,)),
        ("", ()),
        ("0-", ()),
        ("all", ()),
        ("0-99999999", ()),
    ],
)
def test_cpu_lists(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpu_list(text) == cpus


def test_cpus_from_the_counters_where_sys_is_closed(tmp_path: Path) -> None:
    Machine(tmp_path).write("proc/stat", stat(1, 1, cpus=3))
    assert read_cpus(Tree(tmp_path)) == (0, 1, 2)


def test_this_machine_fits_into_an_inventory() -> None:
    hardware = read_hardware()
    assert set(hardware.cpus) == os.sched_getaffinity(0)
    inventory = Inventory(device="here", agent_version="0", **vars(hardware))
    assert inventory.machine == platform.machine()
    assert inventory.kernel == platform.release()
    assert inventory.cores == hardware.cores
    assert inventory.memory_mib
