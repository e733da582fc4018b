import json

from protocols.device import Rungs, Sample
from tests.controller.cli.conftest import Bench

SAMPLE = Sample(
    time_s=1.0,
    cpu_percent=41.0,
    own_cpu_percent=12.0,
    memory_available_mib=1536.0,
    memory_available_percent=37.5,
    temperature_c=61.0,
    battery_percent=82.0,
    battery_plugged=False,
)


def test_ls_shows_who_is_there_and_how(bench: Bench) -> None:
    with bench.fleet(
        bench.device("pi-1", sample=SAMPLE, rungs=Rungs(residency=1, residency_cause="memory 22%")),
        bench.device("pi-2"),
    ) as fleet:
        fleet.fall_silent("pi-2")
        done = bench.ctl("device", "ls", "--wait", "5s")
        head, first, second = done.stdout.splitlines()
        assert head.split()[:3] == ["NAME", "STATUS", "SEEN"]
        assert first.split()[:2] == ["pi-1", "online"]
        for cell in ("R1 C0", "41%", "62%", "61C", "82%"):
            assert cell in first
        assert second.split()[:3] == ["pi-2", "offline", "-"]


def test_ls_selects_by_name_and_label(bench: Bench) -> None:
    with bench.fleet(
        bench.device("pi-1", labels={"room": "hall", "floor": "1"}),
        bench.device("pi-2", labels={"room": "hall"}),
        bench.device("pi-3"),
    ):
        in_hall = bench.ctl_json("device", "ls", "-l", "room=hall")
        assert [d["name"] for d in in_hall] == ["pi-1", "pi-2"]
        both = bench.ctl_json("device", "ls", "-l", "room=hall", "-l", "floor=1")
        assert [d["name"] for d in both] == ["pi-1"]
        assert [d["name"] for d in bench.ctl_json("device", "ls", "pi-3")] == ["pi-3"]
        none = bench.ctl("device", "ls", "-l", "room=attic")
        assert (none.stdout, none.stderr) == ("", f"No such devices in fleet {bench.home.fleet}.\n")
        bench.ctl("device", "ls", "-l", "nonsense", code=2)


def test_show_has_all_that_is_known(bench: Bench) -> None:
    bench.shelve()
    with bench.fleet(bench.device("pi-1", sample=SAMPLE, labels={"room": "hall"})):
        bench.ctl("deploy", "digits", "--timeout", "20s")
        shown = bench.ctl("device", "show", "pi-1").stdout
        for words in ("room=hall", "Raspberry Pi 4", "ai-edge-litert 2.3.0", "desired 1, accepted"):
            assert words in shown
        stages = [line.split() for line in shown.splitlines() if line.startswith("digits/")]
        assert [row[:3] for row in stages] == [
            ["digits/small", "int8", "loaded"],
            ["digits/large", "fp32", "loaded"],
        ]
        document = bench.ctl_json("device", "show", "pi-1")
        assert document["online"] is True
        assert document["desired"]["generation"] == 1


def test_show_of_a_stranger_is_code_2(bench: Bench) -> None:
    with bench.fleet(bench.device("pi-1")):
        done = bench.ctl("device", "show", "pi-9", code=2)
    assert done.stderr == "cannot show pi-9: no such device; the fleet has pi-1\n"


def test_without_a_trust_file_it_is_said_once(bench: Bench) -> None:
    bench.shelve()
    with bench.fleet(bench.device("pi-1")):
        bench.ctl("deploy", "digits", "--timeout", "20s")
        bench.home.trust_file.rename(bench.home.trust_file.with_suffix(".away"))
        done = bench.ctl("device", "ls")
    assert done.stdout.splitlines()[1].startswith("pi-1")
    (line,) = done.stderr.splitlines()
    assert line.endswith("signed documents are not shown")


def test_top_is_one_snapshot_where_there_is_no_terminal(bench: Bench) -> None:
    bench.shelve()
    with bench.fleet(bench.device("pi-1", sample=SAMPLE), bench.device("pi-2")) as fleet:
        bench.ctl("deploy", "digits", "--timeout", "20s")
        fleet.fall_silent("pi-2")
        head, row, *rest = bench.ctl("top").stdout.splitlines()
        assert not rest
        assert "ANSWERS" in head
        for cell in ("pi-1", "41%", "12%", "1.5 GiB", "digits 2/2", "100", "20%", "4 ms"):
            assert cell in row
        (document,) = bench.ctl_json("top", "--once")
        assert document["telemetry"]["sample"]["cpu_percent"] == 41.0


def test_nobody_there(bench: Bench) -> None:
    assert "yet; start one: sluice-agent run" in bench.ctl("device", "ls").stderr
    assert bench.ctl("top").stderr == "No devices are online.\n"
    assert bench.ctl("deployment", "ls").stderr == "No deployments found.\n"
    assert json.loads(bench.ctl("device", "ls", "-o", "json").stdout) == []
