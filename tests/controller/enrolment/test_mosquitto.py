"""The broker's files as text. What they do is tested on a real broker, in tests/deploy."""

import base64
import shutil
import subprocess
from pathlib import Path

import pytest

from controller.enrolment.mosquitto import (
    BrokerPlan,
    access_list,
    fleet_config,
    password_line,
)
from protocols.asyncapi import CHANNELS
from protocols.topics import Topics

TOPICS = Topics("home")
PLAN = BrokerPlan(8883, None, "/etc/mosquitto/sluice", "/var/lib/m")


def allows(acl: str, what: str, topic: str) -> bool:
    """Whether a device named pi-1 may read or write a topic, by the list's patterns."""
    for line in acl.splitlines():
        words = line.replace("%u", "pi-1").split()
        if words[:2] == ["pattern", what]:
            levels, filters = topic.split("/"), words[2].split("/")
            if filters[-1] == "#":
                levels, filters = levels[: len(filters) - 1], filters[:-1]
            pairs = zip(levels, filters, strict=False)
            if len(levels) == len(filters) and all(f in {"+", level} for level, f in pairs):
                return True
    return False


def test_a_device_may_do_what_the_wire_says_that_an_agent_does() -> None:
    acl = access_list(TOPICS, {}, [])
    for channel in CHANNELS:
        topic = channel.address.format(
            fleet="home", device="pi-1", deployment="d", controller="c", sha256="0" * 64,
            number=1, version=1, entry="e", id="e",
        )  # fmt: skip
        assert allows(acl, "write", topic) == ("agent" in channel.writers), topic
        assert allows(acl, "read", topic) == ("agent" in channel.readers), topic


def test_one_identity_a_line_and_denials_before_what_is_given() -> None:
    acl = access_list(TOPICS, {"@ctl": "release", "@server": "controller"}, ["pi-9"])
    assert "user @ctl\ntopic readwrite sluice/v1/home/#\n" in acl
    assert "user pi-9\ntopic deny #\n" in acl
    server = acl.partition("user @server")[2].partition("\n\n")[0]
    assert "write sluice/v1/home/devices/+/desired" in server
    assert not {"deployments", "pins", "roster"} & set(server.replace("\n", "/").split("/"))


def test_without_passwords_there_is_one_listener() -> None:
    config = fleet_config(PLAN)
    assert config.count("\nlistener ") == 1
    assert "password_file" not in config
    assert "require_certificate true" in config
    assert "allow_anonymous false" in config
    assert "\nuser " not in config, "root starts it, and it takes its own user"


def test_the_password_listener_is_tls_too() -> None:
    config = fleet_config(BrokerPlan(8883, 8884, PLAN.folder, PLAN.data, "me"))
    tail = config.partition("listener 8884")[2]
    for line in ("certfile ", "keyfile ", "password_file ", "tls_version tlsv1.2"):
        assert line in tail
    assert "require_certificate" not in tail


def test_password_lines_are_those_of_mosquittos_own_tool(tmp_path: Path) -> None:
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("mosquitto_passwd is not installed")
    subprocess.run([tool, "-b", "-c", tmp_path / "file", "pi-1", "secret"], check=True)
    theirs = (tmp_path / "file").read_text().strip()
    kind, rounds, salt, _ = theirs.partition(":")[2].lstrip("$").split("$")
    assert (kind, rounds) == ("7", "101")
    assert password_line("pi-1", "secret", base64.b64decode(salt)) == theirs
