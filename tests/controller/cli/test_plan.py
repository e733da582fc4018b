from tests.controller.cascades import Piece
from tests.controller.cli.conftest import Bench

HUGE = (Piece("only", [("fp32", 9000.0), ("int8", 2000.0)]),)


def test_shows_form_bytes_and_memory_at_each_rung(bench: Bench) -> None:
    bench.shelve()
    with bench.fleet(bench.device("pi-1"), bench.device("pi-2", memory_mib=250.0)):
        document = bench.ctl_json("plan", "digits")
        assert document["fits"] is True
        big, small = document["devices"]
        assert big["variants"] == {"small": "int8", "large": "fp32"}
        assert big["peak_mib"][0] == 204.0
        assert big["peak_mib"][3:] == [4.0, 0.0]
        assert small["variants"] == {"small": "int8", "large": "int8"}
        assert small["to_fetch_bytes"] > 0
        assert document["steps"][-1].startswith("publish deployment")
        done = bench.ctl("plan", "digits")
        assert "204.0" in done.stdout
        assert "publish deployment" in done.stderr
        assert bench.ctl_json("deployment", "ls") == [], "nothing was sent"


def test_nothing_is_left_to_fetch_for_what_runs(bench: Bench) -> None:
    bench.shelve()
    with bench.fleet(bench.device("pi-1")):
        before = bench.ctl_json("plan", "digits")["devices"][0]["to_fetch_bytes"]
        bench.ctl("deploy", "digits", "--timeout", "20s")
        after = bench.ctl_json("plan", "digits")["devices"][0]["to_fetch_bytes"]
    assert before > 0
    assert after == 0


def test_what_runs_there_leaves_less_room(bench: Bench) -> None:
    bench.shelve(name="first", pieces=(Piece("only", [("fp32", 1500.0)]),))
    bench.shelve(name="second", pieces=(Piece("only", [("fp32", 1500.0), ("int8", 500.0)]),))
    with bench.fleet(bench.device("pi-1", memory_mib=2600.0)):
        alone = bench.ctl_json("plan", "second")["devices"][0]
        bench.ctl("deploy", "first", "--timeout", "20s")
        beside = bench.ctl_json("plan", "second")["devices"][0]
    assert alone["variants"] == {"only": "fp32"}
    assert beside["variants"] == {"only": "int8"}


def test_what_cannot_fit_is_code_2_with_the_figures(bench: Bench) -> None:
    bench.shelve(name="huge", pieces=HUGE)
    with bench.fleet(bench.device("pi-1", memory_mib=1024.0), bench.device("pi-2")):
        done = bench.ctl("plan", "huge", code=2)
        assert "cannot run huge@1 on pi-1: its smallest form (only=int8) needs 2000 MiB" in (
            done.stderr
        )
        assert "pi-2" in done.stdout
        document = bench.ctl_json("plan", "huge", code=2)
    assert [d["fits"] for d in document["devices"]] == [False, True]


def test_no_device_is_there(bench: Bench) -> None:
    bench.shelve()
    assert bench.ctl_json("plan", "digits")["devices"] == []
    assert "No device is meant so far." in bench.ctl("plan", "digits").stderr
