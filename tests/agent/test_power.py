"""What the battery and the CPU cost, by a real agent on a real broker."""

import http.client
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocols.device import CascadeStats
from tests.agent.rig import Rig, one_stage, rigged, two_stages
from tests.agent.sensors.machines import phone
from tests.end_to_end.clients import infer
from tests.end_to_end.stack import wait_for

_numbers = itertools.count()


@pytest.fixture
def rig(tmp_path: Path, broker_url: str) -> Iterator[Rig]:
    with rigged(tmp_path, broker_url, f"power-{next(_numbers)}") as rig:
        yield rig


def test_a_new_version_waits_for_charge_and_goes_on_by_itself(rig: Rig, tmp_path: Path) -> None:
    first, second = one_stage(tmp_path / "one"), one_stage(tmp_path / "two", version=2)
    machine = phone(tmp_path / "root").supply("battery", capacity=12)
    rig.start(extra=f'sysroot = "{machine.root}"\n')
    rig.desire(rig.ship(first))
    rig.wait_running(1)

    rig.desire(rig.ship(second))
    event = rig.wait_event("postponed", "digits 2 waits: battery 12 %, unplugged")
    waiting = rig.wait_phase("verified")
    assert waiting.message in event.message
    assert waiting.message.endswith("applies from 30 % or when plugged")
    assert waiting.running is not None
    assert waiting.running.version == 1
    connection = http.client.HTTPConnection(*rig.address())
    assert infer(connection, "digits", first.x[0], "FP32").version == "1"
    assert [e for e in rig.observer.events if e.kind == "postponed"] == [event]

    machine.supply("battery", status="Charging")
    rig.wait_running(2)
    assert infer(connection, "digits", second.x[0], "FP32").version == "2"
    connection.close()
    running = rig.cascade()
    assert running is not None
    assert running.message == ""
    assert rig.observer.inventory[rig.name].has_battery


def test_telemetry_has_the_joules_of_every_stage_and_how_they_were_found(
    rig: Rig, tmp_path: Path
) -> None:
    built = two_stages(tmp_path / "built")
    rig.start(extra="[tune]\nauto = false\nwatts_per_cpu = 2.0\n")
    rig.desire(rig.ship(built))
    rig.wait_running(1)

    def counted(answers: int) -> CascadeStats:
        def look() -> CascadeStats | None:
            found = rig.observer.telemetry[rig.name].cascades
            return found[0] if found and found[0].energy_answers >= answers else None

        return wait_for("the energy of answers", look)

    connection = http.client.HTTPConnection(*rig.address())
    wait_for("a first count", lambda: rig.observer.telemetry[rig.name].cascades)
    before = rig.observer.telemetry[rig.name].cascades[0]
    wait_for(
        "a second one",
        lambda: rig.observer.telemetry[rig.name].cascades[0].energy_method == "model",
    )
    for x in built.x:
        infer(connection, "digits", x, "FP32")
    connection.close()
    cascade = counted(len(built.x))
    assert cascade.energy_answers == cascade.answers - before.answers
    for stage in cascade.stages:
        assert stage.joules is not None
        assert 0 < stage.joules <= 2.0 * stage.cpu_s + 1e-6
        assert stage.energy_runs == len(built.x)
