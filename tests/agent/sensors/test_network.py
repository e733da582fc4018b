"""Whether the link costs: a person's word, else NetworkManager's, else null."""

from pathlib import Path

import pytest

from agent.errors import SensorError
from agent.sensors import Sensors
from agent.sensors.network import parse_metered
from tests.agent.sensors.machines import pi_5, program, until


@pytest.mark.parametrize(
    ("text", "metered"),
    [("u 0\n", None), ("u 1\n", True), ("u 2\n", False), ("u 3\n", True), ("u 4\n", False)],
)
def test_what_busctl_prints(text: str, metered: bool | None) -> None:  # noqa: FBT001
    assert parse_metered(text).metered is metered


@pytest.mark.parametrize("text", ["", "u", "u 9", "b true", "nan"])
def test_what_busctl_does_not_print(text: str) -> None:
    with pytest.raises(SensorError, match="busctl says"):
        parse_metered(text)


def test_the_manager_is_asked_where_it_runs(tmp_path: Path) -> None:
    machine = pi_5(tmp_path / "root")
    environ = program(tmp_path / "bin", "busctl", f'echo "$@" >> {tmp_path}/asked; echo u 3')
    assert Sensors(machine.root, environ=environ).sample(0.0).metered is None
    assert not (tmp_path / "asked").exists()
    machine.write("run/NetworkManager/system-connections/x", "")
    sensors = Sensors(machine.root, environ=environ)
    until(lambda: sensors.sample(0.0).metered is True)
    asked = (tmp_path / "asked").read_text().split()
    assert asked[:3] == ["--system", "get-property", "org.freedesktop.NetworkManager"]
    assert asked[-1] == "Metered"


@pytest.mark.parametrize("metered", [True, False])
def test_a_persons_word_counts(tmp_path: Path, metered: bool) -> None:  # noqa: FBT001
    machine = pi_5(tmp_path / "root").write("run/NetworkManager/x", "")
    environ = program(tmp_path / "bin", "busctl", f"touch {tmp_path}/asked; echo u 1")
    sensors = Sensors(machine.root, environ=environ, metered=metered)
    assert [sensors.sample(float(n)).metered for n in range(3)] == [metered] * 3
    assert not (tmp_path / "asked").exists()


def test_no_answer_is_no_loss(tmp_path: Path) -> None:
    machine = pi_5(tmp_path / "root").write("run/NetworkManager/x", "")
    environ = program(tmp_path / "bin", "busctl", f"touch {tmp_path}/asked; exit 1")
    sensors = Sensors(machine.root, environ=environ)
    until(lambda: (sensors.sample(0.0), (tmp_path / "asked").exists())[1])
    assert sensors.sample(1.0).metered is None
    assert sensors.complaints() == ()
