"""A phone's battery as `termux-battery-status` tells it: a real script, which may hang."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import SensorError
from agent.sensors.background import Pace
from agent.sensors.reading import NOTHING, Reading
from agent.sensors.termux import Termux, is_termux, parse_battery
from agent.sensors.tree import Tree
from tests.agent.sensors.machines import TERMUX, program, proot, termux, until

STATUS = json.loads(TERMUX)
HERE = {"TERMUX_VERSION": "0.118.1"}


def battery(**changes: object) -> Reading:
    return parse_battery(json.dumps({**STATUS, **changes}))


def test_all_that_it_tells() -> None:
    reading = parse_battery(TERMUX)
    assert (reading.battery_percent, reading.battery_plugged) == (64.0, False)
    assert reading.battery_temperature_c == 31.4
    assert reading.power_w == pytest.approx(1.6068)
    assert reading.power_method == "battery"


@pytest.mark.parametrize("gone", STATUS)
def test_every_key_may_be_missing(gone: str) -> None:
    reading = parse_battery(json.dumps({k: v for k, v in STATUS.items() if k != gone}))
    assert reading.battery_percent == 64
    assert (reading.battery_temperature_c is None) == (gone == "temperature")
    assert (reading.power_w is None) == (gone in {"status", "plugged", "voltage", "current"})
    assert reading.battery_plugged is False


def test_nothing_at_all_and_no_battery() -> None:
    assert parse_battery("{}") == NOTHING
    assert battery(present=False) == NOTHING


@pytest.mark.parametrize("current", [412000, -412000])
def test_the_sign_of_the_current_varies_by_maker(current: int) -> None:
    assert battery(current=current).power_w == pytest.approx(1.6068)


@pytest.mark.parametrize(
    "changes",
    [
        {"current": -1500},  # milliamperes, from a maker that tells them so
        {"current": 0},
        {"voltage": -1000},  # how it says that Android says none
        {"voltage": 0},
        {"current": float("nan")},
        {"current": "412000"},
        {"status": "CHARGING", "plugged": "PLUGGED_AC"},
        {"plugged": "PLUGGED_USB"},  # a weak charger gives a part
        {"status": "FULL"},
    ],
)
def test_no_power_is_made_up(changes: dict[str, object]) -> None:
    reading = battery(**changes)
    assert (reading.power_w, reading.power_method) == (None, None)


@pytest.mark.parametrize(
    ("status", "plug", "plugged"),
    [
        ("DISCHARGING", "PLUGGED_USB", False),
        ("CHARGING", "PLUGGED_AC", True),
        ("FULL", None, True),
        ("NOT_CHARGING", "PLUGGED_WIRELESS", True),
        ("NOT_CHARGING", "UNPLUGGED", False),
        ("UNKNOWN", "PLUGGED_-1", None),
        (None, None, None),
    ],
)
def test_plugged(status: str | None, plug: str | None, plugged: bool | None) -> None:  # noqa: FBT001
    assert battery(status=status, plugged=plug).battery_plugged is plugged


def test_heat_and_charge_that_nobody_knows() -> None:
    reading = battery(temperature=-214748364.8, percentage=-1, level=30, scale=60)
    assert (reading.battery_temperature_c, reading.battery_percent) == (None, 50.0)
    assert battery(percentage=None, level=-1, scale=-1).battery_percent is None


@pytest.mark.parametrize("text", ["", "null", "[]", "termux-api: command failed", "{", "[" * 9999])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(SensorError, match="no JSON"):
        parse_battery(text)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)


@given(st.dictionaries(st.sampled_from([*STATUS, "other"]), anything))
def test_any_json_object_gives_what_is_believable(status: dict[str, object]) -> None:
    reading = parse_battery(json.dumps({**STATUS, **status}))
    assert 0 <= (reading.battery_percent or 0) <= 100
    assert -40 < (reading.battery_temperature_c or 0) < 150
    assert 0 <= (reading.power_w or 0) <= 1000


# --- the program


def ask(phone: Termux, now_s: float) -> Reading:
    phone.read(now_s)
    until(lambda: (phone.read(now_s), not (phone._battery and phone._battery.asks))[1])
    return phone.read(now_s)


def test_where_it_is_termux(tmp_path: Path) -> None:
    bare = Tree(termux(tmp_path / "phone").root)
    assert not is_termux(bare, {})
    assert is_termux(bare, HERE)
    assert is_termux(bare, {"PREFIX": "/data/data/com.termux/files/usr"})
    assert not is_termux(bare, {"PREFIX": "/usr/local"})
    assert is_termux(Tree(proot(tmp_path / "proot").root), {})


def test_another_machine_is_not_asked_and_a_phone_may_lack_the_package(tmp_path: Path) -> None:
    environ = program(tmp_path / "bin", "termux-battery-status", f"touch {tmp_path}/asked")
    for here in (environ, {**HERE, "PATH": ""}):
        phone = Termux(Tree(tmp_path), here)
        assert [phone.read(100.0 * n) for n in range(3)] == [NOTHING] * 3
        assert phone.complaints() == ()
    assert not (tmp_path / "asked").exists()


def test_it_is_asked_once_a_minute(tmp_path: Path) -> None:
    script = f"echo x >> {tmp_path}/asked; cat {tmp_path}/status"
    (tmp_path / "status").write_text(TERMUX)
    phone = Termux(
        Tree(tmp_path), HERE | program(tmp_path / "bin", "termux-battery-status", script)
    )
    assert ask(phone, 0.0) == parse_battery(TERMUX)
    assert {phone.read(float(n)) for n in range(60)} == {parse_battery(TERMUX)}
    assert (tmp_path / "asked").read_text() == "x\n"
    (tmp_path / "status").write_text(TERMUX.replace("64", "63"))
    assert ask(phone, 60.0).battery_percent == 63


def test_one_that_hangs_is_ended_told_once_and_in_the_end_left_alone(tmp_path: Path) -> None:
    script = f"echo $$ >> {tmp_path}/asked; sleep 600"
    environ = HERE | program(tmp_path / "bin", "termux-battery-status", script)
    phone = Termux(Tree(tmp_path), environ, Pace(every_s=60.0, limit_s=0.3))
    for n in range(6):
        assert ask(phone, 1000.0 * n) == NOTHING
    (complaint,) = phone.complaints()
    assert complaint.endswith("does not answer within 0.3 s")
    pids = (tmp_path / "asked").read_text().split()
    assert len(pids) == 3
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
