"""Configuration, trust, sockets and the command line: what is wrong is said, exit code 2."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.check import check
from agent.config import Config, read_toml
from agent.errors import StartError
from agent.processes.sockets import listen_tcp, listen_unix
from agent.storage.files import claim
from agent.watchdog import Watchdog
from protocols.envelope import KeySet, generate_key, public_key
from tests.brokers import free_port, running_broker


def config(**changes: object) -> Config:
    return Config.parse({"id": "pi", "broker": {"url": "mqtt://127.0.0.1"}} | changes, "test")


def trust(path: Path, *roles: str, fleet: str = "home") -> Path:
    keys = tuple(public_key(generate_key(), role) for role in roles)  # type: ignore[arg-type]
    path.write_bytes(KeySet(fleet=fleet, keys=keys).encode())
    return path


def agent(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **environment},
    )


def test_a_file_says_everything(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(
        'id = "kitchen"\nfleet = "lab"\nstate_dir = "/var/lib/sluice"\nlabels = {room = "k"}\n'
        '[broker]\nurl = "mqtts://broker:1234"\nusername = "u"\n'
        "[inference]\ntcp = false\n[telemetry]\ninterval_s = 2\n"
    )
    found = Config.parse(read_toml(path), str(path))
    assert found.labels == {"room": "k"}
    assert found.inference.tcp is None
    assert found.unix_path() == Path("/var/lib/sluice/infer.sock")
    session = found.session()
    assert (session.host, session.port, session.tls, session.username) == (
        "broker",
        1234,
        True,
        "u",
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("id = ", "agent.toml"),
        ('id = "a"\n', "broker: Field required"),
        ('id = "a"\ncolour = 1\n[broker]\nurl = "b"\n', "colour: Extra inputs"),
        ('id = "a b"\n[broker]\nurl = "b"\n', "id: "),
        ('id = "a"\n[broker]\nurl = "b"\n[sensors]\ninterval_s = 0\n', "sensors.interval_s"),
        (
            'id = "a"\n[broker]\nurl = "b"\n[sensors]\ninterval_s = 6\n',
            "sensors.interval_s: at most 5 s: to the governor",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    with pytest.raises(StartError, match="cannot start: ") as raised:
        Config.parse(read_toml(path), str(path))
    assert why in str(raised.value)


def test_state_and_trust_have_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    found = config()
    assert found.state_dir == tmp_path / "state" / "sluice" / "pi"
    with pytest.raises(StartError, match=r"no trust file at .* or .*ctl keygen"):
        found.key_set()
    (tmp_path / "config" / "sluice").mkdir(parents=True)
    trust(tmp_path / "config" / "sluice" / "trust.json", "release", "controller")
    assert len(found.key_set().keys) == 2
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/sluice")
    assert config().state_dir == Path("/var/lib/sluice")


def test_a_trust_file_must_be_this_fleet_s_and_hold_both_roles(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    for content, why in (
        (trust(path, "release", "controller", fleet="lab").read_bytes(), "is of fleet 'lab'"),
        (trust(path, "release").read_bytes(), "has no controller key"),
        (b"{}", "cannot read key set"),
    ):
        path.write_bytes(content)
        with pytest.raises(StartError, match=why):
            config(trust=str(path)).key_set()


def test_credentials_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    broker = {"url": "mqtt://h", "username": "u", "password_file": str(tmp_path / "password")}
    assert config(broker=broker).session().password == "secret"  # noqa: S105
    for wrong in (
        {"url": "http://h"},
        {"url": "mqtt://h", "password_file": str(tmp_path / "none")},
        {"url": "mqtts://h", "ca_file": str(tmp_path / "none")},
        {"url": "mqtts://h", "ca_file": str(tmp_path / "password")},
        {"url": "mqtt://two..dots"},
    ):
        with pytest.raises(StartError, match=r"cannot start: \[broker\]"):
            config(broker=wrong).session()


def test_certificates_for_sources_are_looked_at_before_they_are_needed(tmp_path: Path) -> None:
    none = tmp_path / "none"
    with pytest.raises(StartError, match=rf"^cannot start: \[fetch\] ca_file {none}: "):
        config(fetch={"ca_file": str(none)}).session()


def test_a_socket_path_that_is_too_long_moves_or_is_refused() -> None:
    long = "/" + "x" * 120
    moved = config(state_dir=long).unix_path()
    assert moved is not None
    assert moved.name == "sluice-home-pi.sock"
    with pytest.raises(StartError, match="at most 107 are possible"):
        config(inference={"unix": long}).unix_path()
    assert config(inference={"unix": False}).unix_path() is None


def test_tcp_on_a_free_port_and_one_in_use() -> None:
    listener = listen_tcp("127.0.0.1:0")
    port = listener.socket.getsockname()[1]
    assert listener.url == f"http://127.0.0.1:{port}/"
    with pytest.raises(StartError, match="is in use; is another sluice-agent running"):
        listen_tcp(f"127.0.0.1:{port}")
    listener.close()
    for wrong in ("8000", "127.0.0.1:http", "127.0.0.1:99999"):
        with pytest.raises(StartError, match="cannot start: "):
            listen_tcp(wrong)


def test_a_stale_socket_is_replaced_a_used_one_and_a_file_are_not(tmp_path: Path) -> None:
    path = tmp_path / "infer.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listener = listen_unix(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with pytest.raises(StartError, match="is in use"):
        listen_unix(path)
    listener.close()
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(StartError, match="no socket is in the way"):
        listen_unix(path)
    assert path.read_text() == "mine"


def test_one_agent_a_state_folder(tmp_path: Path) -> None:
    with claim(tmp_path), pytest.raises(StartError, match="another sluice-agent works on"):
        claim(tmp_path)
    claim(tmp_path).close()
    with pytest.raises(StartError, match="state folder"):
        claim(Path("/proc/nowhere"))


def test_the_command_line_says_what_keeps_it_from_starting(tmp_path: Path) -> None:
    state = ("--state", str(tmp_path / "state"))
    quick = ("--broker", "mqtt://127.0.0.1:1", "--id", "pi", *state)
    away = {"XDG_CONFIG_HOME": str(tmp_path)}
    done = agent("run", *quick, **away)
    assert done.returncode == 2
    assert done.stderr.startswith("cannot start: no trust file")
    path = trust(tmp_path / "trust.json", "release", "controller")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = agent("run", *quick, "--trust", str(path), "--listen", f"127.0.0.1:{port}")
    assert done.returncode == 2
    assert f"127.0.0.1:{port} is in use" in done.stderr
    done = agent("run", "--id", "pi")
    assert done.returncode == 2
    assert "give --config FILE, or --broker URL and --id NAME" in done.stderr
    (tmp_path / "agent.toml").write_text('id = "pi"\n[broker]\nurl = "mqtt://127.0.0.1:1"\n')
    done = agent("check", "--config", str(tmp_path / "agent.toml"), "--fleet", "lab", *state)
    assert done.returncode == 2
    assert "ok   configuration of pi in fleet lab" in done.stdout
    assert "FAIL cannot reach broker mqtt://127.0.0.1:1: " in done.stdout
    done = agent("version")
    assert done.stdout.startswith("sluice-agent ")


def test_check_looks_at_everything(tmp_path: Path) -> None:
    path = trust(tmp_path / "trust.json", "release", "controller")
    free = {"tcp": "127.0.0.1:0"}
    common = {"trust": str(path), "state_dir": str(tmp_path), "inference": free}
    with running_broker(tmp_path) as url:
        findings = list(check(lambda: config(broker={"url": url}, **common)))
    assert [f.text for f in findings if not f.good] == []
    assert len(findings) == 7
    nobody = {"url": f"mqtt://127.0.0.1:{free_port()}"}
    findings = list(
        check(lambda: config(broker=nobody, **{**common, "trust": str(tmp_path / "none")}))
    )
    bad = [f.text for f in findings if not f.good]
    assert len(bad) == 2
    assert "no trust file" in bad[0]
    assert "cannot reach broker" in bad[1]

    with claim(tmp_path):
        places = [f.text for f in check(lambda: config(broker=nobody, **common)) if not f.good]
    assert "another sluice-agent works on" in places[0]

    def broken() -> Config:
        raise StartError("cannot start: x")

    assert [f.good for f in check(broken)] == [False]


def test_systemd_hears_of_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        watchdog = Watchdog()
        assert watchdog.interval_s == 10
        watchdog.ready("here")
        assert systemd.recv(100) == b"READY=1\nSTATUS=here"
        watchdog.ping()
        assert systemd.recv(100) == b"WATCHDOG=1"
        watchdog.stopping()
        assert systemd.recv(100) == b"STOPPING=1"
    watchdog.ping()  # systemd restarts
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert Watchdog().interval_s is None
    monkeypatch.delenv("NOTIFY_SOCKET")
    Watchdog().ready("nobody hears it")


def test_a_certificate_comes_with_its_key(tmp_path: Path) -> None:
    url = "mqtts://127.0.0.1"
    for half in ("cert_file", "key_file"):
        with pytest.raises(StartError, match="want both cert_file and key_file"):
            config(broker={"url": url, half: "x"}).session()
    pair = {"cert_file": str(tmp_path / "none.pem"), "key_file": str(tmp_path / "none.key")}
    with pytest.raises(StartError, match=r"\[broker\]: cannot use certificates .*none\.pem"):
        config(broker={"url": url, **pair}).session()


def test_check_says_that_others_can_read_a_secret(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hush")
    broker = {"url": "mqtt://127.0.0.1:9", "username": "u", "password_file": str(secret)}
    trust(tmp_path / "trust.json", "release", "controller")
    found = config(
        broker=broker,
        trust=str(tmp_path / "trust.json"),
        state_dir=str(tmp_path / "state"),
        inference={"tcp": False, "unix": False},
    )
    for mode, is_said in ((0o644, True), (0o600, False)):
        secret.chmod(mode)
        said = [finding.text for finding in check(lambda: found) if not finding.good]
        assert any("others can be this device" in text for text in said) == is_said
        assert not any("hush" in text for text in said)


def test_no_password_on_a_command_line() -> None:
    done = agent("run", "--id", "pi", "--broker", "mqtt://pi:hush@127.0.0.1")
    assert done.returncode == 2
    assert "where `ps` shows it" in done.stderr
    assert "hush" not in done.stderr
