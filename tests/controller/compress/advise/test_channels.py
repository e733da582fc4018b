"""Channels cut by the guide, where torch is installed: the printed command cuts them again."""

import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from controller.compress.advise.commands import Origin
from controller.compress.advise.guide import Question, advise
from controller.compress.advise.recipes import read_recipes
from controller.compress.advise.target import parse_target
from controller.compress.advise.work import Data

pytest.importorskip("torch")
pytest.importorskip("torch_pruning")
pytest.importorskip("litert_torch")

from controller.compress.training.export import converted
from controller.compress.training.network import arrays
from controller.compress.training.protocol import load_task

ROOT = str(Path(__file__).parents[4])
BLOBS = Path(__file__).parents[1] / "training" / "blobs.py"


def test_channels_are_cut_and_cut_again_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = load_task(str(BLOBS))
    x, y = arrays(task.calibration, 200)
    np.savez(tmp_path / "samples.npz", x=x, y=y)
    (tmp_path / "net.tflite").write_bytes(converted(task, task.network, "fp32"))
    monkeypatch.chdir(tmp_path)
    question = Question(
        model=tmp_path / "net.tflite",
        name="net",
        data=Data(path=str(tmp_path / "samples.npz")),
        target=parse_target("accuracy_loss<=5pp, bytes<=60%"),
        budget_s=300,
        module=str(BLOBS),
        only=read_recipes("channels macs=0.4"),
    )
    (tmp_path / "forms").mkdir()

    advice = advise(question, tmp_path / "forms")

    taken = advice.choice.form
    assert taken.name == "channels macs=0.4"
    assert not advice.choice.misses
    assert taken.nonzero < advice.forms[0].nonzero / 2
    origin = Origin("net.tflite", "net", "samples.npz", "x", "y", 0, str(BLOBS))
    (command,) = advice.commands(taken, origin)
    subprocess.run(
        [sys.executable, "-m", "controller", *shlex.split(command)[1:]],
        check=True,
        capture_output=True,
        env={**os.environ, "SLUICE_HOME": "home", "PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1"},
    )
    rebuilt = tmp_path / "net-channels-macs-0.4.tflite"
    assert hashlib.sha256(rebuilt.read_bytes()).hexdigest() == taken.sha256
