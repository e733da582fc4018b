"""The tuner's process on real models."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.affinity import get_cpus
from agent.tuner.request import LINE, Begun, Failed, Line, Measured, TuneModel, TuneRequest
from protocols.device import CoreClass
from tests import models
from tests.agent.sensors.machines import pi_5, program

ALLOWED = get_cpus() or (0,)
CORES = (CoreClass(cpus=ALLOWED[:2], capacity=1024),)
NOWHERE = Path(__file__).parent / "nowhere"


def ask(request: TuneRequest, path: Path | None = None) -> list[Line]:
    """Let the tuner answer; `path` holds programs that it finds before others."""
    before = f"{path}:" if path else ""
    done = subprocess.run(
        [sys.executable, "-m", "agent.tuner"],
        input=request.encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
        env={
            **os.environ,
            "PYTHONWARNINGS": "default",
            "OPENBLAS_NUM_THREADS": "1",
            "PATH": f"{before}{os.environ.get('PATH', os.defpath)}",
        },
    )
    return [LINE.validate_json(line) for line in done.stdout.splitlines()]


def request(*paths: Path, chains: tuple[tuple[str, ...], ...] = ()) -> TuneRequest:
    return TuneRequest(
        models=tuple(
            TuneModel(artifact=str(number) * 64, path=str(path))
            for number, path in enumerate(paths)
        ),
        chains=chains,
        cores=CORES,
        runtime="ai-edge-litert 2.3.0",
        kernel="6.6.31",
        watts_per_cpu=2.0,
        sysroot=str(NOWHERE),  # whatever this machine's own battery tells
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(models.classifier(models.random_layers(8, 6, 3)))
    return path


def test_a_model_is_measured_in_every_layout(model: Path) -> None:
    begun, measured = ask(request(model))

    assert begun == Begun(artifact="0" * 64)
    assert isinstance(measured, Measured)
    profile = measured.profile
    assert (profile.key.runtime, profile.key.cpus) == ("ai-edge-litert 2.3.0", tuple(CORES[0].cpus))
    if len(CORES[0].cpus) > 1:
        assert {run.layout for run in profile.runs} == {"intra-op", "replicas"}
    for run in profile.runs:
        assert run.count >= 50
        assert 0 < run.p50_ms <= run.p95_ms
        assert run.load_ms > 0
        assert run.energy is not None
        assert run.energy.method == "model"
        assert run.energy.joules == pytest.approx(2.0 * run.cpu_ms / 1e3, rel=0.01)


def test_what_cannot_be_loaded_is_said_and_the_rest_is_measured(
    model: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model at all")

    lines = ask(request(broken, model))

    failed = [line for line in lines if isinstance(line, Failed)]
    assert [line.artifact for line in failed] == ["0" * 64]
    assert failed[0].message.startswith("cannot load")
    assert [line.profile.key.artifact for line in lines if isinstance(line, Measured)] == ["1" * 64]


def test_a_model_that_kills_the_process_is_the_one_last_begun(model: Path, tmp_path: Path) -> None:
    deadly = tmp_path / "deadly.tflite"
    deadly.write_bytes(models.crashing())
    with pytest.raises(subprocess.CalledProcessError) as death:
        ask(request(model, deadly))

    lines = [LINE.validate_json(line) for line in death.value.stdout.splitlines()]
    assert death.value.returncode < 0
    assert isinstance(lines[1], Measured)
    assert lines[-1] == Begun(artifact="1" * 64)


@pytest.mark.skipif(len(ALLOWED) < 2, reason="a pipeline of two parts needs two CPUs")
def test_parts_are_measured_beside_each_other_too(model: Path) -> None:
    lines = ask(request(model, model, chains=(("0" * 64, "1" * 64),)))

    beside = [
        run
        for line in lines
        if isinstance(line, Measured)
        for run in line.profile.runs
        if run.layout == "pipeline"
    ]
    assert [run.cpus for run in beside] == [(ALLOWED[0],), (ALLOWED[1],)]
    assert beside[0].answers_per_s == beside[1].answers_per_s


RAILS = """
threads=$(sed -n 's/^Threads:[[:space:]]*//p' /proc/$PPID/status)
if [ "$threads" -gt 2 ]; then amperes=1.0; else amperes=0.4; fi
printf '  VDD_CORE_A current(7)=%sA\\n  VDD_CORE_V volt(15)=5.0V\\n' "$amperes"
"""
"""A board that takes 2 W while the tuner has its main thread and the one that asks, else 5 W."""


def test_on_a_board_that_tells_its_power_energy_is_measured(model: Path, tmp_path: Path) -> None:
    program(tmp_path / "bin", "vcgencmd", RAILS)
    board = pi_5(tmp_path / "root")
    asked = request(model).with_(
        sysroot=str(board.root), cores=(CoreClass(cpus=ALLOWED[:1], capacity=1),)
    )

    _begun, measured = ask(asked, tmp_path / "bin")

    assert isinstance(measured, Measured)
    for run in measured.profile.runs:
        assert run.energy is not None
        assert run.energy.method == "rail", "not the owner's estimate: the board knows better"
        # 3 W above idling, at the pace of another trial: the machine may have been busier then.
        assert 0.3 < run.energy.joules * run.answers_per_s < 30
