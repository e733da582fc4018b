"""CPU use: of the machine from its counters, of our own processes from the real ones."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.sensors.cpu import CpuMeter, CpuUse, _Counters, _Machine, boottime_s, read_own_s
from agent.sensors.tree import Tree
from tests.agent.sensors.machines import Machine, stat


def nobody() -> tuple[int, ...]:
    return ()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path).write("proc/stat", stat(1000, 9000))


@pytest.fixture
def meter(machine: Machine) -> CpuMeter:
    meter = CpuMeter(Tree(machine.root), nobody)
    assert meter.read(0.0) == CpuUse()
    return meter


def test_busy_is_what_was_not_idle_since_the_reading_before(
    machine: Machine, meter: CpuMeter
) -> None:
    machine.write("proc/stat", stat(1300, 9100))
    assert meter.read(1.0).percent == pytest.approx(75)
    machine.write("proc/stat", stat(1300, 9500))
    assert meter.read(2.0).percent == 0


def test_every_kind_of_time_counts_once(machine: Machine, meter: CpuMeter) -> None:
    """User nice system irq softirq steal are busy, idle iowait are not, guest is in user."""
    machine.write("proc/stat", "cpu  1010 10 10 9020 20 10 10 10 10 10\ncpu0 0 0 0 0\n")
    assert meter.read(1.0).percent == pytest.approx(100 * 60 / 100)


def test_counters_that_stand_still_are_made_up(machine: Machine, meter: CpuMeter) -> None:
    machine.write("proc/stat", stat(1100, 9100))
    assert meter.read(1.0).percent == pytest.approx(50)
    assert meter.read(2.0).percent == pytest.approx(50)  # not yet told apart from a slow script
    assert meter.read(4.5).percent is None
    assert meter.read(9.0).percent is None


def test_counters_that_never_moved_were_never_known(meter: CpuMeter) -> None:
    assert [meter.read(float(t)).percent for t in range(1, 8)] == [None] * 7


def test_counters_that_run_backwards_are_no_percentage(machine: Machine, meter: CpuMeter) -> None:
    machine.write("proc/stat", stat(10, 90))
    assert meter.read(1.0).percent is None
    machine.write("proc/stat", stat(20, 120))
    assert meter.read(2.0).percent == pytest.approx(25)


def test_a_reading_just_after_another_repeats_it(machine: Machine, meter: CpuMeter) -> None:
    machine.write("proc/stat", stat(1100, 9100))
    meter.read(1.0)
    machine.write("proc/stat", stat(1101, 9100))
    assert meter.read(1.01).percent == pytest.approx(50)
    machine.write("proc/stat", stat(1125, 9175))
    assert meter.read(2.0).percent == pytest.approx(25)


@pytest.mark.parametrize("text", ["", "cpu", "cpu  a b c d", "intr 5", "cpu 1 2 3", "cpu0 1 2 3 4"])
def test_garbage_is_null(machine: Machine, meter: CpuMeter, text: str) -> None:
    machine.write("proc/stat", text)
    assert meter.read(1.0).percent is None


def test_a_file_that_vanishes_and_comes_back(machine: Machine, meter: CpuMeter) -> None:
    machine.remove("proc/stat")
    assert meter.read(1.0).percent is None
    machine.write("proc/stat", stat(1100, 9100))
    assert meter.read(2.0).percent is None
    machine.write("proc/stat", stat(1200, 9200))
    assert meter.read(3.0).percent == pytest.approx(50)


BURN = "import time\nwhile time.process_time() < 0.33: pass\n"
WAIT = "print('done', flush=True); input()\n"


@contextmanager
def burned(code: str) -> Iterator[int]:
    """A child that has done its work and waits: its pid."""
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout
    child.stdout.readline()
    try:
        yield child.pid
    finally:
        child.communicate(b"\n")


def test_own_use_is_scaled_to_the_cpus_of_the_machine(machine: Machine) -> None:
    pids: list[int] = [os.getpid()]
    meter = CpuMeter(Tree(machine.root), lambda: pids)
    meter.read(0.0)
    before_s = read_own_s(pids)
    with burned(BURN + WAIT) as child:
        pids.append(child)
        machine.write("proc/stat", stat(1100, 9300))
        use = meter.read(10.0)
        after_s = read_own_s(pids)
    assert before_s is not None
    assert after_s is not None
    assert after_s - before_s >= 0.3
    assert use.percent == pytest.approx(25)
    assert use.own_percent == pytest.approx(100 * (after_s - before_s) / (10 * 4), abs=0.2)
    assert use.foreign_percent == pytest.approx(25 - (use.own_percent or 0))


def test_a_child_that_has_ended_is_found_in_its_parent() -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])\n"
    with burned(code + WAIT) as parent:
        own_s = read_own_s([parent])
        assert own_s is not None
        assert own_s >= 0.3


def test_foreign_use_is_never_below_zero(machine: Machine) -> None:
    """A scripted machine may be idler than our processes on the real one."""
    pids: list[int] = []
    meter = CpuMeter(Tree(machine.root), lambda: [os.getpid(), *pids])
    meter.read(0.0)
    with burned(BURN + WAIT) as child:
        pids.append(child)
        machine.write("proc/stat", stat(1001, 9999))
        use = meter.read(1.0)
    assert use.own_percent is not None
    assert use.own_percent > 1
    assert use.foreign_percent == 0


def test_processes_that_are_gone_are_nothing() -> None:
    assert read_own_s([]) is None
    assert read_own_s([2**22 + 1]) is None
    assert read_own_s([2**22 + 1, os.getpid()]) is not None


def test_without_own_use_no_foreign_use(machine: Machine, meter: CpuMeter) -> None:
    machine.write("proc/stat", stat(1100, 9100))
    assert meter.read(1.0) == CpuUse(percent=50.0)


# --- a proot


@pytest.mark.parametrize(
    ("uptime", "mountinfo", "percent"),
    [
        ("124.08 932.80\n", "", None),
        ("500012.40 932.80\n", "", 50.0),
        ("124.08 932.80\n", "36 35 0:33 / /proc/uptime rw - fuse.lxcfs lxcfs rw\n", 50.0),
        ("nan nan\n", "", 50.0),
        ("", "", 50.0),
    ],
    ids=["proot", "this kernel", "a container's own", "garbage", "empty"],
)
def test_an_uptime_that_is_not_the_kernels_tells_a_proc_that_is_made_up(
    machine: Machine, uptime: str, mountinfo: str, percent: float | None
) -> None:
    machine.write("proc/uptime", uptime).write("proc/self/mountinfo", mountinfo)
    meter = CpuMeter(Tree(machine.root), nobody, lambda: 500_000.0)
    meter.discover()
    meter.read(0.0)
    machine.write("proc/stat", stat(1100, 9100))
    assert meter.read(1.0).percent == percent


def test_this_kernel_is_not_taken_for_a_proot() -> None:
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    assert boottime_s() == pytest.approx(uptime_s, abs=5)


@pytest.mark.parametrize(
    ("busy_s", "own_s", "waited_s", "foreign_percent"),
    [
        (1.5, 1.0, 1.0, 50),  # one that spins meets us on one of two CPUs: it has half of that one
        (1.15, 0.3, 0.3, 50),
        (1.0, 0.0, 1.0, 50),  # others who meet each other are counted once
        (2.0, 2.0, 1.0, 0),  # nobody but us: we wait for ourselves
        (2.0, 1.9, 1.0, 10),  # others who want little want no more than as much again
        (1.5, 1.0, None, 25),  # a kernel without PSI
    ],
)
def test_what_we_withhold_from_others_is_foreign_as_well(
    meter: CpuMeter, busy_s: float, own_s: float, waited_s: float | None, foreign_percent: float
) -> None:
    before = _Counters(0.0, _Machine(0, 0, 2), 0.0, 0.0)
    after = _Counters(1.0, _Machine(busy_s, 2.0, 2), own_s, waited_s)
    found = meter._between(before, after)
    assert found.foreign_percent == pytest.approx(foreign_percent)
    assert found.percent == pytest.approx(50 * busy_s)
