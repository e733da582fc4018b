"""`ctl broker config`, `identity`, and `ctl device add`, `accept`, `revoke`, `rotate`."""

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from controller.cli.app import app
from controller.home import Home
from controller.signing import key_path
from protocols.enrolment import EnrolmentFile, enrolment_of
from protocols.link import Broker
from tests.controller.cli.conftest import Bench
from tests.fleet import Device, Fleet, Publication


class Enrolled(Device):
    """A device that says by which file it came."""

    nonce, machine = "", "1"

    def hello(self) -> list[Publication]:
        said = super().hello()
        if not self.nonce:
            return said
        topic, payload, retained = said[1]
        document = json.loads(payload)
        mine = enrolment_of(self.nonce, self.machine)
        document["enrolment"] = mine.model_dump()
        return [said[0], (topic, json.dumps(document).encode(), retained), said[2]]


def enrolled(bench: Bench, name: str, nonce: str = "", machine: str = "1") -> Device:
    device = Enrolled(name, bench.home.topics, bench.home.trust())
    device.nonce, device.machine = nonce, machine
    return device


@pytest.fixture
def secure(bench: Bench, tmp_path: Path) -> Bench:
    """A home with an authority; the broker itself is the tests' open one."""
    bench.ctl("broker", "config", str(tmp_path / "broker"), "--host", "broker.lan")
    return bench


def read(path: Path) -> EnrolmentFile:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return EnrolmentFile.decode(path.read_bytes())


def standings(bench: Bench) -> dict[str, str]:
    return {d["name"]: d["standing"] for d in bench.ctl_json("device", "ls", "--wait", "0s")}


def fleet(bench: Bench, *devices: Device) -> Fleet:
    return Fleet(Broker.parse(bench.broker_url), *devices)


def test_config_makes_a_home_that_finds_its_broker(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    done = bench.ctl("broker", "config", str(folder), "--host", "broker.lan", "--port", "9999")
    assert "mqtts://broker.lan:9999" in done.stderr
    home = Home.open(bench.home.folder, environ={})
    assert (home.fleet, home.broker.url) == (bench.home.fleet, "mqtts://broker.lan:9999")
    home.broker.context()
    assert "PRIVATE" not in done.output
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    again = bench.ctl_json("broker", "config", str(folder))
    assert {one["what"] for one in again} == {"kept"}
    more = bench.ctl_json("broker", "config", str(folder), "--password-fallback", "--renew")
    changed = {Path(one["path"]).name: one["what"] for one in more if one["what"] != "kept"}
    assert changed == {
        "broker.key": "replaced",
        "broker.pem": "replaced",
        "mosquitto.conf": "replaced",
        "passwords": "made",
    }
    assert (folder / "ca.pem").read_bytes() == before["ca.pem"]
    assert "listener 10000" in (folder / "mosquitto.conf").read_text()


def test_a_configuration_of_a_person_stays(bench: Bench, tmp_path: Path) -> None:
    mine = bench.home.folder / "config.toml"
    mine.write_text('controller = "laptop"\n')
    done = bench.ctl("broker", "config", str(tmp_path / "broker"), "--host", "broker.lan")
    assert mine.read_text() == 'controller = "laptop"\n'
    assert 'cert_file = "client.pem"' in done.stderr


def test_for_another_machine_the_paths_are_those_there(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    bench.ctl(*("broker", "config", str(folder), "--host", "b"), *("--at", "/etc/mosquitto/sluice"))
    config = (folder / "mosquitto.conf").read_text()
    assert "cafile /etc/mosquitto/sluice/ca.pem" in config
    assert "persistence_location /var/lib/mosquitto/" in config
    assert str(tmp_path) not in config
    bench.ctl("broker", "config", str(folder))
    assert (folder / "mosquitto.conf").read_text() == config, "what was said is remembered"


def test_an_identity_is_a_home_of_its_own(secure: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "server"
    secure.ctl("broker", "identity", "server", "--serve", "--out", str(folder))
    home = Home.open(folder, environ={})
    home.broker.context()
    assert home.trust() == secure.home.trust()
    assert not (folder / "keys").exists(), "signing keys are not carried around"
    assert "user @server\ntopic read " in (tmp_path / "broker" / "acl").read_text()
    done = secure.ctl("broker", "identity", "server", "--out", str(folder), code=2)
    assert "it is a home folder already" in done.stderr
    other = str(tmp_path / "other")
    done = secure.ctl("broker", "identity", "server", "--out", other, code=2)
    assert "ctl broker revoke server" in done.stderr
    secure.ctl("broker", "revoke", "server")
    assert "@server" not in (tmp_path / "broker" / "acl").read_text()
    done = secure.ctl("broker", "revoke", "server", code=2)
    assert "it has no certificate; there are @ctl" in done.stderr
    secure.ctl("broker", "identity", "server", "--out", other)
    trail = [(e["act"], e["target"]) for e in _audit(secure)]
    assert trail.count(("broker-configured", "@server")) == 3
    assert trail[0] == ("broker-configured", "mqtts://broker.lan:8883")
    listed = secure.ctl_json("audit")
    assert {e["target"] for e in listed} == {"@server", "mqtts://broker.lan:8883"}


def test_add_makes_a_file_and_closes_the_fleet(secure: Bench, tmp_path: Path) -> None:
    with fleet(secure, enrolled(secure, "old")):
        path = tmp_path / "pi-1.enrol"
        done = secure.ctl("device", "add", "pi-1", "--label", "room=hall", "--out", str(path))
        assert "old waits for ctl device accept" in done.stderr
        file = read(path)
        assert (file.device, file.labels) == ("pi-1", {"room": "hall"})
        assert file.broker_url == "mqtts://broker.lan:8883"
        assert file.key is not None
        assert not [line for line in file.key.splitlines() if line in done.output]
        assert standings(secure) == {"old": "pending", "pi-1": "added"}
        with fleet(secure, enrolled(secure, "pi-1", file.nonce)):
            assert standings(secure)["pi-1"] == "accepted"
        secure.ctl("device", "accept", "--all")
        assert standings(secure)["old"] == "accepted"
        assert "No device is pending" in secure.ctl("device", "accept", "--all").stderr


def test_what_add_refuses_changes_nothing(secure: Bench, tmp_path: Path) -> None:
    path = tmp_path / "pi-1.enrol"
    secure.ctl("device", "add", "pi-1", "--out", str(path))
    register = (secure.home.pki_dir / "register.json").read_bytes()
    content = path.read_bytes()
    assert "it exists" in secure.ctl("device", "add", "pi-2", "--out", str(path), code=2).stderr
    other = str(tmp_path / "other")
    assert "rotate" in secure.ctl("device", "add", "pi-1", "--out", other, code=2).stderr
    assert "device" in secure.ctl("device", "add", "a/b", "--out", other, code=2).stderr
    nowhere = str(tmp_path / "none" / "f")
    assert "cannot write" in secure.ctl("device", "add", "p", "--out", nowhere, code=2).stderr
    done = secure.ctl("device", "add", "p", "--password", "--out", other, code=2)
    assert "--password-fallback" in done.stderr
    assert not Path(other).exists()
    assert path.read_bytes() == content
    found = json.loads((secure.home.pki_dir / "register.json").read_bytes())
    before: dict[str, Any] = json.loads(register)
    assert [one["identity"] for one in before["logins"]] == ["@ctl", "pi-1"]
    assert standings(secure) == {"pi-1": "added"}
    assert len(found["logins"]) <= len(before["logins"]) + 1, "at most one that nobody was given"


def test_no_password_on_a_command_line(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    url = bench.broker_url.replace("mqtt://", "mqtt://ann:hush@")
    refused = replace(bench, broker_url=url).ctl("device", "ls", code=2)
    assert "where `ps` shows it" in " ".join(refused.stderr.replace("│", " ").split())
    assert "hush" not in refused.output
    monkeypatch.setenv("SLUICE_BROKER", url)
    alone = ["--home", str(bench.home.folder), "--fleet", bench.home.fleet]
    done = CliRunner().invoke(app, [*alone, "device", "ls", "--wait", "0s"])
    assert done.exit_code == 0, done.output


def test_without_the_release_key_no_credential_is_made(secure: Bench, tmp_path: Path) -> None:
    register = (secure.home.pki_dir / "register.json").read_bytes()
    key_path(secure.home, "release").unlink()
    done = secure.ctl("device", "add", "pi-1", "--out", str(tmp_path / "f"), code=1)
    assert "release" in done.stderr
    assert (secure.home.pki_dir / "register.json").read_bytes() == register
    assert not list(tmp_path.glob("*f*.new")) + list(tmp_path.glob("f"))


def test_without_an_authority_add_says_what_to_run(bench: Bench, tmp_path: Path) -> None:
    done = bench.ctl("device", "add", "pi-1", "--out", str(tmp_path / "f"), code=2)
    assert "ctl broker config" in done.stderr
    assert standings(bench) == {}


def test_revoke_ends_it_and_may_clear(secure: Bench, tmp_path: Path) -> None:
    path = tmp_path / "f"
    secure.ctl("device", "add", "pi-1", "--out", str(path))
    with fleet(secure, enrolled(secure, "pi-1", read(path).nonce)):
        pass
    assert standings(secure) == {"pi-1": "accepted"}
    done = secure.ctl("device", "revoke", "pi-1", "--clear")
    assert "mosquitto" in done.stderr, "how the broker comes to know"
    (device,) = secure.ctl_json("device", "ls", "--wait", "0s")
    assert device["standing"] == "revoked"
    assert device["inventory"] is device["status"] is device["reported"] is None
    assert "topic deny #" in (tmp_path / "broker" / "acl").read_text()
    assert "no such device" in secure.ctl("device", "revoke", "nobody", code=2).stderr
    path.unlink()
    secure.ctl("device", "add", "pi-1", "--out", str(path))
    assert standings(secure) == {"pi-1": "added"}
    acts = [e["act"] for e in _audit(secure)]
    assert acts[1:] == ["device-added", "device-revoked", "device-added"]


def test_rotate_exchanges_a_credential_in_two_steps(secure: Bench, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    secure.ctl("device", "add", "pi-1", "--out", str(first))
    with fleet(secure, enrolled(secure, "pi-1", read(first).nonce)):
        secure.ctl("device", "rotate", "pi-1", "--out", str(second))
        assert standings(secure) == {"pi-1": "accepted"}
        secure.ctl("device", "rotate", "pi-1", "--finish", code=4)
        checks = {c["name"]: c for c in secure.ctl_json("doctor", "--wait", "0s")}
        assert checks["rotations"]["found"] == "unfinished: pi-1"
        assert "--finish" in checks["rotations"]["advice"]
    with fleet(secure, enrolled(secure, "pi-1", read(second).nonce)):
        assert standings(secure) == {"pi-1": "accepted"}
        secure.ctl("device", "rotate", "pi-1", "--finish")
        assert standings(secure) == {"pi-1": "accepted"}
    with fleet(secure, enrolled(secure, "pi-1", read(first).nonce)):
        assert standings(secure) == {"pi-1": "stranger"}
    register = json.loads((secure.home.pki_dir / "register.json").read_bytes())
    assert [bool(one["revoked_ts"]) for one in register["logins"]] == [False, True, False]
    assert read(first).key != read(second).key


def test_nothing_is_planned_for_who_does_not_belong(secure: Bench, tmp_path: Path) -> None:
    secure.shelve()
    secure.ctl("device", "add", "pi-1", "--out", str(tmp_path / "f"))
    nonce = read(tmp_path / "f").nonce
    with fleet(secure, enrolled(secure, "pi-1", nonce), enrolled(secure, "other")):
        shown = secure.ctl("plan", "digits").stdout
        assert "pi-1" in shown
        assert "other" not in shown
        done = secure.ctl("deploy", "digits", "--timeout", "30s")
        assert "1 running" in done.output
        named = secure.ctl("deploy", "digits", "other", code=2)
        assert "it is pending, see ctl device ls" in named.output
        devices = {d["name"]: d for d in secure.ctl_json("device", "ls", "--wait", "0s")}
        assert devices["other"]["desired"] is None
        bound = devices["pi-1"]["desired"]["enrolment"]
        assert bound
        assert bound == devices["pi-1"]["inventory"]["enrolment"]


def test_doctor_says_who_does_not_belong(secure: Bench, tmp_path: Path) -> None:
    path = tmp_path / "f"
    secure.ctl("device", "add", "pi-1", "--out", str(path))
    nonce = read(path).nonce
    serve = secure.start("serve")
    try:
        with fleet(secure, enrolled(secure, "pi-1", nonce)):
            for _ in range(100):
                found = secure.ctl_json("device", "show", "pi-1", "--wait", "0s")
                if found["desired"] is not None:
                    break
        with fleet(secure, enrolled(secure, "pi-1", nonce, machine="2")):
            found = secure.ctl_json("doctor", "--wait", "0s", code=1)
        checks = {c["name"]: c for c in found}
        assert checks["roster"]["level"] == "fail"
        assert checks["roster"]["found"] == "another machine uses pi-1"
        assert checks["certificates"]["level"] == "ok"
    finally:
        serve.terminate()
        serve.communicate(timeout=20)


def _audit(bench: Bench) -> list[dict[str, Any]]:
    lines = (bench.home.folder / "audit.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
