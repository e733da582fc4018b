import signal
from pathlib import Path

import pytest

from controller.home import Home
from controller.signing import generate_keys, key_path
from protocols.device import Reported
from tests.controller.cascades import Piece, content_of
from tests.controller.cli.conftest import Bench
from tests.fleet import Ending, Script

HUGE = (Piece("only", [("fp32", 9000.0)]),)


def test_deploys_without_a_serve_and_watches_until_it_runs(bench: Bench) -> None:
    bench.shelve()
    with bench.fleet(bench.device("pi-1"), bench.device("pi-2")) as fleet:
        done = bench.ctl("deploy", "digits", "--timeout", "20s")
        assert "pi-1 running" in done.stderr
        assert "digits@1 runs on 2 devices" in done.stderr
        assert not done.stdout
        pi = fleet.devices["pi-1"].cascades["digits"]
        assert pi.fetched_bytes > 0
        again = bench.ctl_json("deploy", "digits@1", "--timeout", "20s")
    assert again["exit_code"] == 0
    assert [d["phase"] for d in again["devices"]] == ["running", "running"]


def test_reaches_the_selected_devices_alone(bench: Bench) -> None:
    bench.shelve()
    hall = bench.device("pi-1", labels={"room": "hall"})
    attic = bench.device("pi-2", labels={"room": "attic"})
    with bench.fleet(hall, attic):
        found = bench.ctl_json("deploy", "digits", "-l", "room=hall", "--timeout", "20s")
        assert [d["device"] for d in found["devices"]] == ["pi-1"]
        assert not attic.cascades


@pytest.mark.parametrize("ending", ["rejected", "quarantined", "refused"])
def test_what_a_device_rejects_is_code_3_with_its_words(bench: Bench, ending: Ending) -> None:
    bench.shelve()
    why = "cannot load digits/large: the interpreter died of SIGSEGV"
    with bench.fleet(bench.device("pi-1", Script(ending, why))):
        done = bench.ctl("deploy", "digits", "--timeout", "20s", code=3)
    assert f"pi-1 {ending}: {why}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_flipped_byte_is_code_2_and_nothing_is_published(bench: Bench) -> None:
    bench.shelve()
    content = content_of("large", "fp32", 1)
    (path,) = (p for p in bench.home.artifacts_dir.iterdir() if p.read_bytes() == content)
    path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    with bench.fleet(bench.device("pi-1")):
        done = bench.ctl("deploy", "digits", code=2)
        assert done.stderr.startswith("cannot deploy digits@1 large fp32: cannot accept artifact")
        assert bench.ctl_json("deployment", "ls") == []


def test_a_flipped_byte_in_the_manifest_is_code_2(bench: Bench) -> None:
    ref = bench.shelve()
    path = bench.home.artifact_path(ref.artifact.sha256)
    content = path.read_bytes()
    path.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    assert bench.ctl("deploy", "digits", code=2).stderr.startswith("cannot deploy digits: cannot")


def test_a_strangers_signature_is_code_2(bench: Bench, tmp_path: Path) -> None:
    stranger = Home.open(tmp_path / "other", fleet=bench.home.fleet, environ={})
    generate_keys(stranger)
    Bench(stranger, bench.broker_url).shelve()
    stranger.catalog_dir.rename(bench.home.catalog_dir)
    done = bench.ctl("deploy", "digits", code=2)
    assert done.stderr.startswith("cannot deploy digits: cannot trust bundle: 0 of 1")


def test_what_cannot_fit_is_code_2_and_nothing_is_published(bench: Bench) -> None:
    bench.shelve(name="huge", pieces=HUGE)
    with bench.fleet(bench.device("pi-1", memory_mib=1024.0)):
        done = bench.ctl("deploy", "huge", code=2)
        assert "cannot run huge@1 on pi-1" in done.stderr
        assert "9000 MiB" in done.stderr
        assert bench.ctl_json("deployment", "ls") == []


def test_an_offline_device_is_pending_code_4(bench: Bench) -> None:
    bench.shelve()
    with bench.fleet(bench.device("pi-1"), bench.device("pi-2")) as fleet:
        fleet.fall_silent("pi-2")
        bench.ctl("deploy", "digits", "--timeout", "20s", code=4)
        done = bench.ctl("deploy", "digits", "--timeout", "20s", code=4)
    assert "1 offline, 1 running" in done.stderr
    assert "ctl deployment watch digits-v1-" in done.stderr


def test_a_device_that_never_ends_is_code_4_after_the_timeout(bench: Bench) -> None:
    bench.shelve()
    with bench.fleet(bench.device("pi-1", Script(ending="fetching"))):
        done = bench.ctl("deploy", "digits", "--timeout", "1s", code=4)
    assert "digits@1 was not there in time: 1 fetching." in done.stderr


def test_detached(bench: Bench) -> None:
    bench.shelve()
    with bench.fleet(bench.device("pi-1")):
        made = bench.ctl_json("deploy", "digits", "--detach")["deployment"]
        assert bench.ctl("deployment", "watch", made["id"], "--timeout", "20s").exit_code == 0
        shown = bench.ctl_json("deployment", "show", made["id"])
        assert shown["devices"][0]["phase"] == "running"
        assert made["id"] in bench.ctl("deployment", "ls").stdout


def test_without_a_controller_it_says_so(bench: Bench) -> None:
    bench.shelve()
    key_path(bench.home, "controller").unlink()
    with bench.fleet(bench.device("pi-1")):
        done = bench.ctl("deploy", "digits", "--timeout", "0.5s", code=4)
    assert "No controller is alive" in done.stderr


def test_ctrl_c_stops_the_watching_alone(bench: Bench) -> None:
    bench.shelve()
    with bench.fleet(bench.device("pi-1", Script(ending="fetching"))) as fleet:
        process = bench.start("deploy", "digits")
        assert process.stderr is not None
        said = [process.stderr.readline()]
        while "fetching" not in said[-1]:
            said.append(process.stderr.readline())
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=20)
        assert process.returncode == 4
        assert "goes on" in rest
        assert "ctl deployment abort digits-v1-" in rest
        assert "Traceback" not in rest
        (left,) = bench.ctl_json("deployment", "ls")
        assert not left["deployment"]["aborted"]
        assert fleet.devices["pi-1"].cascades["digits"].phase == "fetching"


def test_abort_gives_the_version_before_back(bench: Bench) -> None:
    bench.shelve(1)
    bench.shelve(2)
    with bench.fleet(bench.device("pi-1")) as fleet:
        bench.ctl("deploy", "digits@1", "--timeout", "20s")
        made = bench.ctl_json("deploy", "digits@2", "--timeout", "20s")["deployment"]
        assert fleet.devices["pi-1"].cascades["digits"].bundle.version == 2
        bench.ctl("deployment", "abort", made["id"])
        shown = bench.ctl_json("device", "show", "pi-1")
        (cascade,) = Reported.model_validate(shown["reported"]).cascades
        assert cascade.bundle.version == 1
        assert len(bench.ctl_json("deployment", "ls")) == 1
        assert len(bench.ctl_json("deployment", "ls", "--all")) == 2
        assert "aborted" in bench.ctl("deployment", "show", made["id"]).stdout


def test_undeploy_takes_every_version_away(bench: Bench) -> None:
    bench.shelve(1)
    bench.shelve(2)
    with bench.fleet(bench.device("pi-1")) as fleet:
        for version in (1, 2):
            bench.ctl("deploy", f"digits@{version}", "--timeout", "20s")
        assert len(bench.ctl_json("deployment", "ls")) == 1, "the other one is superseded"
        assert len(bench.ctl_json("deployment", "ls", "--all")) == 2
        gone = bench.ctl_json("undeploy", "digits")
        assert len(gone["aborted"]) == 2
        assert gone["still_there"] == []
        assert not fleet.devices["pi-1"].cascades
    bench.ctl("undeploy", "digits", code=2)


def test_a_person_may_insist_on_a_variant(bench: Bench) -> None:
    bench.shelve()
    with bench.fleet(bench.device("pi-1")) as fleet:
        bench.ctl("deploy", "digits", "--variant", "large=int8", "--timeout", "20s")
        stages = {s.name: s.variant for s in fleet.devices["pi-1"].cascades["digits"].stages}
        assert stages == {"small": "int8", "large": "int8"}
    done = bench.ctl("deploy", "digits", "--variant", "large=fp64", code=2)
    assert "its variants are fp32, int8" in done.stderr


def test_a_schedule_file_travels_with_it(bench: Bench, tmp_path: Path) -> None:
    bench.shelve()
    schedule = tmp_path / "short.toml"
    schedule.write_text("[dwell]\nhold_s = 1.5\n")
    with bench.fleet(bench.device("pi-1")) as fleet:
        bench.ctl("deploy", "digits", "--schedule", str(schedule), "--timeout", "20s")
        desired = fleet.devices["pi-1"].desired
        assert desired is not None
        assert desired.schedule.dwell.hold_s == 1.5
        assert desired.schedule.dwell.recover_s == 120.0
    schedule.write_text("[dwell]\nhold_secs = 1.5\n")
    done = bench.ctl("deploy", "digits", "--schedule", str(schedule), code=2)
    schedule.write_text("[thresholds.foreign_cpu_percent]\nenter = [9, 5, 20, 30]\n")
    why = bench.ctl("plan", "digits", "--schedule", str(schedule), code=2).stderr
    assert why.startswith(f"cannot read schedule {schedule}: thresholds.foreign_cpu_percent: lines")
    assert "there is no field dwell.hold_secs" in done.stderr


@pytest.mark.parametrize("words", ["nothing", "digits@9", "digits@x"])
def test_what_is_not_in_the_catalog(bench: Bench, words: str) -> None:
    bench.shelve()
    assert bench.ctl("deploy", words, code=2).stderr.startswith("cannot find cascade")


def test_an_unreachable_broker_is_code_1(bench: Bench) -> None:
    bench.shelve()
    nowhere = Bench(bench.home, "mqtt://127.0.0.1:9")
    done = nowhere.ctl("deployment", "ls", code=1)
    assert done.stderr.startswith("cannot reach broker mqtt://127.0.0.1:9")
