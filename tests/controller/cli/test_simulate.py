import json
import shutil
from pathlib import Path

import pytest

from controller.simulate.files import read_trace
from tests.controller.cli.conftest import Bench


@pytest.fixture
def square(bare: Bench, tmp_path: Path) -> str:
    """The path of a trace of 20 minutes of square waves."""
    path = tmp_path / "square.jsonl"
    bare.ctl("simulate", "trace", "square", "--for", "20m", "--every", "2s", "--out", str(path))
    return str(path)


def test_a_made_trace_goes_to_stdout_or_to_a_file_that_is_not_there(
    bare: Bench, tmp_path: Path
) -> None:
    path = tmp_path / "ramp.jsonl"
    made = ("simulate", "trace", "ramp", "--for", "1m")
    words = bare.ctl(*made).stdout
    bare.ctl(*made, "--out", str(path))
    assert path.read_text() == words
    assert len(read_trace(path).lines) == 61
    assert "it is there already" in bare.ctl(*made, "--out", str(path), code=2).stderr
    bare.ctl(*made, "--every", "20s", "--out", str(path), "--force")
    assert len(read_trace(path).lines) == 4
    bare.ctl(*made, "--every", "0s", code=2)
    bare.ctl("simulate", "trace", "circle", code=2)


def test_a_replay_is_told_in_tables_and_in_json(bare: Bench, square: str) -> None:
    said = bare.ctl("simulate", "governor", square).stdout
    for words in (
        "601 samples in 0:20:00, one every 2 s",
        "example (assumed: small 8 MiB",
        "0:05:04  C0 -> C3  foreign CPU 90 % >= 85 % for 4 s",
        "0:05:04  R0 -> R1  memory available 22 % <= 25 % for 4 s",
        "R1 -> R0  recovered: nothing above R0 for 120 s",
        "CPU short for 300 s: example goes from 4 to 2 threads",
    ):
        assert words in said
    told = bare.ctl_json("simulate", "governor", square)
    assert (told["samples"], told["span_s"], told["interval_s"]) == (601, 1200.0, 2.0)
    for ladder in ("residency", "compute"):
        assert sum(told["seconds_at_rung"][ladder]) == 1200.0
    assert told["transitions"][0] == {
        "at_s": 304.0,
        "ladder": "residency",
        "before": 0,
        "after": 1,
        "cause": "memory available 22 % <= 25 % for 4 s",
    }
    assert [one["shed"] for one in told["revisions"]] == [0, 1]


def test_a_schedule_takes_the_place_of_the_default_lines(
    bare: Bench, square: str, tmp_path: Path
) -> None:
    calm = tmp_path / "calm.toml"
    lines = 'enter = ["never", "never", "never", "never"]'
    calm.write_text(f"[thresholds.foreign_cpu_percent]\n{lines}\n[dwell]\nhold_s = 30\n")
    told = bare.ctl_json("simulate", "governor", square, "--schedule", str(calm))
    walked = [(one["at_s"], one["ladder"], one["after"]) for one in told["transitions"]]
    assert walked[0] == (330.0, "residency", 1)
    assert "foreign CPU" not in json.dumps(told["transitions"])


def test_it_says_what_a_trace_lacks(bare: Bench, tmp_path: Path) -> None:
    sparse, night = tmp_path / "sparse.jsonl", tmp_path / "night.toml"
    sparse.write_text("".join(f'{{"time_s": {90 * n}, "temperature_c": 40}}\n' for n in range(5)))
    night.write_text("[[windows]]\nstart_minute = 60\nend_minute = 360\ncompute = 2\n")
    replayed = ("simulate", "governor", str(sparse))
    said = bare.ctl(*replayed, "--schedule", str(night)).stdout
    assert "none applied: the trace has no local_minute" in said
    assert "needs a sample every 60 s to revise anything" in said
    assert "local_minute" not in bare.ctl(*replayed).stdout


def test_a_cascade_of_the_catalog_brings_its_own_models(bench: Bench, square: str) -> None:
    bench.shelve()
    told = bench.ctl_json("simulate", "governor", square, "--cascade", "digits", "--cpus", "2")
    assert told["replayed_on"] == "digits@1; 2 CPUs"
    assert told["revisions"][1]["reason"] == (
        "CPU short for 300 s: digits goes from 2 to 1 threads"
    )
    assert (
        "cannot find cascade 'digit'"
        in bench.ctl("simulate", "governor", square, "--cascade", "digit", code=2).stderr
    )


def test_a_device_of_the_fleet_brings_what_is_deployed_to_it(bench: Bench, square: str) -> None:
    bench.shelve()
    replayed = ("simulate", "governor", square, "--device")
    with bench.fleet(bench.device("pi-1", cpus=8), bench.device("pi-2")):
        bench.ctl("deploy", "digits", "pi-1", "--timeout", "20s")
        told = bench.ctl_json(*replayed, "pi-1")
        assert told["replayed_on"] == "pi-1 with digits@1"
        assert told["revisions"][0]["reason"] == "digits@1 is deployed"
        nothing = bench.ctl(*replayed, "pi-2", code=2).stderr
        assert "cannot simulate pi-2: nothing is deployed to it" in nothing
        nobody = bench.ctl(*replayed, "pi-9", code=2).stderr
        assert "cannot simulate pi-9: no such device; the fleet has pi-1, pi-2" in nobody
        bench.ctl(*replayed, "pi-1", "--cascade", "digits", code=2)


def test_it_is_drawn_where_a_person_says(bare: Bench, square: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "square.svg"
    drawn = bare.ctl("simulate", "governor", square, "--out", str(path))
    assert f"Wrote {path}" in drawn.stderr.replace("\n", "")
    assert path.read_text().startswith("<svg ")
    assert "square.jsonl" in path.read_text()
    again = bare.ctl("simulate", "governor", square, "--out", str(path), code=2)
    assert "it is there already" in again.stderr.replace("\n", " ")
    bare.ctl("simulate", "governor", square, "--out", str(tmp_path / "square.gif"), code=2)


def test_a_png_takes_a_program_and_says_which(
    bare: Bench, square: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "square.png"
    if shutil.which("rsvg-convert") is not None:
        bare.ctl("simulate", "governor", square, "--out", str(path))
        assert path.read_bytes().startswith(b"\x89PNG\r\n")
        path.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = bare.ctl("simulate", "governor", square, "--out", str(path), code=2).stderr
    assert "cannot draw a PNG: rsvg-convert is not installed" in refused
    assert not path.exists()


def test_a_damaged_trace_is_code_2(bare: Bench, square: str, tmp_path: Path) -> None:
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(Path(square).read_bytes()[:-20])
    refused = bare.ctl("simulate", "governor", str(cut), code=2).stderr.replace("\n", " ")
    assert f"cannot read trace {cut}: line 601: " in refused
    bare.ctl("simulate", "governor", str(tmp_path / "nowhere.jsonl"), code=2)
