"""`sluice-agent enroll`: a one-time file becomes a configuration that works, or nothing changes."""

import os
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from agent.config import Config, read_toml
from agent.enroll import enroll
from agent.enrolment import machine_number, read_enrolment
from agent.errors import StartError
from agent.sensors.tree import Tree
from controller.enrolment.authority import create_authority, issue_client
from protocols.enrolment import EnrolmentFile, enrolment_of
from protocols.envelope import KeySet, generate_key, public_key

KEYS = KeySet(
    fleet="home",
    keys=(public_key(generate_key(), "release"), public_key(generate_key(), "controller")),
)
AUTHORITY = create_authority("home", time.time())


def a_file(**more: Any) -> EnrolmentFile:  # noqa: ANN401 - any field
    issued = issue_client(AUTHORITY, "pi-1", time.time())
    fields = {
        "fleet": "home",
        "device": "pi-1",
        "labels": {"room": 'the "hall"'},
        "broker_url": "mqtts://broker.lan:8883",
        "ca": AUTHORITY.certificate.decode(),
        "certificate": issued.certificate.decode(),
        "key": issued.key.decode(),
        "trust": KEYS.model_dump_json(),
        "nonce": "ab" * 32,
        "created_ts": 1.0,
    }
    return EnrolmentFile.model_validate({**fields, **more})


def by_password(**more: Any) -> EnrolmentFile:  # noqa: ANN401
    return a_file(certificate=None, key=None, username="pi-1", password="hush", **more)  # noqa: S106


def put(file: EnrolmentFile, path: Path) -> Path:
    path.write_bytes(file.encode())
    path.chmod(0o600)
    return path


def config_of(folder: Path) -> Config:
    return Config.parse(read_toml(folder / "agent.toml"), "agent.toml")


def test_it_becomes_a_configuration_that_works(tmp_path: Path) -> None:
    file, place = a_file(), tmp_path / "device"
    path = put(file, tmp_path / "pi-1.enrol")
    assert enroll(path, place, tmp_path / "state") == 0
    assert not path.exists(), "it is used once"
    config = config_of(place)
    assert (config.id, config.fleet, config.labels) == ("pi-1", "home", {"room": 'the "hall"'})
    assert config.key_set() == KEYS
    assert config.state_dir == tmp_path / "state"
    session = config.session()
    assert (session.url, session.username) == ("mqtts://broker.lan:8883", None)
    session.context()
    for name in ("device.key", "enrolment.nonce"):
        assert stat.S_IMODE((place / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert not list(place.glob(".*")), "nothing half-written stays"


def test_a_label_may_be_any_text(tmp_path: Path) -> None:
    labels = {"room": "\U0001f349 \x7f\x85\u2028\t\\"}
    path = put(a_file(labels=labels), tmp_path / "pi-1.enrol")
    assert enroll(path, tmp_path / "device") == 0
    assert config_of(tmp_path / "device").labels == labels


def test_a_password_is_in_a_file_of_its_own(tmp_path: Path) -> None:
    place = tmp_path / "device"
    enroll(put(by_password(), tmp_path / "f"), place)
    session = config_of(place).session()
    assert (session.username, session.password, session.cert_file) == ("pi-1", "hush", None)
    assert "hush" not in (place / "agent.toml").read_text()
    assert stat.S_IMODE((place / "broker.password").stat().st_mode) == 0o600


def test_another_identity_is_not_replaced_unless_forced(tmp_path: Path) -> None:
    place, path = tmp_path / "device", tmp_path / "f"
    enroll(put(a_file(), path), place)
    before = {p.name: p.read_bytes() for p in place.iterdir()}
    for other in (a_file(device="pi-2"), a_file(fleet="work")):
        put(other, path)
        with pytest.raises(StartError, match=r"^cannot enroll as .*pi-1 in fleet home"):
            enroll(path, place)
        assert path.exists(), "the file is not used up"
        assert {p.name: p.read_bytes() for p in place.iterdir()} == before
    assert enroll(put(a_file(device="pi-2"), path), place, force=True) == 0
    assert config_of(place).id == "pi-2"
    assert tomllib.loads((place / "agent.toml.old").read_text())["id"] == "pi-1"


def test_a_new_file_of_the_same_device_keeps_what_a_person_wrote(tmp_path: Path) -> None:
    place, path = tmp_path / "device", tmp_path / "f"
    enroll(put(a_file(), path), place)
    with (place / "agent.toml").open("a") as config:
        config.write("[telemetry]\ninterval_s = 30\n")
    old_key = (place / "device.key").read_bytes()
    enroll(put(a_file(nonce="cd" * 32), path), place)
    assert config_of(place).telemetry.interval_s == 30
    assert (place / "device.key").read_bytes() != old_key
    assert (place / "enrolment.nonce").read_text().strip() == "cd" * 32
    # From a certificate to a password: the old credential goes.
    enroll(put(by_password(), path), place)
    assert not (place / "device.key").exists()
    assert config_of(place).session().password == "hush"  # noqa: S105


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot read enrolment file"),
        (b"{}", "cannot read enrolment file"),
        (a_file(key=None).encode(), "holds no credential"),
        (b'{"device": "../etc"}', "device"),
    ],
)
def test_what_is_no_such_file_changes_nothing(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    with pytest.raises(StartError, match=f"^cannot enroll: .*{said}"):
        enroll(path, tmp_path / "device")
    assert path.exists()
    assert not (tmp_path / "device").exists()


def test_a_file_that_leads_nowhere_is_not_used_up(tmp_path: Path) -> None:
    place, path = tmp_path / "device", tmp_path / "f"
    enroll(put(a_file(), path), place)
    before = {p.name: p.read_bytes() for p in place.iterdir()}
    for broken in (a_file(trust="{}"), a_file(ca="no certificate"), a_file(key="no key")):
        with pytest.raises(StartError, match=r"^cannot enroll: the file is damaged"):
            enroll(put(broken, path), place)
        assert path.exists()
        assert {p.name: p.read_bytes() for p in place.iterdir()} == before


def test_no_error_shows_a_secret(tmp_path: Path) -> None:
    path = put(by_password(), tmp_path / "f")
    text = path.read_text().replace('"fleet":"home"', '"fleet":"a/b"')
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "agent", "enroll", path, "--dir", tmp_path / "device"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "fleet" in done.stderr
    assert "hush" not in done.stderr + done.stdout
    assert "hush" not in repr(by_password())
    assert "ab" * 32 not in repr(by_password())


def test_a_missing_file_and_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"no file .*ctl device rotate"):
        enroll(tmp_path / "none", tmp_path / "device")
    (tmp_path / "taken").write_text("a file")
    path = put(a_file(), tmp_path / "f")
    with pytest.raises(StartError, match=r"^cannot enroll: "):
        enroll(path, tmp_path / "taken" / "device")
    assert path.exists()


def test_the_boards_own_number_goes_before_the_cards(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    assert machine_number(tree) is None
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "machine-id").write_text("f" * 32 + "\n")
    assert machine_number(tree) == "f" * 32
    board = tmp_path / "sys" / "firmware" / "devicetree" / "base"
    board.mkdir(parents=True)
    for nothing in ("", "0" * 16):
        (board / "serial-number").write_text(nothing)
        assert machine_number(tree) == "f" * 32
    (board / "serial-number").write_bytes(b"10000000abcdef01\0")
    assert machine_number(tree) == "10000000abcdef01"


def test_what_it_says_of_itself(tmp_path: Path) -> None:
    enroll(put(a_file(), tmp_path / "f"), tmp_path / "device")
    config = config_of(tmp_path / "device")
    number = machine_number(Tree(Path("/")))
    assert read_enrolment(config) == enrolment_of("ab" * 32, number)
    assert read_enrolment(config.model_copy(update={"enrolment": None})) is None
    (tmp_path / "device" / "enrolment.nonce").unlink()
    with pytest.raises(StartError, match=r"^cannot start: enrolment"):
        read_enrolment(config)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = put(a_file(), tmp_path / "f")
    path.chmod(0)
    with pytest.raises(StartError, match=r"^cannot enroll: "):
        enroll(path, tmp_path / "device")
