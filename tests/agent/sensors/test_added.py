"""Providers of users: real entry points, good ones and ones that raise, hang or talk nonsense."""

from pathlib import Path

import numpy as np
import pytest

from agent.errors import SensorError
from agent.sensors import Sensors
from agent.sensors.added import Added, try_out, understand
from agent.sensors.background import Pace
from agent.sensors.reading import NOTHING, Reading
from protocols.device import Sample
from tests.agent.sensors.machines import pi_4, until

CODE = """
import itertools, threading, time

class Good:
    def read(self):
        return {"battery_percent": 83, "battery_plugged": True, "power_w": 4.5, "metered": False}

class Raises:
    def read(self):
        raise OSError(121, "Remote I/O error")

class Dies:
    def __init__(self):
        raise SystemExit(1)

class Hangs:
    def read(self):
        threading.Event().wait()

class Nonsense:
    def read(self):
        return {"battery_percent": float("nan"), "low_voltage": True}

class Mute:
    def read(self):
        return {}
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a package that offers them all, as pip would."""
    site = install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(site))
    return site


def install(site: Path) -> Path:
    name = f"ups_for_tests_{site.parent.name}"
    facts = site / f"{name}-1.0.dist-info"
    facts.mkdir(parents=True)
    (site / f"{name}.py").write_text(CODE)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    kinds = ("Good", "Raises", "Dies", "Hangs", "Nonsense", "Mute", "Missing")
    lines = "".join(f"ups-{kind.lower()} = {name}:{kind}\n" for kind in kinds)
    (facts / "entry_points.txt").write_text(f"[sluice.sensors]\n{lines}")
    return site


def ask(added: Added, now_s: float = 0.0) -> Reading:
    added.read(now_s)
    until(lambda: (added.read(now_s), not added.asks)[1])
    return added.read(now_s)


def test_a_good_one() -> None:
    added = Added("ups-good")
    assert ask(added) == Reading(
        battery_percent=83.0,
        battery_plugged=True,
        power_w=4.5,
        power_method="meter",
        metered=False,
    )
    assert added.complaints() == ()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("raises", "OSError(121, 'Remote I/O error')"),
        ("dies", "SystemExit(1)"),
        ("missing", "has no attribute 'Missing'"),
        ("unheard-of", "no installed package has it under sluice.sensors; there is: ups-dies, "),
    ],
)
def test_one_that_fails_is_null_and_told_once(kind: str, words: str) -> None:
    added = Added(f"ups-{kind}")
    for now_s in (0.0, 100.0, 200.0):
        assert ask(added, now_s) == NOTHING
    (complaint,) = added.complaints()
    assert complaint.startswith(f"cannot read provider ups-{kind}: ")
    assert words in complaint


def test_one_that_hangs_is_null_and_told_once() -> None:
    added = Added("ups-hangs")
    assert [added.read(float(n)) for n in range(100)] == [NOTHING] * 100
    assert added.complaints() == ("cannot read provider ups-hangs: no answer within 5 s",)


def test_one_that_talks_nonsense_is_null_there_and_told_once() -> None:
    added = Added("ups-nonsense")
    for now_s in (0.0, 5.0, 10.0):
        assert ask(added, now_s) == Reading(low_voltage=True)
    assert added.complaints() == ("cannot read provider ups-nonsense: battery_percent is nan",)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("battery_percent", 101),
        ("battery_percent", True),
        ("battery_percent", "83"),
        ("battery_plugged", 1),
        ("battery_plugged", "yes"),
        ("battery_temperature_c", -127.0),
        ("power_w", -3.0),
        ("power_w", float("inf")),
        ("power_method", "meter"),
        ("volts", 5.0),
        (7, 7),
    ],
)
def test_what_is_not_believed(key: object, value: object) -> None:
    report = understand({key: value, "metered": True})
    assert report.reading == Reading(metered=True)
    assert report.fault == f"{key} is {value!r}"


def test_other_numbers_and_nulls() -> None:
    said = {"battery_percent": np.float32(50), "power_w": np.int64(0), "low_voltage": None}
    assert understand(said).reading == Reading(
        battery_percent=50.0, power_w=0.0, power_method="meter"
    )
    assert understand(said).fault == ""
    with pytest.raises(SensorError, match="returns list, not a mapping"):
        understand([])


def test_a_user_counts_before_the_machine_and_never_hurts_it(tmp_path: Path) -> None:
    machine = pi_4(tmp_path / "root")
    machine.supply("BAT0", type="Battery", capacity=20, status="Discharging", temp=300)
    machine.supply("BAT0", voltage_now=4_000_000, current_now=500_000)
    alone = Sensors(machine.root).sample(0.0)
    assert (alone.battery_percent, alone.power_w, alone.power_method) == (20, 2, "battery")
    sensors = Sensors(machine.root, added=["ups-raises", "ups-hangs", "ups-nonsense", "ups-good"])
    until(lambda: sensors.sample(0.0).power_method == "meter")
    until(lambda: sensors.sample(0.0).low_voltage is True)
    seen: list[str] = []

    def three() -> bool:
        sensors.sample(6.0)
        seen.extend(sensors.complaints())
        return len(seen) >= 3

    until(three)
    sample = sensors.sample(7.0)
    assert sample == Sample(
        time_s=7.0,
        **{
            **alone.model_dump(exclude={"time_s"}),
            "cpu_percent": sample.cpu_percent,
            "own_cpu_percent": sample.own_cpu_percent,
            "foreign_cpu_percent": sample.foreign_cpu_percent,
            "battery_percent": 83.0,
            "battery_plugged": True,
            "battery_temperature_c": None,
            "low_voltage": True,
            "power_w": 4.5,
            "power_method": "meter",
            "metered": False,
        },
    )
    assert len(seen) == 3
    sensors.close()


def test_trying_one_out() -> None:
    assert try_out("ups-mute", 5.0) == NOTHING
    good = try_out("ups-good", 5.0)
    assert isinstance(good, Reading)
    assert good.battery_percent == 83
    assert try_out("ups-raises", 5.0) == "OSError(121, 'Remote I/O error')"
    assert try_out("ups-hangs", 0.1) == "no answer within 0.1 s"


def test_a_slower_pace_holds_longer() -> None:
    assert Pace(5.0, 5.0).fresh_s == 15
