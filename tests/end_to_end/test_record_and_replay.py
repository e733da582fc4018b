"""A real agent on a real broker is recorded under pressure; its trace is replayed, and drawn."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from controller.cli.app import app
from controller.planner import PlannerPolicy
from controller.simulate.files import read_trace
from controller.simulate.replay import replay
from controller.simulate.subject import example, of_bundle
from protocols.schedule import DEFAULT_THRESHOLDS, WORST, Dwell, Schedule
from tests.agent.picture import Picture
from tests.agent.rig import Rig, rigged, two_stages
from tests.brokers import running_broker
from tests.end_to_end.stack import FLEET, wait_for

MEMORY = DEFAULT_THRESHOLDS["memory_available_percent"]
QUICK = Schedule(
    thresholds={"memory_available_percent": MEMORY},
    dwell=Dwell(hold_s=0.3, recover_s=0.5, up_moves_per_hour=1000),
)
TOTAL_MIB, SHORT_MIB, ENOUGH_MIB = 1024, 40, 800


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with running_broker(tmp_path) as url, rigged(tmp_path, url, "recorded") as rig:
        yield rig


def ctl(rig: Rig, *arguments: str) -> subprocess.Popen[str]:
    where = ("--home", str(rig.folder / "home"), "--broker", rig.broker_url, "--fleet", FLEET)
    return subprocess.Popen(
        [sys.executable, "-m", "controller", *where, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "160"},
    )


def test_what_an_agent_went_through_is_gone_through_again(rig: Rig, tmp_path: Path) -> None:
    picture = Picture(tmp_path / "root", total_mib=TOTAL_MIB)
    picture.memory(ENOUGH_MIB)
    rig.start(picture)
    rig.desire(rig.ship(two_stages(tmp_path / "bundle")), schedule=QUICK)
    rig.wait_running()

    path = tmp_path / "recorded.jsonl"
    process = ctl(rig, "device", "record", rig.name, "--out", str(path))
    try:
        wait_for_lines(path, lambda rungs: rungs.count(0) >= 3)
        picture.memory(SHORT_MIB)
        wait_for_lines(path, lambda rungs: rungs.count(WORST) >= 5)
        picture.memory(ENOUGH_MIB)
        wait_for_lines(path, lambda rungs: rungs[-3:] == [0, 0, 0])
        rig.stop()
        rig.start(picture)
        wait_for_lines(path, lambda rungs: len(rungs) > 3, boots=2)
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said

    trace = read_trace(path)
    assert f"{len(trace.lines)} samples of" in said
    assert sum(trace.begins) == 1
    loaded = [s.loaded for one in trace.lines for c in one.cascades or () for s in c.stages]
    assert {*loaded} == {True, False}

    ref, bundle = example()
    subject = of_bundle(ref, bundle, cpus=4, memory_mib=TOTAL_MIB, schedule=QUICK)
    course = replay(trace, subject, PlannerPolicy())
    short = [
        f for f in course.frames if (f.line.memory_available_percent or 0) <= (MEMORY.hard or 0)
    ]
    assert len(short) >= 5
    for frame in short:
        assert frame.line.rungs is not None
        assert frame.rungs.residency == frame.line.rungs.residency == WORST
    assert course.moves[0].at_s == short[0].at_s
    assert course.frames[-1].rungs.residency == 0

    told = replayed_by_ctl(tmp_path, path)
    assert told["samples"] == len(trace.lines)
    assert told["agreement"]["residency"] == course.agreement("residency")
    assert told["agreement"]["residency"] > 0.5


def wait_for_lines(path: Path, look: Callable[[list[int]], bool], *, boots: int = 1) -> None:
    """Wait until the residency rungs that were recorded of the last run are as they should be."""

    def there() -> bool:
        if not path.exists() or not path.read_bytes():
            return False
        lines = read_trace(path).lines
        rungs = [
            one.rungs.residency
            for one in lines
            if one.rungs is not None and one.boot_id == lines[-1].boot_id
        ]
        return len({one.boot_id for one in lines}) == boots and look(rungs)

    wait_for("recorded lines", there)


def replayed_by_ctl(folder: Path, path: Path) -> Any:  # noqa: ANN401 - any document
    schedule = folder / "quick.json"
    schedule.write_bytes(QUICK.encode())
    drawing = folder / "recorded.svg"
    done = CliRunner().invoke(
        app,
        [
            *("--home", str(folder / "home"), "simulate", "governor", str(path)),
            *("--schedule", str(schedule), "--out", str(drawing), "-o", "json"),
        ],
    )
    assert done.exit_code == 0, done.output
    assert "as the device reported" in drawing.read_text()
    return json.loads(done.stdout)
