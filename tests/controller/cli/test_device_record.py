import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.simulate.files import read_trace
from protocols.device import Rungs, Sample
from tests.controller.cli.conftest import Bench
from tests.fleet import Device, Fleet, Publication


def moving(device: Device) -> list[Publication]:
    """Let time go on for a device and say so, twice, as QoS 0 may."""
    time_s = device.sample.time_s + 1
    device.sample = Sample(time_s=time_s, foreign_cpu_percent=time_s % 100)
    said = device.telemetry()
    return [said, said]


def wait_until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def fleet(bench: Bench) -> Iterator[Fleet]:
    first = bench.device("pi-1", rungs=Rungs(compute=1))
    with bench.fleet(first, bench.device("pi-2")) as fleet:
        fleet.fall_silent("pi-2")
        yield fleet


def recording(bench: Bench, path: Path, fleet: Fleet) -> subprocess.Popen[str]:
    """Start to record, and let the device say something new until that is a few lines."""
    process = bench.start("device", "record", "pi-1", "--out", str(path))

    def few_lines() -> bool:
        fleet.do("pi-1", moving)
        return path.exists() and path.read_bytes().count(b"\n") > 5

    wait_until(few_lines)
    return process


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_it_the_file_is_a_trace(
    bench: Bench, fleet: Fleet, tmp_path: Path, end: signal.Signals
) -> None:
    path = tmp_path / "pi-1.jsonl"
    process = recording(bench, path, fleet)
    process.send_signal(end)
    _, said = process.communicate(timeout=20)
    trace = read_trace(path)
    assert trace.device == "pi-1"
    seqs = [line.seq or 0 for line in trace.lines]
    assert seqs == sorted(set(seqs))
    assert [line.foreign_cpu_percent for line in trace.lines[1:]] == [
        line.time_s % 100 for line in trace.lines[1:]
    ]
    assert trace.lines[-1].rungs == Rungs(compute=1)
    assert trace.lines[-1].local_minute is not None
    assert (process.returncode, f"{len(trace.lines)} samples of" in said) == (
        (0, True) if end is signal.SIGINT else (-signal.SIGKILL, False)
    )


def test_it_ends_by_itself_and_replays(bench: Bench, fleet: Fleet, tmp_path: Path) -> None:
    """A device that repeats one sample has one to record."""
    assert fleet.devices["pi-1"].sample.time_s == 0
    path = tmp_path / "pi-1.jsonl"
    bench.ctl("device", "record", "pi-1", "--for", "1s", "--out", str(path))
    told = bench.ctl_json("simulate", "governor", str(path))
    assert (told["recorded_on"], told["samples"]) == ("pi-1", 1)
    assert told["agreement"] == {"residency": 1.0, "compute": 0.0}


def test_who_is_not_there_or_says_nothing_is_not_recorded(
    bench: Bench, fleet: Fleet, tmp_path: Path
) -> None:
    assert "pi-1" in fleet.devices
    record = ("device", "record")
    unknown = bench.ctl(*record, "pi-9", "--for", "1s", code=2).stderr
    assert "cannot record pi-9: no such device; the fleet has pi-1, pi-2" in unknown
    silent = bench.ctl(*record, "pi-2", "--for", "0.5s", code=4).stderr
    assert "cannot record pi-2: it has sent no telemetry" in silent
    path = tmp_path / "there.jsonl"
    path.write_text("precious\n")
    there = bench.ctl(*record, "pi-1", "--for", "1s", "--out", str(path), code=2).stderr
    assert "it is there already" in there.replace("\n", " ")
    assert path.read_text() == "precious\n"
