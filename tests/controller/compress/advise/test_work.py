"""Work in a process that is ended with all that it started."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from controller.compress.advise.recipes import Step, Technique
from controller.compress.advise.work import Data, Made, Make, WorkStoppedError, do
from controller.compress.errors import CompressError
from tests.controller import classifiers
from tests.models import classifier


@pytest.fixture(name="job")
def _job(tmp_path: Path) -> Make:
    x, y = classifiers.dataset(60)
    np.savez(tmp_path / "samples.npz", x=x, y=y)
    model = tmp_path / "dense.tflite"
    model.write_bytes(classifier(classifiers.layers()))
    data = Data(path=str(tmp_path / "samples.npz"))
    return Make(model=str(model), out=str(tmp_path / "out.tflite"), name="dense", data=data)


def test_what_cannot_be_done_says_why(job: Make, tmp_path: Path) -> None:
    step = Step(technique=Technique.CHANNELS, amount="macs=0.1")

    with pytest.raises(CompressError, match=r"cannot cut channels: no module was given"):
        do(job.with_(step=step), Made, 60, tmp_path)


def test_when_its_time_is_over_the_whole_group_is_killed(job: Make, tmp_path: Path) -> None:
    began_s = time.monotonic()

    with pytest.raises(WorkStoppedError, match="its time was over"):
        do(job, Made, 0.05, tmp_path)

    assert time.monotonic() - began_s < 5


def test_temporary_files_are_left_in_the_scratch_folder_alone(job: Make, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    made = do(job, Made, 60, scratch)

    assert made.halves == (30, 30)
    assert made.accuracy > 0.9
    assert Path(job.out).read_bytes() == Path(job.model).read_bytes()
    assert [path.name for path in scratch.iterdir()] == ["errors.log"]


def test_when_its_parent_dies_the_group_ends_too(job: Make) -> None:
    step = Step(technique=Technique.PRUNE, amount="auto", max_loss="100")
    with subprocess.Popen(
        [sys.executable, "-m", "controller.compress.advise.work_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(job.with_(step=step).model_dump_json().encode() + b"\n")
        child.stdin.flush()
        assert b'"at"' in child.stdout.readline()  # it is in the middle of a search

        child.stdin.close()

        assert child.wait(10) == -signal.SIGKILL
