"""A model that was cut in two, served by a real agent as a pipeline on two CPUs."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.affinity import get_cpus
from agent.runner import blackbox
from controller.compress.split import cuts_for_parts, make_parts, read_flow
from protocols.inference.runtime import open_model
from protocols.schedule import StageCompute, default_cascade_schedule
from tests.agent.picture import Picture
from tests.agent.rig import CALM, Rig, rigged
from tests.agent.runner.cascades import Built, Piece, build
from tests.end_to_end.clients import Load
from tests.end_to_end.digits import LARGE_FP32, images
from tests.end_to_end.stack import wait_for

ALLOWED = get_cpus() or (0,)
CLIENTS = 3


@pytest.fixture
def rig(tmp_path: Path, broker_url: str) -> Iterator[Rig]:
    with rigged(tmp_path, broker_url, "pipeline") as rig:
        yield rig


def parts(folder: Path) -> Built:
    """Return the demo's large model as a cascade of its halves."""
    folder.mkdir()
    flow = read_flow(LARGE_FP32.read_bytes(), "large")
    front, back = make_parts(flow, cuts_for_parts(flow, 2))
    pieces = [
        Piece("front", front.content, kind="raw"),
        Piece("back", back.content, reads="stage:front"),
    ]
    return build(folder, pieces, images(12)[0])


def workers_inside(runner: int) -> int:
    """Return how many workers of a runner are in the interpreter, by its black box."""
    for name in Path(f"/proc/{runner}/fd").iterdir():
        with contextlib.suppress(OSError):
            if "sluice-blackbox" not in str(name.readlink()):
                continue
            with name.open("rb") as box:
                content = os.pread(box.fileno(), blackbox.SIZE_BYTES, 0)
            return sum(content[:: blackbox._SLOT_BYTES])
    raise AssertionError("no black box")


@pytest.mark.skipif(len(ALLOWED) < 2, reason="a pipeline of two parts needs two CPUs")
def test_parts_run_beside_each_other_and_answer_as_the_whole_does(rig: Rig, tmp_path: Path) -> None:
    built = parts(tmp_path / "built")
    rows = default_cascade_schedule(("front", "back"), 1)
    beside = {
        name: StageCompute(layout="pipeline", threads=1, cpus=(cpu,))
        for name, cpu in zip(("front", "back"), ALLOWED, strict=False)
    }
    rows = rows.with_(compute=(rows.compute[0].with_(stages=beside), *rows.compute[1:]))
    rig.start(Picture(tmp_path / "machine", cpus=max(ALLOWED) + 1))
    rig.desire(rig.ship(built), schedule=CALM.with_(cascades={"digits": rows}))
    rig.wait_running()
    (runner,) = rig.runner_pids()
    with contextlib.ExitStack() as stack:
        loads = [
            stack.enter_context(Load(rig.address(), "digits", built.x)) for _ in range(CLIENTS)
        ]
        wait_for("both parts inside at once", lambda: workers_inside(runner) > 1)
        wait_for("answers", lambda: all(len(load.answers) > len(built.x) for load in loads))

    whole = open_model(LARGE_FP32)
    wanted = [whole.run([sample[None]])[0].ravel() for sample in built.x]
    for load in loads:
        assert (load.refused, load.broken) == (0, [])
        for index, answer in load.answers:
            scores = answer.document["outputs"][0]["data"]
            assert np.allclose(scores, wanted[index], atol=1e-6)

    def placed() -> bool:
        telemetry = rig.observer.telemetry.get(rig.name)
        stages = telemetry.cascades[0].stages if telemetry and telemetry.cascades else ()
        found = [(stage.layout, stage.threads, stage.cpus) for stage in stages]
        return found == [("pipeline", 1, (cpu,)) for cpu in ALLOWED[:2]]

    wait_for("both parts on CPUs of their own, as their threads say", placed)
