"""Which classes of cores a machine has, from the first of its files that tells them apart."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.sensors.cores import read_cores
from agent.sensors.tree import Tree
from tests.agent.sensors.machines import Machine

A53, A55, A72, A76, X1 = 0x410FD034, 0x411FD050, 0x410FD083, 0x414FD0B1, 0x411FD440
UNKNOWN = 0x480FD020
KRYO_SILVER, KRYO_GOLD = 0x51DF805E, 0x51DF804E


def with_registers(root: Path, *midr: int, online: str | None = None) -> Machine:
    """A machine that tells of its CPUs by their registers alone."""
    machine = Machine(root).cpus(online or f"0-{len(midr) - 1}", {}, {})
    for cpu, value in enumerate(midr):
        machine.write(register(cpu), f"0x{value:016x}\n")
    return machine


def register(cpu: int) -> str:
    return f"sys/devices/system/cpu/cpu{cpu}/regs/identification/midr_el1"


def cpuinfo(*midr: int) -> str:
    """`/proc/cpuinfo` as arm64 prints it."""
    return "".join(
        f"processor\t: {cpu}\nBogoMIPS\t: 48.00\nFeatures\t: fp asimd evtstrm aes\n"
        f"CPU implementer\t: 0x{value >> 24:02x}\nCPU architecture: 8\n"
        f"CPU variant\t: 0x{value >> 20 & 0xF:x}\nCPU part\t: 0x{value >> 4 & 0xFFF:03x}\n"
        f"CPU revision\t: {value & 0xF}\n\n"
        for cpu, value in enumerate(midr)
    )


def groups(machine: Machine) -> tuple[list[tuple[int, ...]], str | None]:
    cores = read_cores(Tree(machine.root))
    return [group.cpus for group in cores.classes], cores.source


@pytest.mark.parametrize(
    ("midr", "found"),
    [
        ((A53, A53, A53, A53, A72, A72), [(4, 5), (0, 1, 2, 3)]),
        ((A76, A76, A55, A55), [(0, 1), (2, 3)]),
        ((A55, A55, A76, A76, X1), [(4,), (2, 3), (0, 1)]),
        ((KRYO_SILVER, KRYO_SILVER, KRYO_GOLD), [(2,), (0, 1)]),
        ((A72, A72, A72, A72), [(0, 1, 2, 3)]),
    ],
)
def test_big_and_little_by_register_alone(
    tmp_path: Path, midr: tuple[int, ...], found: list[tuple[int, ...]]
) -> None:
    assert groups(with_registers(tmp_path / "sys-only", *midr)) == (found, "midr")
    listed = Machine(tmp_path / "listed").cpus(f"0-{len(midr) - 1}", {}, {})
    listed.write("proc/cpuinfo", cpuinfo(*midr))
    assert groups(listed) == (found, "midr")


def test_the_register_counts_where_the_list_says_another_thing(tmp_path: Path) -> None:
    machine = with_registers(tmp_path, A53, A72).write("proc/cpuinfo", cpuinfo(A72, A53))
    assert groups(machine) == ([(1,), (0,)], "midr")


def test_the_list_fills_in_for_a_register_that_cannot_be_read(tmp_path: Path) -> None:
    machine = with_registers(tmp_path, A53, A53, A72, A72).refuse(register(2))
    machine.write(register(3), "garbage\n")
    assert groups(machine) == ([(0, 1, 2, 3)], None)
    machine.write("proc/cpuinfo", cpuinfo(A53, A53, A72, A72))
    assert groups(machine) == ([(2, 3), (0, 1)], "midr")


def test_of_a_part_that_nobody_knows_nothing_is_said(tmp_path: Path) -> None:
    assert groups(with_registers(tmp_path, A53, UNKNOWN)) == ([(0, 1)], None)
    assert groups(with_registers(tmp_path, UNKNOWN, UNKNOWN)) == ([(0, 1)], None)


def test_an_old_list_that_names_one_part_for_all_says_nothing(tmp_path: Path) -> None:
    text = "processor\t: 0\n\nprocessor\t: 1\n\nCPU implementer\t: 0x41\nCPU part\t: 0xc07\n"
    machine = Machine(tmp_path).cpus("0-1", {}, {}).write("proc/cpuinfo", text)
    assert groups(machine) == ([(0, 1)], None)


def test_cpus_that_are_offline_or_have_gone_do_not_count(tmp_path: Path) -> None:
    machine = with_registers(tmp_path, A53, A53, A72, A72, online="0-1,3")
    machine.remove(register(2))  # the kernel takes it away with the CPU
    assert groups(machine) == ([(3,), (0, 1)], "midr")
    machine.cpus("0-1", {}, {})
    assert groups(machine) == ([(0, 1)], "midr")


def test_capacity_comes_before_clock_and_clock_before_register(tmp_path: Path) -> None:
    machine = with_registers(tmp_path, A53, A53, A72, A72)
    machine.cpus("0-3", {}, {0: 2_000_000, 1: 1_000_000, 2: 1_000_000, 3: 1_000_000})
    assert groups(machine) == ([(0,), (1, 2, 3)], "cpuinfo_max_freq")
    machine.cpus("0-3", {0: 500, 1: 1024, 2: 500, 3: 500}, {})
    assert groups(machine) == ([(1,), (0, 2, 3)], "cpu_capacity")


def test_a_capacity_that_is_the_same_for_all_leaves_it_to_the_register(tmp_path: Path) -> None:
    machine = with_registers(tmp_path, A53, A53, A72, A72)
    machine.cpus("0-3", dict.fromkeys(range(4), 1024), dict.fromkeys(range(4), 1_500_000))
    assert groups(machine) == ([(2, 3), (0, 1)], "midr")


def test_measured_is_what_no_file_tells_and_nothing_else(tmp_path: Path) -> None:
    asked: list[tuple[int, ...]] = []

    def measure(cpus: tuple[int, ...]) -> Mapping[int, float]:
        asked.append(cpus)
        return {0: 10.0, 1: 10.0, 2: 30.0}

    silent = Tree(Machine(tmp_path / "silent").cpus("0-2", {}, {}).root)
    found = read_cores(silent, measure)
    assert ([group.cpus for group in found.classes], found.source) == ([(2,), (0, 1)], "measured")
    assert asked == [(0, 1, 2)]
    telling = with_registers(tmp_path / "telling", A72, A72)
    single = Machine(tmp_path / "single").cpus("0", {}, {})
    for machine in (telling, single):
        read_cores(Tree(machine.root), measure)
    assert asked == [(0, 1, 2)]


def test_a_measurement_that_cannot_tell_leaves_one_class(tmp_path: Path) -> None:
    tree = Tree(Machine(tmp_path).cpus("0-2", {}, {}).root)
    for told in ({}, {0: 1.0, 1: 9.0}):
        cores = read_cores(tree, lambda _cpus, told=told: told)  # type: ignore[misc]
        assert [group.cpus for group in cores.classes] == [(0, 1, 2)]
        assert cores.source is None


def test_on_this_machine_the_mask_cuts() -> None:
    before = os.sched_getaffinity(0)
    one = min(before)
    try:
        os.sched_setaffinity(0, {one})
        assert [group.cpus for group in read_cores(Tree(Path("/"))).classes] == [(one,)]
    finally:
        os.sched_setaffinity(0, before)
