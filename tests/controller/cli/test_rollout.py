"""`ctl deploy` in waves, `ctl rollout` and `ctl deploy --plan`, as a person uses them."""

import json
import re

import pytest
import typer
from pydantic import ValidationError

from controller.cli.strategy import parse_gates, parse_waves, strategy_of
from protocols.rollout import Gates, Strategy, Wave
from tests.bench.rollout import SCRIPTS, agents, roll_out
from tests.controller.cli.conftest import Bench
from tests.fleet import Device, Script

QUICK = ("--canary", "ring=canary", "--waves", "50%", "--soak", "0.5s", "--timeout", "60s")
REJECTS = Script("rejected", "cannot load digits/large: the interpreter died", (2,))


def devices(bench: Bench, *bad: str) -> list[Device]:
    return [
        bench.device(
            f"pi-{number}",
            REJECTS if f"pi-{number}" in bad else Script(),
            labels={"ring": "canary" if number < 2 else "main"},
        )
        for number in range(4)
    ]


def one_everywhere(bench: Bench) -> None:
    bench.shelve(1)
    bench.shelve(2)
    bench.ctl("deploy", "digits@1", "--timeout", "60s")


def test_wave_after_wave_and_code_0(bench: Bench) -> None:
    with bench.fleet(*devices(bench)):
        one_everywhere(bench)
        done = bench.ctl("deploy", "digits@2", *QUICK)
        assert "digits@2: completed, 4 of 4 devices run it." in done.stderr
        assert "wave canary soaking: 2 running" in done.stderr
        shown = bench.ctl("rollout", "status", "digits")
        assert re.search(r"^canary +2 +2 +passed", shown.stdout, re.MULTILINE)
        assert re.search(r"^all +2 +2 +passed", shown.stdout, re.MULTILINE)
        history = bench.ctl("rollout", "history", "digits").stdout.splitlines()
        assert "digits@2" in history[1]
        assert "canary, 50%, all; soak 0s" in history[1]
        assert "completed" in history[1]
        assert "superseded" in history[2]
        refused = bench.ctl("rollout", "pause", "digits", code=2)
        assert "it is completed; deploy to begin again" in refused.stderr


def test_a_bad_canary_is_code_3_with_gate_and_device(bench: Bench) -> None:
    with bench.fleet(*devices(bench, "pi-1")) as fleet:
        one_everywhere(bench)
        done = bench.ctl("deploy", "digits@2", *QUICK, code=3)
        assert "digits@2: stopped in wave 1 of 3 (canary)" in done.stderr
        assert "pi-1: gate bundle: rejected: cannot load digits/large" in done.stderr
        assert "Back to what was there before: pi-0, pi-1." in done.stderr
        versions = {d.cascades["digits"].running for d in fleet.devices.values()}
        assert {ref.version for ref in versions if ref is not None} == {1}
        shown = bench.ctl_json("rollout", "status", code=3)
        assert [f["gate"] for f in shown["findings"]] == ["bundle"]
        assert shown["rollout"]["phase"] == "stopped"
        assert "it has stopped" in bench.ctl("rollout", "resume", "digits", code=2).stderr


def test_undo_to_any_earlier_bundle(bench: Bench) -> None:
    with bench.fleet(*devices(bench)):
        one_everywhere(bench)
        bench.shelve(3)
        bench.ctl("deploy", "digits@2", "--timeout", "60s")
        bench.ctl("deploy", "digits@3", "--timeout", "60s")
        dry = bench.ctl("rollout", "undo", "digits", "--dry-run")
        assert "Would deploy digits@2 again in place of digits@3" in dry.stderr
        assert len(bench.ctl_json("deployment", "ls", "--all")) == 3
        done = bench.ctl("rollout", "undo", "digits", "--timeout", "60s")
        assert "digits@2 runs on 4 devices" in done.stderr
        listed = bench.ctl_json("rollout", "history", "digits")
        assert [d["deployment"]["aborted"] for d in listed] == [False, True, False, False]
        done = bench.ctl("rollout", "undo", "digits", "--to", "digits@1", "--timeout", "60s")
        assert "digits@1 runs on 4 devices" in done.stderr
        gone = bench.ctl("rollout", "undo", "digits", "--to", "9", code=2)
        assert "digits@9 was never deployed besides" in gone.stderr
        assert "--to" in bench.ctl("rollout", "undo", "digits", "--to", "faces@1", code=2).stderr


def test_undo_takes_a_bundle_back_wherever_it_is(bench: Bench) -> None:
    with bench.fleet(*devices(bench)):
        one_everywhere(bench)
        bench.ctl("deploy", "digits@2", "--timeout", "60s")
        bench.ctl("deploy", "digits@2", "--soak", "10m", "--detach")
        bench.ctl("deploy", "digits@2", "pi-1", "--timeout", "60s")
        done = bench.ctl("rollout", "undo", "digits", "--timeout", "60s")
        assert "digits@1 runs on 4 devices" in done.stderr
        there = bench.ctl_json("rollout", "history", "digits")
        assert [d["deployment"]["aborted"] for d in there] == [False, True, True, True, False]
        assert "no earlier bundle" in bench.ctl("rollout", "undo", "digits", code=2).stderr


def test_acts_on_the_way_and_dry_runs_that_do_nothing(bench: Bench) -> None:
    with bench.fleet(*devices(bench)):
        one_everywhere(bench)
        slow = ("--canary", "ring=canary", "--soak", "10m", "--detach")
        made = bench.ctl_json("deploy", "digits@2", *slow)["deployment"]
        assert bench.ctl("rollout", "watch", made["id"], "--timeout", "1.5s", code=4)
        for act in ("pause", "promote", "abort"):
            said = bench.ctl("rollout", act, "digits", "--dry-run").stderr
            assert f"Would {act} deployment {made['id']} of digits@2." in said
        assert bench.ctl_json("rollout", "status", code=4)["deployment"] == made
        bench.ctl("rollout", "pause", "digits")
        assert "it is paused already" in bench.ctl("rollout", "pause", "digits", code=2).stderr
        assert bench.ctl_json("rollout", "status", code=4)["deployment"]["paused"]
        bench.ctl("rollout", "promote", made["id"])
        again = bench.ctl_json("rollout", "status", code=4)["deployment"]
        assert (again["paused"], again["promoted"]) == (False, 1)
        last = bench.ctl("rollout", "promote", made["id"], code=2)
        assert "it is in its last wave (all)" in last.stderr
        bench.ctl("rollout", "abort", "digits", "--timeout", "30s")
        assert bench.ctl_json("rollout", "status", code=3)["deployment"]["aborted"]


def test_a_plan_is_carried_out_as_it_was_shown(bench: Bench) -> None:
    with bench.fleet(*devices(bench)):
        one_everywhere(bench)
        waves = ("--canary", "ring=canary", "--soak", "0.5s")
        found = bench.ctl_json("plan", "digits@2", *waves)
        assert found["plan"] == bench.ctl_json("plan", "digits@2", *waves)["plan"]
        assert found["devices"][0]["to_fetch_bytes"] > 0
        shown = bench.ctl("plan", "digits@2", *waves)
        assert f"ctl deploy --plan {found['plan']}" in shown.stderr
        turns = re.search(r"^canary +2 +(.*)$", shown.stdout, re.MULTILINE)
        assert turns is not None
        assert set(turns[1].strip().split(", ")) == {"pi-0", "pi-1"}
        done = bench.ctl_json("deploy", "--plan", found["plan"], "--timeout", "60s")
        assert done["exit_code"] == 0
        assert done["deployment"]["id"] == f"digits-v2-{found['plan'][:6]}"
        again = bench.ctl("deploy", "--plan", found["plan"], code=3)
        assert "it was deployed already" in again.stderr
        bench.ctl("rollout", "abort", "digits", "--timeout", "60s")
        anew = bench.ctl_json("plan", "digits@2", *waves)["plan"]
        assert anew != found["plan"], "what was aborted may be deployed again"
        done = bench.ctl_json("deploy", "--plan", anew, "--timeout", "60s")
        assert done["exit_code"] == 0


def test_a_plan_is_refused_once_the_fleet_has_moved(bench: Bench) -> None:
    with bench.fleet(*devices(bench)):
        one_everywhere(bench)
        plan = bench.ctl_json("plan", "digits@2")["plan"]
        with bench.fleet(bench.device("pi-9")):
            done = bench.ctl("deploy", "--plan", plan, code=3)
            assert "the fleet has moved since; plan anew" in done.stderr
            assert "  pi-9 is new" in done.stderr
        assert len(bench.ctl_json("deployment", "ls", "--all")) == 1


def test_plans_that_cannot_be_used(bench: Bench) -> None:
    bench.shelve()
    assert "ctl plan" in bench.ctl("deploy", "--plan", "0123", code=2).stderr
    with bench.fleet(bench.device("pi-1")):
        plan = bench.ctl_json("plan", "digits")["plan"]
        both = bench.ctl("deploy", "digits", "--plan", plan, code=2)
        assert "--plan says all that is wanted" in both.stderr
        path = bench.home.folder / "plans" / f"{plan}.json"
        kept = json.loads(path.read_text())
        kept["deployment"]["variants"] = {"large": "int8"}
        path.write_text(json.dumps(kept))
        assert "was changed; plan anew" in bench.ctl("deploy", "--plan", plan[:5], code=2).stderr
    assert "name a cascade" in bench.ctl("deploy", code=2).stderr


def test_a_dry_run_of_deploy_publishes_nothing(bench: Bench) -> None:
    bench.shelve()
    with bench.fleet(bench.device("pi-1")):
        done = bench.ctl("deploy", "digits", "--dry-run")
        assert "publish deployment digits-v1-" in done.stderr
        assert "Nothing was done" in done.stderr
        assert bench.ctl_json("deployment", "ls", "--all") == []


def test_no_canary_is_code_2(bench: Bench) -> None:
    bench.shelve()
    with bench.fleet(bench.device("pi-1")):
        done = bench.ctl("deploy", "digits", "--canary", "ring=canary", code=2)
    assert "none of its 1 devices of fleet" in done.stderr
    assert "cannot find a rollout" in bench.ctl("rollout", "status", code=2).stderr


def test_one_in_ten_of_many_is_bad_and_the_canaries_notice(bench: Bench) -> None:
    bench.shelve(1)
    bench.shelve(2)
    options = ("--canary", "ring=canary", "--waves", "25%", "--soak", "2s")
    many = agents(bench, 30, 10, SCRIPTS["slower on 10 %"])
    found = roll_out(bench, many, options, pulls=False)
    canaries = {f"pi-{n:03}" for n in range(10)}
    assert (found.code, found.gates) == (3, {"pi-003": "p95"})
    assert found.reached == canaries
    assert found.running == set()


def test_what_options_become() -> None:
    assert strategy_of(None, None, None, None, None) is None
    found = strategy_of("ring=canary,room=hall", "1,25%,100%", 12, "30m", ["p95=2", "battery=off"])
    assert found == Strategy(
        canary={"ring": "canary", "room": "hall"},
        waves=(Wave(count=1), Wave(percent=25), Wave(percent=100)),
        per_minute=12,
        soak_s=1800,
        gates=Gates(p95=2, battery=None),
    )
    assert strategy_of(None, None, None, "0s", None) == Strategy(soak_s=0)
    assert parse_gates(["failed=2.5%", "unhealthy=off", "confidence=off"]) == Gates(
        failed=0.025, unhealthy=1, confidence=False
    )


@pytest.mark.parametrize("said", ["", "0", "5%,x", "120%", "0%", "-1", "50%,25%", "9,9", "٣"])
def test_waves_that_are_none(said: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_waves(said)


@pytest.mark.parametrize(
    "said",
    ["speed=1", "p95", "p95=fast", "p95=-1", "confidence=3", "failed=x%", "failed=120%"],
)
def test_gates_that_are_none(said: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_gates([said])


@pytest.mark.parametrize("name", ["unhealthy", "failed", "degraded", "escalated"])
def test_a_share_above_all_would_turn_its_gate_off(name: str) -> None:
    with pytest.raises(typer.BadParameter, match=rf"write {name}=2% or {name}=0.02"):
        parse_gates([f"{name}=2"])
    with pytest.raises(ValidationError):
        Gates.model_validate({name: 2})
