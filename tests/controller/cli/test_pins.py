from collections.abc import Iterator

import pytest

from protocols.device import ReportedStage
from tests.controller.cli.conftest import Bench
from tests.fleet import Fleet


@pytest.fixture
def running(bench: Bench) -> Iterator[Fleet]:
    """A device that runs digits."""
    bench.shelve()
    with bench.fleet(bench.device("pi-1", cpus=2)) as fleet:
        bench.ctl("deploy", "digits", "--timeout", "20s")
        yield fleet


def stage(fleet: Fleet, name: str) -> ReportedStage:
    (found,) = (s for s in fleet.devices["pi-1"].cascades["digits"].stages if s.name == name)
    return found


def test_unload_load_and_unpin(bench: Bench, running: Fleet) -> None:
    done = bench.ctl("unload", "pi-1", "digits/large")
    assert done.stderr == "digits/large of pi-1 pinned: unloaded.\n"
    assert stage(running, "large").state == "verified"
    assert "digits/large: unloaded" in bench.ctl("device", "show", "pi-1").stdout
    bench.ctl("load", "pi-1", "digits/large")
    assert stage(running, "large").state == "loaded"
    assert bench.ctl("unpin", "pi-1").stderr == "Every stage of pi-1 unpinned.\n"
    assert "Pins" not in bench.ctl("device", "show", "pi-1").stdout


def test_threads_up_to_the_cpus_of_the_device(bench: Bench, running: Fleet) -> None:
    bench.ctl("threads", "pi-1", "digits/small", "2")
    assert stage(running, "small").threads == 2
    done = bench.ctl("threads", "pi-1", "digits/small", "9", "--timeout", "0.1s", code=4)
    assert "9 threads, and it has 2 CPUs" in done.stderr
    bench.ctl("threads", "pi-1", "digits/small", "2")
    made = bench.ctl_json("unload", "pi-1", "digits/large")
    assert made["exit_code"] == 0
    assert [(p["stage"], p["loaded"], p["threads"]) for p in made["pins"]["pins"]] == [
        ("small", None, 2),
        ("large", False, None),
    ]
    bench.ctl("unpin", "pi-1", "digits/small")
    assert stage(running, "large").state == "verified"


def test_what_an_offline_device_gets_is_pending(bench: Bench, running: Fleet) -> None:
    running.fall_silent("pi-1")
    assert bench.ctl("device", "ls").exit_code == 0
    done = bench.ctl("unload", "pi-1", "digits/large", code=4)
    assert "it is offline" in done.stderr


@pytest.mark.usefixtures("running")
def test_what_cannot_be_pinned_is_code_2(bench: Bench) -> None:
    for words, says in (
        ("load pi-9 digits/large", "no such device; the fleet has pi-1"),
        ("load pi-1 letters/large", "it runs digits, no cascade 'letters'"),
        ("unpin pi-1 digits/large", "cannot unpin digits/large on pi-1: nothing is pinned there"),
        ("load pi-1 digits/huge", "digits has no stage 'huge'"),
        ("load pi-1 digits", "write CASCADE/STAGE"),
        ("threads pi-1 digits/large 0", "greater than or equal to 1"),
    ):
        assert says in bench.ctl(*words.split(), code=2).stderr
