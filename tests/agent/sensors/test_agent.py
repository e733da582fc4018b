"""The same agent, unchanged, on recorded machines: what it publishes, with nulls where they belong.

A real agent process on a real broker; what is recorded is the machine below its sysroot and the
programs on its path.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocols.device import Sample
from tests.agent.rig import Rig, rigged
from tests.agent.sensors.machines import (
    PMIC,
    TERMUX,
    Machine,
    big_little,
    pi_4,
    pi_5,
    program,
    proot,
    termux,
)
from tests.agent.sensors.test_added import install
from tests.end_to_end.stack import wait_for

_numbers = itertools.count()


@pytest.fixture
def rig(tmp_path: Path, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    folder = tmp_path / "bin"
    program(folder, "vcgencmd", f"cat <<'E'\n{PMIC}\nE")
    program(folder, "termux-battery-status", f"cat <<'E'\n{TERMUX}\nE")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    with rigged(tmp_path, broker_url, f"sensors-{next(_numbers)}") as rig:
        yield rig


def sample_of(rig: Rig, good: Callable[[Sample], bool]) -> Sample:
    """Wait for telemetry whose sample is such."""

    def look() -> Sample | None:
        telemetry = rig.observer.telemetry.get(rig.name)
        return telemetry.sample if telemetry and good(telemetry.sample) else None

    return wait_for("telemetry", look)


MEMORY = {"memory_total_mib", "memory_available_mib", "memory_available_percent"}
PRESSURE = {"psi_cpu_some_avg10", "psi_memory_some_avg10", "psi_memory_full_avg10"}
POWER = {"power_w", "power_method"}
BATTERY = {"battery_percent", "battery_plugged", "battery_temperature_c"}
RECORDED = [
    (pi_4, MEMORY | PRESSURE | {"temperature_c", "throttled", "low_voltage"}),
    (pi_5, MEMORY | POWER | {"temperature_c", "throttled", "low_voltage"}),
    (big_little, MEMORY | {"temperature_c"}),
    (termux, MEMORY | BATTERY | POWER),
    (proot, MEMORY | BATTERY | POWER),
]


@pytest.mark.parametrize(("make", "knows"), RECORDED, ids=[make.__name__ for make, _ in RECORDED])
def test_all_that_a_machine_knows_and_nothing_else(
    rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], Machine],
    knows: set[str],
) -> None:
    if make is termux:
        monkeypatch.setenv("TERMUX_VERSION", "0.118.1")
    machine = make(rig.folder / "root")
    rig.start(extra=f'sysroot = "{machine.root}"\n')

    def all_there(sample: Sample) -> bool:
        return sample.own_cpu_percent is not None and (sample.power_w is not None) == (
            "power_w" in knows
        )

    sample = sample_of(rig, all_there)
    told = {name for name, value in sample.model_dump().items() if value is not None}
    assert told == knows | {"time_s", "own_cpu_percent"}, "counters that stand still are no use"
    assert rig.observer.inventory[rig.name].memory_mib == sample.memory_total_mib
    battery = "battery_percent" in knows
    wait_for("battery", lambda: rig.observer.inventory[rig.name].has_battery == battery)
    assert not [event for event in rig.observer.events if event.kind == "sensor-lost"]


def test_a_users_provider_that_hangs_and_one_that_raises_harm_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(install(rig.folder / "site")))
    machine = pi_4(rig.folder / "root")
    rig.start(
        extra=f'sysroot = "{machine.root}"\nproviders = ["ups-hangs", "ups-raises", "ups-good"]\n'
    )
    sample = sample_of(rig, lambda sample: sample.battery_percent == 83)
    assert (sample.power_w, sample.power_method, sample.metered) == (4.5, "meter", False)
    lost = wait_for(
        "two events",
        lambda: [e.message for e in rig.observer.events if e.kind == "sensor-lost"][1:] and True,
    )
    assert lost
    seen_s = sample.time_s
    sample_of(rig, lambda sample: sample.time_s > seen_s + 1)
    messages = sorted(e.message for e in rig.observer.events if e.kind == "sensor-lost")
    assert messages == [
        "cannot read provider ups-hangs: no answer within 5 s",
        "cannot read provider ups-raises: OSError(121, 'Remote I/O error')",
    ]
    begun_s = time.monotonic()
    assert rig.stop() == 0
    assert time.monotonic() - begun_s < 10


def test_an_agent_that_stops_leaves_no_question_behind(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERMUX_VERSION", "0.118.1")
    pid_file = rig.folder / "pid"
    program(rig.folder / "bin", "termux-battery-status", f"echo $$ > {pid_file}; exec sleep 600")
    machine = termux(rig.folder / "root")
    rig.start(extra=f'sysroot = "{machine.root}"\n')
    pid = wait_for("the question", lambda: pid_file.exists() and pid_file.read_text().strip())
    assert sample_of(rig, lambda sample: True).battery_percent is None  # noqa: ARG005
    assert rig.stop() == 0
    wait_for("its end", lambda: not Path(f"/proc/{pid}").exists())
