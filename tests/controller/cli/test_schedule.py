import json
import os
import signal
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocols.desired import Desired
from tests.controller.cli.conftest import Bench
from tests.controller.cli.test_wishes import TUNED
from tests.fleet import Fleet

_SOON_S = 20.0


@pytest.fixture
def running(bench: Bench) -> Iterator[Fleet]:
    """A tuned device and one that is new, both with digits."""
    bench.shelve()
    with bench.fleet(bench.device("pi-1", profiles=TUNED), bench.device("pi-2", cpus=2)) as fleet:
        bench.ctl("deploy", "digits", "--timeout", "20s")
        yield fleet


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of Python that is the editor: it gets `path`, and how often it was opened before."""
    script = tmp_path / "editor.py"
    starter = tmp_path / "editor"
    count = tmp_path / "opened"
    starter.write_text(
        f"#!{sys.executable}\n"
        "import sys\nfrom pathlib import Path\n"
        f"path, count = Path(sys.argv[1]), Path({str(count)!r})\n"
        "opened = len(count.read_text()) if count.exists() else 0\n"
        "count.write_text('x' * (opened + 1))\n"
        f"exec(Path({str(script)!r}).read_text())\n"
    )
    starter.chmod(starter.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("VISUAL", str(starter))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return script


def desired(fleet: Fleet, name: str) -> Desired:
    found = fleet.devices[name].desired
    assert found is not None
    return found


def threads(fleet: Fleet, name: str) -> int:
    return desired(fleet, name).schedule.cascades["digits"].compute[0].stages["large"].threads


def deployments(bench: Bench) -> int:
    return len(bench.ctl_json("deployment", "ls", "--all"))


@pytest.mark.usefixtures("running")
def test_show_is_the_rungs_with_figures_and_where_they_come_from(bench: Bench) -> None:
    shown = bench.ctl("schedule", "show", "pi-1", "digits").stdout
    assert "digits@1 (small=int8, large=fp32)" in shown
    assert "0.8 eps 1%" in shown
    assert "measured here: p50 8 ms, p95 8 ms" in shown
    assert "temperature_c             C1-C4 >=  70  75  79  82    83" in shown
    document = bench.ctl_json("schedule", "show", "pi-1")
    assert (document["generation"], document["accepted"], document["version"]) == (1, 1, 0)
    assert document["cascades"]["digits"]["rows_from"] == "the compiler"
    assert document["cascades"]["digits"]["thresholds"]["small"][2]["threshold"] == 0.8
    assert document["schedule"]["cascades"]["digits"]["compute"][0]["stages"]["large"] == {
        "layout": "intra-op",
        "threads": 4,
        "cpus": None,
        "nice": 0,
    }
    assert "a rule: the device has not tuned it yet" in bench.ctl("schedule", "show", "pi-2").stdout


@pytest.mark.usefixtures("running")
def test_diff_of_devices_files_and_the_compiler(bench: Bench, tmp_path: Path) -> None:
    found = bench.ctl_json("schedule", "diff", "pi-1", "pi-2")
    assert {"place": "digits C0", "what": "large threads", "before": "4", "after": "2"} in found
    assert "The compiler would write the same." in bench.ctl("schedule", "diff", "pi-1").stderr
    first, second = tmp_path / "a.toml", tmp_path / "b.json"
    first.write_text(bench.ctl("schedule", "show", "pi-1", "-o", "toml").stdout)
    assert bench.ctl_json("schedule", "diff", "pi-1", str(first)) == []
    document = bench.ctl_json("schedule", "show", "pi-1")["schedule"]
    document["dwell"]["hold_s"] = 7
    second.write_text(json.dumps(document))
    assert bench.ctl_json("schedule", "diff", str(first), str(second)) == [
        {"place": "dwell", "what": "hold_s", "before": "4", "after": "7"}
    ]


def test_diff_shows_what_tuning_would_change(bench: Bench, running: Fleet) -> None:
    """A person's rows stand in the way: the compiler alone would have written others."""
    rows = tomllib.loads(bench.ctl("schedule", "show", "pi-1", "-o", "toml").stdout)
    rows["cascades"]["digits"]["compute"][0]["stages"]["large"]["threads"] = 2
    file = bench.home.folder / "rows.json"
    file.write_text(json.dumps(rows))
    bench.ctl("schedule", "edit", "pi-1", "--file", str(file), "--yes")
    assert threads(running, "pi-1") == 2
    done = bench.ctl("schedule", "diff", "pi-1")
    assert "digits has a person's rows, version 1" in done.stderr
    assert bench.ctl_json("schedule", "diff", "pi-1") == [
        {"place": "digits C0", "what": "large threads", "before": "2", "after": "4"}
    ]
    assert "a person's rows, version 1 by" in bench.ctl("schedule", "show", "pi-1").stdout


def test_edit_lines_of_a_cascade_then_rows_of_a_device_then_back(
    bench: Bench, running: Fleet, editor: Path, tmp_path: Path
) -> None:
    editor.write_text("path.write_text(path.read_text().replace('hold_s = 4.0', 'hold_s = 2.0'))")
    done = bench.ctl("schedule", "edit", "digits", "--yes")
    assert "version 1 of digits" in done.stderr
    for name, count in (("pi-1", 4), ("pi-2", 2)):
        assert desired(running, name).schedule.dwell.hold_s == 2.0
        assert desired(running, name).schedule.version == 1
        assert threads(running, name) == count, "its rows stay the compiler's"

    editor.write_text("path.write_text(path.read_text().replace('threads = 4', 'threads = 3', 2))")
    made = bench.ctl_json("schedule", "edit", "pi-1", "--yes")
    assert (made["version"], made["exit_code"], made["left"]) == (2, 0, [])
    assert made["deployment"]["devices"] == ["pi-1"]
    assert (threads(running, "pi-1"), threads(running, "pi-2")) == (3, 2)

    editor.write_text("path.write_text(path.read_text().replace('hold_s = 2.0', 'hold_s = 6.0'))")
    done = bench.ctl("schedule", "edit", "digits", "--yes")
    assert "pi-1: the schedule of digits-v1-" in done.stderr
    holds = [desired(running, name).schedule.dwell.hold_s for name in ("pi-1", "pi-2")]
    assert holds == [2.0, 6.0], "the device keeps its own"

    bench.ctl("schedule", "reset", "pi-1", "--yes")
    assert threads(running, "pi-1") == 4
    assert desired(running, "pi-1").schedule.version == 0
    bench.ctl("schedule", "edit", "pi-1", "--version", "2", "--yes")
    assert threads(running, "pi-1") == 3
    assert desired(running, "pi-1").schedule.version == 4

    versions = [row["version"] for row in bench.ctl_json("schedule", "history", "digits")]
    assert versions == [4, 0, 2, 3, 2, 1, 0]
    assert "rows and lines" in bench.ctl("schedule", "history", "digits").stdout
    assert not list(tmp_path.glob("digits-*.toml")), "what was deployed is not kept"


@pytest.mark.usefixtures("running")
def test_what_is_invalid_is_opened_again_with_its_words(
    bench: Bench, editor: Path, tmp_path: Path
) -> None:
    editor.write_text(
        "text = path.read_text()\n"
        "if opened == 0:\n"
        "    path.write_text(text.replace('hold_s = 4.0', 'hold_secs = 3.0'))\n"
        "else:\n"
        "    Path(path.parent, 'seen').write_text(text)\n"
        "    path.write_text(text.replace('hold_secs', 'hold_s'))\n"
    )
    done = bench.ctl("schedule", "edit", "digits", "--yes")
    assert "there is no field dwell.hold_secs; the editor opens again" in done.stderr
    seen = (tmp_path / "seen").read_text()
    assert seen.startswith("#! cannot read schedule in the editor: there is no field")
    assert "hold_secs = 3.0" in seen
    assert bench.ctl_json("schedule", "show", "pi-1")["schedule"]["dwell"]["hold_s"] == 3.0


@pytest.mark.usefixtures("running")
def test_giving_up_keeps_the_text_and_changes_nothing(
    bench: Bench, editor: Path, tmp_path: Path
) -> None:
    before = deployments(bench)
    editor.write_text("path.write_text(path.read_text().replace('hold_s = 4.0', 'hold_s = -1'))")
    done = bench.ctl("schedule", "edit", "digits", code=2)
    assert "Nothing was changed. Your text is kept: ctl schedule edit digits --file" in done.stderr
    assert "dwell.hold_s: Input should be greater than or equal to 0" in done.stderr
    (kept,) = tmp_path.glob("digits-*.toml")
    assert "hold_s = -1" in kept.read_text()
    assert deployments(bench) == before
    kept.write_text(kept.read_text().replace("hold_s = -1", "hold_s = 1"))
    bench.ctl("schedule", "edit", "digits", "--file", str(kept), "--yes")
    assert deployments(bench) == before + 1


@pytest.mark.usefixtures("running")
def test_a_person_who_is_asked_and_says_no(bench: Bench, editor: Path, tmp_path: Path) -> None:
    before = deployments(bench)
    editor.write_text("path.write_text(path.read_text().replace('hold_s = 4.0', 'hold_s = 2.0'))")
    done = bench.ctl("schedule", "edit", "digits", code=1)  # nothing on stdin to say yes with
    assert "hold_s" in done.stderr
    assert "Nothing was changed." in done.stderr
    assert "Your text is kept" in done.stderr
    assert len(list(tmp_path.glob("digits-*.toml"))) == 1
    assert deployments(bench) == before
    editor.write_text("")
    assert "Nothing has changed." in bench.ctl("schedule", "edit", "pi-2").stderr
    assert len(list(tmp_path.glob("digits-*.toml"))) == 1
    assert deployments(bench) == before


@pytest.mark.usefixtures("running")
def test_ctrl_c_in_the_editor_changes_nothing(bench: Bench, editor: Path, tmp_path: Path) -> None:
    before = deployments(bench)
    editor.write_text(
        "path.write_text(path.read_text().replace('hold_s = 4.0', 'hold_s = 2.0'))\n"
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "Path(path.parent, 'waits').touch()\nimport time\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "controller", *bench.globals, "schedule", "edit", "digits"],
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
        start_new_session=True,
    )
    _wait_for(tmp_path / "waits")
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=_SOON_S)
    assert process.returncode != 0
    assert "Nothing was changed. Your text is kept" in said
    assert "Traceback" not in said
    (kept,) = tmp_path.glob("digits-*.toml")
    assert "hold_s = 2.0" in kept.read_text()
    assert deployments(bench) == before


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + _SOON_S
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not come"
        time.sleep(0.02)


def test_an_offline_device_is_pending(bench: Bench, running: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "quick.toml"
    file.write_text("[dwell]\nhold_s = 1.5\n")
    running.fall_silent("pi-2")
    bench.ctl("device", "ls")
    done = bench.ctl("schedule", "edit", "digits", "--file", str(file), "--yes", code=4)
    assert "It goes on by itself; offline: pi-2." in done.stderr
    assert desired(running, "pi-1").schedule.dwell.hold_s == 1.5


def test_a_new_version_of_the_cascade_says_that_the_schedule_ends(
    bench: Bench, running: Fleet, tmp_path: Path
) -> None:
    file = tmp_path / "quick.toml"
    file.write_text("[dwell]\nhold_s = 1.5\n")
    bench.ctl("schedule", "edit", "digits", "--file", str(file), "--yes")
    done = bench.ctl("deploy", "digits", "--timeout", "20s")
    assert "A person's schedule ends on pi-1, pi-2; to keep it: ctl schedule show pi-1" in (
        done.stderr
    )
    assert desired(running, "pi-1").schedule.dwell.hold_s == 4.0
    assert "Nothing to take back of digits" in bench.ctl("schedule", "reset", "digits").stderr


@pytest.mark.usefixtures("running")
def test_what_cannot_be_done_is_code_2(bench: Bench, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.toml"
    rows = bench.ctl("schedule", "show", "pi-1", "-o", "toml").stdout
    foreign.write_text(rows.replace("cascades.digits", "cascades.letters"))
    for words, says in (
        ("show pi-9", "cannot show the schedule of pi-9: no such device; the fleet has pi-1, pi-2"),
        ("show pi-1 letters", "it runs digits, no cascade 'letters'"),
        ("diff pi-9", "cannot compare the schedule of pi-9"),
        ("diff pi-1 none.toml", "cannot read schedule none.toml: No such file"),
        ("edit letters --yes", "cannot find letters: digits is deployed"),
        ("edit digits --version 3", "cannot find version 3 of digits: there is none"),
        (f"edit digits --file {foreign}", "it has rows for letters"),
        (f"edit digits --version 3 --file {foreign}", "give one"),
        ("history letters", "cannot show the history of letters: digits is deployed"),
    ):
        assert says in bench.ctl("schedule", *words.split(), code=2).stderr
    foreign.write_text(rows)
    done = bench.ctl("plan", "digits", "--schedule", str(foreign), "--latency", "9ms", code=2)
    assert "the schedule has rows of its own for digits" in done.stderr


def test_without_the_release_key_nobody_has_to_write_in_vain(
    bench: Bench, running: Fleet, editor: Path
) -> None:
    assert running
    editor.write_text("raise SystemExit('opened in vain')")
    (bench.home.keys_dir / "release.key").unlink()
    done = bench.ctl("schedule", "edit", "digits", code=1)
    assert "cannot use key" in done.stderr
