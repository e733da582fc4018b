from typing import Any

import pytest

from controller.cli import checks
from controller.cli.checks import Check


def test_python() -> None:
    assert checks.python((3, 11, 2)).level == "ok"
    assert checks.python((3, 10, 9)).level == "fail"


def test_interpreter() -> None:
    assert checks.interpreter("ai-edge-litert 2.3.0") == Check(
        "interpreter", "ok", "ai-edge-litert 2.3.0"
    )
    assert checks.interpreter(None).level == "warn"


@pytest.mark.parametrize(
    ("path", "amqtt", "level"),
    [("/usr/sbin/mosquitto", None, "ok"), (None, "0.12", "warn"), (None, None, "warn")],
)
def test_embedded_broker(path: str | None, amqtt: str | None, level: str) -> None:
    assert checks.mosquitto(path, amqtt).level == level


@pytest.mark.parametrize(
    ("mode", "level"), [(0o100600, "ok"), (0o100400, "ok"), (0o100640, "fail"), (None, "warn")]
)
def test_a_private_key_is_for_its_owner_alone(mode: int | None, level: str) -> None:
    assert checks.private_key("release", "/k/release.key", mode).level == level


def test_trust() -> None:
    assert checks.trust({"release": ["a"], "controller": ["b"]}, "home").level == "ok"
    assert "controller" in checks.trust({"release": ["a"], "controller": []}, "home").found


def test_a_broker_must_retain() -> None:
    assert checks.broker("mqtt://x:1", kept=True).level == "ok"
    assert checks.broker("mqtt://x:1", kept=False).level == "fail"


def test_devices_and_controllers() -> None:
    assert checks.controllers([]).level == "warn"
    assert checks.controllers(["a"]).found == "a"
    assert checks.devices([], []).level == "warn"
    assert checks.devices(["a"], []).level == "ok"
    off = checks.devices([], [f"pi-{n}" for n in range(9)])
    assert off.level == "warn"
    assert "and 4 more" in off.found


def test_clocks() -> None:
    assert checks.clocks({}).level == "ok"
    assert checks.clocks({"a": 0.2, "b": -4}).level == "ok"
    wrong = checks.clocks({"a": 0.2, "b": -3600})
    assert wrong.level == "warn"
    assert "b -3600 s" in wrong.found
    assert "a " not in wrong.found


def test_catalog() -> None:
    assert checks.catalog(2, 3, []).level == "ok"
    found = checks.catalog(2, 3, ["cannot use x: flipped", "cannot use y"])
    assert found.level == "fail"
    assert found.found == "cannot use x: flipped (and 1 more)"


def test_the_roster() -> None:
    assert checks.roster({}, ()).level == "ok"
    standings: dict[str, Any] = {"a": "accepted", "b": "added", "c": "revoked"}
    assert checks.roster(standings, ()) == Check("roster", "ok", "1 accepted, 1 added, 1 revoked")
    waiting = checks.roster({**standings, "d": "pending"}, ())
    assert (waiting.level, waiting.found) == (
        "warn",
        "1 accepted, 1 added, 1 pending, 1 revoked: d",
    )
    assert "ctl device accept" in waiting.advice
    several: list[tuple[tuple[str, ...], dict[str, Any]]] = [(("a",), {}), ((), {"a": "stranger"})]
    for rivals, more in several:
        found = checks.roster({**standings, **more}, rivals)
        assert (found.level, found.found) == ("fail", "another machine uses a")
    assert checks.roster(standings, (), ["b"]).level == "fail"


def test_certificates_that_end_soon() -> None:
    assert checks.certificates({}).level == "ok"
    assert checks.certificates({"broker": 3650.0, "pi-1": 400.2}) == Check(
        "certificates", "ok", "2, the first ends in 400 days"
    )
    soon = checks.certificates({"broker": 59.0, "pi-1": 400.0})
    assert (soon.level, soon.found) == ("warn", "ends: broker in 59 days")


def test_rotations_that_are_not_finished() -> None:
    assert checks.rotations(["a", "b"]).found == "unfinished: a, b"
