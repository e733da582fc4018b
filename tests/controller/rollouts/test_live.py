"""Rollouts on a real broker: who carries them on, and that a person sees how they end."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.deployments import create_deployment, deployment_steps
from controller.fleet import Fleet
from controller.home import Home
from controller.rollouts.acts import pause, promote, resume
from controller.rollouts.gates import found
from controller.session import Session
from controller.signing import key_path
from controller.steps import PutRollout
from protocols.desired import Deployment
from protocols.rollout import Gates, Rollout, Strategy, Wave
from tests.brokers import running_broker
from tests.controller.cascades import make_bundle, shelve
from tests.controller.conftest import new_home
from tests.fleet import Device, Script
from tests.fleet import Fleet as Scripted

V1, V2 = make_bundle(), make_bundle(version=2)
CANARY = {"ring": "canary"}
QUICK = Strategy(canary=CANARY, waves=(Wave(percent=50),), soak_s=0.5, gates=Gates(unhealthy=0.0))
NAMES = [f"pi-{n}" for n in range(6)]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home with keys, on a broker of its own."""
    with running_broker(tmp_path) as url:
        yield new_home(tmp_path / "home", url)


def fleet_of(home: Home, **scripts: Script) -> Scripted:
    devices = [
        Device(
            name,
            home.topics,
            trust=home.trust(),
            labels=CANARY if number < 2 else {},
            script=scripts.get(name.replace("-", "_"), Script()),
        )
        for number, name in enumerate(NAMES)
    ]
    return Scripted(home.broker, *devices)


def wait(session: Session, look: Callable[[Fleet], object]) -> None:
    assert session.wait(lambda fleet: look(fleet) or None, 30), session.fleet.rollouts


def everywhere(session: Session, home: Home) -> None:
    """Deploy version 1 at once, and wait until all run it."""
    ref = shelve(home, V1)
    wait(session, lambda fleet: sum(d.online for d in fleet.devices.values()) == len(NAMES))
    made = create_deployment(session.fleet, ref, V1, nonce="a", now_s=time.time())
    session.execute(deployment_steps(made, V1))
    wait(session, lambda fleet: len(running(fleet, 1)) == len(NAMES))


def roll_out(session: Session, home: Home, strategy: Strategy = QUICK) -> Deployment:
    ref = shelve(home, V2)
    made = create_deployment(
        session.fleet, ref, V2, nonce="b", now_s=time.time(), strategy=strategy
    )
    session.execute(deployment_steps(made, V2))
    return made


def running(fleet: Fleet, version: int) -> set[str]:
    return {
        device.name
        for device in fleet.devices.values()
        if device.reported is not None
        for c in device.reported.cascades
        if c.running is not None and c.running.version == version
    }


def state(fleet: Fleet, made: Deployment) -> Rollout:
    return fleet.rollouts.get(made.id) or Rollout(fleet="none", deployment=made.id)


def test_a_server_goes_on_when_the_laptop_is_closed_and_another_after_it(home: Home) -> None:
    slow = QUICK.with_(soak_s=1.0)
    with fleet_of(home):
        with Session(home, "deploy") as laptop:
            everywhere(laptop, home)
            made = roll_out(laptop, home, slow)
            wait(laptop, lambda fleet: state(fleet, made).admitted > 0)
        with Session(home, "serve", name="first") as first:
            wait(first, lambda fleet: state(fleet, made).wave >= 1)
        with Session(home, "serve", name="second") as second:
            wait(second, lambda fleet: state(fleet, made).phase == "completed")
            assert running(second.fleet, 2) == set(NAMES)


def test_a_bad_canary_stops_it_and_all_is_as_before(home: Home) -> None:
    bad = Script("rejected", "cannot load digits/large", (2,))
    with fleet_of(home, pi_1=bad), Session(home, "serve") as session:
        everywhere(session, home)
        made = roll_out(session, home)
        wait(session, lambda fleet: state(fleet, made).phase == "stopped")
        wait(session, lambda fleet: running(fleet, 1) == set(NAMES))
        found = state(session.fleet, made)
        assert [(f.gate, f.device) for f in found.findings] == [("bundle", "pi-1")]
        told = [
            event
            for event in session.events()
            if event.kind == "deployment" and event.device == "pi-1"
        ]
        assert "stops in wave 1 of 3 (canary)" in told[0].message


def test_a_person_holds_it_opens_a_wave_and_lets_it_go(home: Home) -> None:
    slow = QUICK.with_(soak_s=60.0)
    with (
        fleet_of(home),
        Session(home, "serve") as server,
        Session(home, "deploy") as person,
    ):
        everywhere(person, home)
        made = roll_out(person, home, slow)
        wait(person, lambda fleet: state(fleet, made).phase == "soaking")
        person.execute([pause(person.fleet, "digits")])
        wait(server, lambda fleet: state(fleet, made).phase == "paused")
        wait(person, lambda fleet: fleet.deployments[made.id].paused)
        person.execute([resume(person.fleet, "digits")])
        wait(person, lambda fleet: state(fleet, made).phase == "soaking")
        person.execute([promote(person.fleet, "digits")])
        wait(person, lambda fleet: state(fleet, made).wave == 1)
        wait(person, lambda fleet: len(running(fleet, 2)) == 3)
        assert state(person.fleet, made).wave == 1


def test_the_audit_tells_begin_and_end_even_where_they_are_one(home: Home) -> None:
    started = Rollout(fleet=home.topics.fleet, deployment="digits-v2-a", revision=1)
    lost = found("state", None, "nobody knows whether it had stopped")
    held = started.with_(deployment="digits-v2-b", phase="paused", findings=(lost,))
    stopped = held.with_(deployment="digits-v2-c", phase="stopped", ended_s=time.time())
    with Session(home, "deploy") as session:
        session.execute([PutRollout(one, "said") for one in (started, held, stopped)])
    entries = [json.loads(line) for line in home.audit_file.read_text().splitlines()]
    assert [(entry["act"], entry["target"]) for entry in entries] == [
        ("rollout-started", "digits-v2-a"),
        ("rollout-stopped", "digits-v2-c"),
    ]


def test_nobody_but_a_controller_moves_it(home: Home) -> None:
    with fleet_of(home):
        with Session(home, "deploy") as session:
            everywhere(session, home)
        key_path(home, "controller").unlink()
        with Session(home, "deploy") as session:
            made = roll_out(session, home)
            wait(session, lambda fleet: made.id in fleet.deployments)
            time.sleep(1.5)
            assert made.id not in session.fleet.rollouts
            assert running(session.fleet, 1) == set(NAMES)
