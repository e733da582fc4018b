"""The agent notices that it may use other CPUs: a person's taskset, a cpuset, a CPU that goes."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.affinity import get_cpus
from agent.sensors.mask import MaskWatch
from protocols.device import StageStats
from protocols.schedule import default_cascade_schedule
from tests.agent.picture import Picture
from tests.agent.rig import CALM, Rig, one_stage, rigged
from tests.agent.sensors.machines import Machine
from tests.end_to_end.clients import Load
from tests.end_to_end.stack import wait_for

ALLOWED = get_cpus() or (0,)
two_cpus = pytest.mark.skipif(len(ALLOWED) < 2, reason="this machine has one CPU for us")
_numbers = itertools.count()


@contextlib.contextmanager
def confined(*cpus: int) -> Iterator[None]:
    """Let this thread use some CPUs only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@two_cpus
def test_the_watch_tells_each_change_once() -> None:
    watch = MaskWatch(Path("/"), lambda _cpus: {})
    assert watch.look() == ""
    assert watch.cpus == ALLOWED
    with confined(ALLOWED[1]):
        assert str(ALLOWED[1]) in watch.look()
        assert (watch.cpus, watch.mask) == ((ALLOWED[1],), (ALLOWED[1],))
        assert watch.look() == ""
    assert watch.look()
    assert (watch.cpus, watch.mask) == (ALLOWED, ALLOWED)


def test_a_scripted_machine_s_cpus_come_and_go_and_our_mask_stays(tmp_path: Path) -> None:
    capacity = {0: 400, 1: 400, 4: 1024, 5: 1024}
    machine = Machine(tmp_path).cpus("0-1,4-5", capacity, {})
    watch = MaskWatch(machine.root, lambda _cpus: {})
    assert [*watch.cpus] == [4, 5, 0, 1]
    machine.cpus("0-1,5", {}, {})
    assert watch.look() == "CPUs 0,1,5 may be used, before 0,1,4,5"
    assert [*watch.cpus] == [5, 0, 1]
    machine.remove("sys/devices/system/cpu/online")
    assert watch.look()  # hidden now: nothing is known, and nothing is cut by it
    assert not watch.cpus
    assert watch.mask == get_cpus()


@pytest.fixture
def rig(tmp_path: Path, broker_url: str) -> Iterator[Rig]:
    with rigged(tmp_path, broker_url, f"mask-{next(_numbers)}") as rig:
        yield rig


def stage(rig: Rig) -> StageStats | None:
    telemetry = rig.observer.telemetry.get(rig.name)
    cascades = telemetry.cascades if telemetry else ()
    return cascades[0].stages[0] if cascades else None


def wait_threads(rig: Rig, threads: int, cpus: tuple[int, ...]) -> None:
    def look() -> bool:
        now = stage(rig)
        return now is not None and (now.threads, now.cpus) == (threads, cpus)

    wait_for(f"{threads} threads on {cpus}", look)


@two_cpus
def test_another_mask_of_the_agent_reaches_its_runner_s_threads_and_no_request_fails(
    rig: Rig, tmp_path: Path
) -> None:
    built = one_stage(tmp_path / "built")
    rig.start(Picture(tmp_path / "machine", cpus=len(ALLOWED)))
    schedule = CALM.with_(cascades={"digits": default_cascade_schedule(("only",), 2)})
    rig.desire(rig.ship(built), schedule=schedule)
    rig.wait_running()
    wait_threads(rig, 2, ALLOWED)
    assert rig.process is not None
    with Load(rig.address(), "digits", built.x) as load:
        for cpu in ALLOWED[:2]:
            os.sched_setaffinity(rig.process.pid, {cpu})  # as `taskset -p` does it
            wait_threads(rig, 1, (cpu,))
            (runner,) = rig.runner_pids()
            tasks = Path(f"/proc/{runner}/task").iterdir()
            assert {get_cpus(int(task.name)) for task in tasks} <= {(cpu,), None}
        os.sched_setaffinity(rig.process.pid, ALLOWED)
        wait_threads(rig, 2, ALLOWED)
    assert rig.wait_event("threads", "may be used")
    assert {answer.status for _, answer in load.answers} == {200}
    assert (load.refused, load.broken) == (0, [])


def test_plans_are_cut_when_a_cpu_of_the_machine_goes_and_whole_when_it_is_back(
    rig: Rig, tmp_path: Path
) -> None:
    built = one_stage(tmp_path / "built")
    picture = Picture(tmp_path / "machine", cpus=2)
    rig.start(picture)
    schedule = CALM.with_(cascades={"digits": default_cascade_schedule(("only",), 2)})
    rig.desire(rig.ship(built), schedule=schedule)
    rig.wait_running()
    most = min(2, len(ALLOWED))
    for listed, threads in (("0-1", most), ("0", 1), ("0-1", most)):
        picture._write("sys/devices/system/cpu/online", f"{listed}\n")
        wait_threads(rig, threads, ALLOWED)
