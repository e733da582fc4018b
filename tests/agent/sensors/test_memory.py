"""Memory of the machine and of control groups, both versions."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.sensors.memory import Memory, MemoryMeter, read_meminfo_mib
from agent.sensors.tree import Tree
from tests.agent.sensors.machines import MIB, Machine, meminfo

V2 = "sys/fs/cgroup/system.slice/agent.service"
V1 = "sys/fs/cgroup/memory/docker/abc"

Limiter = Callable[..., Machine]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path).write("proc/meminfo", meminfo(4000, 1000, swap_mib=512))


def read(machine: Machine) -> Memory:
    return MemoryMeter(Tree(machine.root)).read()


def v2(machine: Machine, limit: object, used_mib: int, inactive_mib: int = 0) -> Machine:
    return (
        machine.write("proc/self/cgroup", "0::/system.slice/agent.service\n")
        .write(f"{V2}/memory.max", f"{limit}\n")
        .write(f"{V2}/memory.current", f"{used_mib * MIB}\n")
        .write(f"{V2}/memory.stat", f"anon 5\nfile 7\ninactive_file {inactive_mib * MIB}\n")
    )


def v1(machine: Machine, limit: object, used_mib: int, inactive_mib: int = 0) -> Machine:
    return (
        machine.write("proc/self/cgroup", "4:memory:/docker/abc\n1:cpu,cpuacct:/x\n0::/\n")
        .write(f"{V1}/memory.limit_in_bytes", f"{limit}\n")
        .write(f"{V1}/memory.usage_in_bytes", f"{used_mib * MIB}\n")
        .write(f"{V1}/memory.stat", f"inactive_file 9\ntotal_inactive_file {inactive_mib * MIB}\n")
    )


def test_without_a_limit(machine: Machine) -> None:
    assert read(machine) == Memory(4000.0, 1000.0, 25.0)
    assert MemoryMeter(Tree(machine.root)).limit_mib() is None


@pytest.mark.parametrize("make", [v2, v1])
def test_a_limit_that_leaves_less(machine: Machine, make: Limiter) -> None:
    make(machine, 500 * MIB, 450, 30)
    assert read(machine) == Memory(500.0, 80.0, 16.0)
    assert MemoryMeter(Tree(machine.root)).limit_mib() == 500.0


@pytest.mark.parametrize("make", [v2, v1])
def test_a_limit_that_leaves_more_than_the_machine_has(machine: Machine, make: Limiter) -> None:
    make(machine, 2000 * MIB, 100)
    assert read(machine) == Memory(2000.0, 1000.0, 25.0)


def test_groups_without_a_limit(machine: Machine) -> None:
    v2(machine, "max", 450)
    assert read(machine) == Memory(4000.0, 1000.0, 25.0)
    v1(machine, 9223372036854771712, 450)
    assert read(machine) == Memory(4000.0, 1000.0, 25.0)
    assert MemoryMeter(Tree(machine.root)).limit_mib() is None


def test_a_limit_of_a_group_above(machine: Machine) -> None:
    v2(machine, "max", 10)
    machine.write("sys/fs/cgroup/system.slice/memory.max", f"{800 * MIB}")
    machine.write("sys/fs/cgroup/system.slice/memory.current", f"{600 * MIB}")
    assert read(machine) == Memory(800.0, 200.0, 25.0)


def test_in_a_container_whose_groups_above_are_out_of_sight(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/../../elsewhere\n")
    machine.write("sys/fs/cgroup/memory.max", f"{400 * MIB}")
    machine.write("sys/fs/cgroup/memory.current", f"{300 * MIB}")
    assert read(machine) == Memory(400.0, 100.0, 25.0)


def test_more_in_use_than_the_limit_leaves_nothing(machine: Machine) -> None:
    v2(machine, 500 * MIB, 520)
    assert read(machine) == Memory(500.0, 0.0, 0.0)


def test_the_limit_alone_where_the_machine_does_not_tell(machine: Machine) -> None:
    v2(machine, 500 * MIB, 250).remove("proc/meminfo")
    assert read(machine) == Memory(500.0, 250.0, 50.0)


def test_a_limit_may_change_while_we_run(machine: Machine) -> None:
    v2(machine, "max", 100)
    meter = MemoryMeter(Tree(machine.root))
    assert meter.read().total_mib == 4000
    machine.write(f"{V2}/memory.max", f"{1000 * MIB}")
    assert meter.read().total_mib == 1000


@pytest.mark.parametrize(
    "text",
    ["", "MemTotal: x kB\n", "MemTotal:   1000 kB\n", "MemTotal: 0 kB\nMemAvailable: 0 kB\n"],
)
def test_garbage_and_kernels_that_do_not_tell(machine: Machine, text: str) -> None:
    machine.write("proc/meminfo", text)
    assert read(machine) == Memory()


def test_available_is_never_more_than_there_is(machine: Machine) -> None:
    machine.write("proc/meminfo", meminfo(1000, 1200))
    assert read(machine).available_percent == 100


def test_meminfo_is_in_mib(machine: Machine) -> None:
    info = read_meminfo_mib(Tree(machine.root))
    assert (info["MemTotal"], info["SwapTotal"]) == (4000.0, 512.0)


def test_a_units_memory_high_is_a_limit_too(machine: Machine) -> None:
    v2(machine, "max", 100).write(f"{V2}/memory.high", f"{600 * MIB}\n")
    meter = MemoryMeter(Tree(machine.root))
    assert meter.limit_mib() == 600
    assert meter.read() == Memory(600.0, 500.0, 25.0), "the machine is short, the unit is not"
    machine.write(f"{V2}/memory.max", f"{500 * MIB}")
    assert meter.limit_mib() == 500
    machine.write(f"{V2}/memory.max", "max\n").write(f"{V2}/memory.high", "max\n")
    assert meter.limit_mib() is None


@pytest.mark.parametrize("make", [v2, v1])
def test_what_a_load_would_leave_is_the_least_of_all_places(
    machine: Machine, make: Limiter
) -> None:
    make(machine, 500 * MIB, 100)  # of the group 400 MiB are left, of the machine 1000 of 4000
    meter = MemoryMeter(Tree(machine.root))
    assert meter.left_percent(0) == 25.0
    assert meter.left_percent(100) == 22.5
    assert meter.left_percent(380) == 4.0
    assert meter.left_percent(450) == -10.0


def test_what_a_load_would_leave_is_not_known_where_nothing_is(tmp_path: Path) -> None:
    assert MemoryMeter(Tree(tmp_path)).left_percent(1) is None
