"""How the energy of answers reads."""

from dataclasses import replace

import pytest

from controller.cli import words
from controller.cli.views import LoadRow, device_facts, stage_rows
from controller.fleet import Device
from protocols.bundle import BundleRef
from protocols.chunks import artifact_ref
from protocols.device import (
    CascadeStats,
    Reported,
    ReportedCascade,
    ReportedStage,
    StageStats,
)
from protocols.profile import EnergyMethod
from tests.controller.world import NOW_S, device, telemetry


def cascade(
    name: str, method: EnergyMethod | None, answers: int, *stages: tuple[str, float | None, int]
) -> CascadeStats:
    return CascadeStats(
        name=name,
        version=1,
        energy_method=method,
        energy_answers=answers,
        stages=tuple(
            StageStats(name=n, variant="int8", loaded=True, joules=joules, energy_runs=runs)
            for n, joules, runs in stages
        ),
    )


def showing(*cascades: CascadeStats) -> Device:
    heard = telemetry().with_(cascades=cascades)
    reported = Reported(
        device="pi",
        boot_id="b1",
        cascades=tuple(
            ReportedCascade(
                bundle=BundleRef(name=one.name, version=1, artifact=artifact_ref(b"x")),
                phase="running",
                stages=tuple(
                    ReportedStage(name=s.name, variant="int8", state="loaded") for s in one.stages
                ),
            )
            for one in cascades
        ),
    )
    return device(telemetry=heard, reported=reported)


@pytest.mark.parametrize(
    ("joules", "shown"),
    [
        (2.5, "2.5 J rail"),
        (0.0042, "4.2 mJ rail"),
        (0.00001234, "12.3 uJ rail"),
        (0.0, "0 uJ rail"),
        (None, None),
    ],
)
def test_joules_are_never_shown_without_their_method(
    joules: float | None, shown: str | None
) -> None:
    assert words.joules(joules, "rail") == shown
    assert words.joules(joules, None) is None


def test_a_stage_shows_what_one_of_its_runs_takes() -> None:
    found = showing(cascade("digits", "rail", 100, ("small", 0.4, 100), ("large", 2.0, 20)))
    shown = {r.place: words.joules(r.joules, r.energy_method) for r in stage_rows(found)}
    assert shown == {"digits/small": "4 mJ rail", "digits/large": "100 mJ rail"}


def test_an_answer_has_the_energy_of_all_stages_by_one_method() -> None:
    digits = cascade("digits", "rail", 100, ("small", 0.4, 100), ("large", 2.0, 20))
    faces = cascade("faces", "rail", 100, ("only", 1.6, 100))
    other = cascade("faces", "model", 100, ("only", 1.6, 100))
    silent = cascade("faces", None, 0, ("only", None, 0))

    def shown(*cascades: CascadeStats) -> str | None:
        return LoadRow(showing(*cascades), 1.0).energy

    assert shown(digits) == "24 mJ rail"
    assert shown(digits, faces) == "20 mJ rail"
    assert shown(digits, silent) == "24 mJ rail"
    assert shown(digits, other) is None, "two methods are not added up"
    assert shown(silent) is None
    assert LoadRow(device(), None).energy is None


def test_the_device_s_power_is_told_with_its_method() -> None:
    heard = telemetry()
    measured = heard.with_(sample=heard.sample.with_(power_w=3.617, power_method="rail"))
    facts = dict(device_facts(device(telemetry=measured), NOW_S))
    assert facts["Power"] == "3.62 W (rail)"
    without = dict(device_facts(replace(device(), telemetry=heard), NOW_S))
    assert without["Power"] is None
