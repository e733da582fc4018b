"""A Raspberry Pi: the firmware's word, the alarm of its voltage, the rails of a Pi 5."""

from pathlib import Path

import pytest

from agent.sensors.background import Pace
from agent.sensors.raspberry_pi import RaspberryPi, rails_w
from agent.sensors.reading import Reading
from agent.sensors.tree import Tree
from tests.agent.sensors.machines import PMIC, THROTTLED, Machine, pi_4, pi_5, program, until

ALARM = "sys/class/hwmon/hwmon2/in0_lcrit_alarm"
EMPTY: dict[str, str] = {"PATH": ""}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "root")


def read(machine: Machine) -> Reading:
    pi = RaspberryPi(Tree(machine.root), EMPTY)
    pi.discover()
    return pi.read(0.0)


@pytest.mark.parametrize(
    ("text", "word", "low"),
    [
        ("0\n", 0, False),
        ("50005\n", 0x50005, True),
        ("0x50000", 0x50000, False),
        ("e", 14, False),
        ("1", 1, True),
    ],
)
def test_the_firmware_writes_hexadecimal(
    machine: Machine,
    text: str,
    word: int,
    low: bool,  # noqa: FBT001
) -> None:
    assert read(machine.write(THROTTLED, text)) == Reading(throttled=word, low_voltage=low)


@pytest.mark.parametrize("text", ["", "nan", "-1", "throttled=0x0", "123456789"])
def test_a_word_that_is_none(machine: Machine, text: str) -> None:
    assert read(machine.write(THROTTLED, text)) == Reading()


def test_a_board_without_the_firmware_and_one_that_numbers_its_soc(machine: Machine) -> None:
    assert read(machine) == Reading()
    numbered = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"
    assert read(machine.write(numbered, "2\n")).throttled == 2


@pytest.mark.parametrize(
    ("alarm", "low"), [("0", False), ("1\n", True), ("nan", None), ("", None), ("7", None)]
)
def test_the_alarm_of_a_mainline_kernel(machine: Machine, alarm: str, low: bool | None) -> None:  # noqa: FBT001
    machine.write("sys/class/hwmon/hwmon2/name", "rpi_volt\n").write(ALARM, alarm)
    assert read(machine).low_voltage is low


def test_the_alarm_of_something_else_is_not_asked(machine: Machine) -> None:
    machine.write("sys/class/hwmon/hwmon2/name", "nct6775\n").write(ALARM, "1")
    assert read(machine).low_voltage is None


def test_either_source_of_low_voltage_is_enough(machine: Machine) -> None:
    machine.write("sys/class/hwmon/hwmon2/name", "rpi_volt\n").write(ALARM, "0")
    assert read(machine.write(THROTTLED, "1")).low_voltage is True
    assert read(machine.write(THROTTLED, "50000").write(ALARM, "1")).low_voltage is True
    assert read(machine.write(ALARM, "0")).low_voltage is False
    assert read(machine.refuse(ALARM).refuse(THROTTLED)).low_voltage is None


# --- the rails


def ask(pi: RaspberryPi, now_s: float = 0.0) -> Reading:
    pi.discover()
    until(lambda: pi.read(now_s).power_w is not None or bool(pi._rails and not pi._rails.asks))
    return pi.read(now_s)


def test_a_pi_5_takes_what_its_rails_take(tmp_path: Path) -> None:
    machine = pi_5(tmp_path / "root")
    calls = tmp_path / "calls"
    (tmp_path / "adc").write_text(PMIC)
    script = f'echo "$@" >> {calls}; cat {tmp_path}/adc'
    pi = RaspberryPi(Tree(machine.root), program(tmp_path / "bin", "vcgencmd", script))
    reading = ask(pi)
    assert reading.power_w == pytest.approx(3.62)
    assert reading.power_method == "rail"
    for n in range(10):
        assert pi.read(n * 0.99).power_w == pytest.approx(3.62)
    assert calls.read_text() == "pmic_read_adc\n", "no process for every sample"


def test_only_a_board_with_such_a_chip_and_a_mailbox_is_asked(tmp_path: Path) -> None:
    environ = program(tmp_path / "bin", "vcgencmd", f"touch {tmp_path}/asked; exit 1")
    old, hidden = pi_4(tmp_path / "old"), pi_5(tmp_path / "hidden")
    old.write("dev/vcio", "")
    hidden.remove("dev/vcio")
    for machine in (old, hidden):
        pi = RaspberryPi(Tree(machine.root), environ)
        for n in range(5):
            assert pi.read(20.0 * n).power_w is None
        assert pi.complaints() == ()
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("sleep 60", "does not answer within 0.2 s"),
        ("echo 'VCHI initialization failed'; exit 255", "ends with code 255"),
        ("echo 'error=1 error_msg=\"Command not registered\"'", "tells no volts and amperes"),
    ],
)
def test_a_vcgencmd_that_hangs_or_may_not_ask(tmp_path: Path, script: str, words: str) -> None:
    machine = pi_5(tmp_path / "root")
    environ = program(tmp_path / "bin", "vcgencmd", script)
    pi = RaspberryPi(Tree(machine.root), environ, Pace(10.0, 0.2))
    reading = ask(pi)
    assert (reading.power_w, reading.power_method, reading.throttled) == (None, None, 0)
    (complaint,) = pi.complaints()
    assert complaint.startswith("cannot read the PMIC's rails: ")
    assert words in complaint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "EXT5V_V volt(24)=5.1V\n",
        PMIC.replace("0.80000000V", "nanV"),
        PMIC.replace("2.00000000A", "1e999A"),
        PMIC.replace("VDD_CORE_V", "VDD_GONE_V"),
    ],
)
def test_a_part_of_the_rails_is_no_power(text: str) -> None:
    assert rails_w(text) is None
