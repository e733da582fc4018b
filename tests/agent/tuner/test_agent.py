"""An agent that idles measures its models, says so, and remembers it."""

import contextlib
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.affinity import get_cpus
from protocols.profile import StageProfile
from tests.agent.picture import Picture
from tests.agent.rig import Rig, rigged, two_stages
from tests.end_to_end.stack import wait_for

SOON = "[tune]\nidle_s = 1\nwatts_per_cpu = 2.0\n"
CPUS = len(get_cpus() or (0,))
_numbers = itertools.count()


@pytest.fixture
def rig(tmp_path: Path, broker_url: str) -> Iterator[Rig]:
    with rigged(tmp_path, broker_url, f"tune-{next(_numbers)}") as rig:
        yield rig


@contextlib.contextmanager
def idling(picture: Picture) -> Iterator[None]:
    """Let the picture's CPUs do nothing, as time goes by."""
    over = threading.Event()

    def tick() -> None:
        for tenths in itertools.count():
            picture.processor(busy_s=2.0, idle_s=1000.0 + picture.cpus * tenths / 10)
            if over.wait(0.1):
                return

    clock = threading.Thread(target=tick)
    clock.start()
    try:
        yield
    finally:
        over.set()
        clock.join()


def profiles(rig: Rig) -> tuple[StageProfile, ...]:
    inventory = rig.observer.inventory.get(rig.name)
    return inventory.profiles if inventory is not None else ()


def test_an_idle_agent_measures_what_it_serves_and_remembers_it(rig: Rig, tmp_path: Path) -> None:
    built = two_stages(tmp_path / "built")
    picture = Picture(tmp_path / "machine", cpus=CPUS)
    with idling(picture):
        rig.start(picture, SOON)
        rig.desire(rig.ship(built))
        rig.wait_running()

        wait_for("both profiles", lambda: len(profiles(rig)) == 2, 60)
        rig.wait_event("tuned", "CPU-ms")
        known = profiles(rig)
        artifacts = {stage.variants[0].artifact.sha256 for stage in built.bundle.stages}
        assert {profile.key.artifact for profile in known} == artifacts
        for run in (run for profile in known for run in profile.runs):
            assert run.energy is not None
            assert run.energy.method == "model"

        rig.stop()
        rig.observer.inventory.clear()
        rig.observer.events.clear()
        rig.start(picture, SOON)
        wait_for("profiles of the life before", lambda: profiles(rig) == known)
        rig.stop()
        assert not [event for event in rig.observer.events if event.kind == "tuned"]


def test_a_person_measures_when_they_like(rig: Rig, tmp_path: Path) -> None:
    rig.start(Picture(tmp_path / "machine", cpus=CPUS), extra="[tune]\nauto = false\n")
    rig.desire(rig.ship(two_stages(tmp_path / "built")))
    rig.wait_running()
    command = [sys.executable, "-m", "agent", "tune", "--config", str(tmp_path / "agent.toml")]

    done = subprocess.run([*command, "-o", "json"], capture_output=True, check=True, timeout=120)

    shown = json.loads(done.stdout)
    assert [entry["model"] for entry in shown] == ["digits/small only", "digits/large only"]
    kept = json.loads((rig.state_dir / "profiles.json").read_bytes())["profiles"]
    assert {p["key"]["artifact"] for p in kept} == {p["key"]["artifact"] for p in shown}
    assert profiles(rig) == ()


def test_a_device_without_a_cascade_has_nothing_to_measure(rig: Rig, tmp_path: Path) -> None:
    rig.start()
    rig.wait_online()
    done = subprocess.run(
        [sys.executable, "-m", "agent", "tune", "--config", str(tmp_path / "agent.toml")],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.decode().startswith("cannot tune: nothing serves")
