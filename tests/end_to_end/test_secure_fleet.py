"""From nothing to a fleet over TLS, with the commands of docs/security.md: real processes all."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from controller.broker import find_mosquitto
from controller.fleet import Device
from controller.home import Home
from controller.session import Session
from tests.agent.picture import Picture
from tests.brokers import accepts
from tests.deploy.secure import quiet_port
from tests.end_to_end.clients import infer
from tests.end_to_end.digits import LARGE_INT8, SAMPLES, SMALL, images
from tests.end_to_end.stack import wait_for

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")


@dataclass
class Place:
    """A folder, and every process that was started in it."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    command_lines: set[bytes] = field(default_factory=set)

    @property
    def broker_dir(self) -> Path:
        return self.folder / "broker"

    @property
    def logs(self) -> str:
        """All that any process has written."""
        return "".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))

    def log(self, name: str) -> str:
        """All that one process has written."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a process that goes on."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=self.env, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder
            )
        self.processes.append(process)
        return process

    def run(self, *command: str, code: int = 0) -> str:
        """Run a command to its end, and keep all that it said and how it was called."""
        process = self.start("commands", *command)
        while process.poll() is None:
            self.look()
            time.sleep(0.1)
        self.processes.remove(process)
        said = (self.folder / "commands.log").read_text()
        assert process.returncode == code, f"{command}: {process.returncode}\n{said[-3000:]}"
        return said

    def ctl(self, *arguments: str, code: int = 0) -> str:
        return self.run(sys.executable, "-m", "controller", *arguments, code=code)

    def ctl_json(self, *arguments: str, code: int = 0) -> Any:  # noqa: ANN401 - any document
        """Run one `ctl` command with `-o json` and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "controller", *arguments, "-o", "json"],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            cwd=self.folder,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    @property
    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
        return {**kept, "SLUICE_HOME": str(self.folder / "home"), "NO_COLOR": "1"}

    def look(self) -> None:
        """Note how every process on this machine was called: what `ps` would show."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                self.command_lines.add(path.read_bytes())
            except OSError:
                continue

    def start_broker(self) -> subprocess.Popen[bytes]:
        """Write the broker's configuration, and run it."""
        program = find_mosquitto()
        assert program is not None
        for _ in range(5):
            port = quiet_port()
            self.ctl(
                "broker", "config", str(self.broker_dir), "--host", "127.0.0.1",
                "--port", str(port), "--password-fallback",
            )  # fmt: skip
            broker = self.start("mosquitto", program, "-c", str(self.broker_dir / "mosquitto.conf"))
            while broker.poll() is None and not (accepts(port) and accepts(port + 1)):
                time.sleep(0.01)
            if broker.poll() is None:
                return broker
            shutil.rmtree(self.folder / "home" / "pki")
            (self.folder / "home" / "config.toml").unlink()
        raise AssertionError(self.logs)

    def start_serve(self, broker: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Run a controller with an identity of its own, which may not do what people may."""
        server = self.folder / "server"
        self.ctl("broker", "identity", "server", "--serve", "--out", str(server))
        (server / "keys").mkdir()
        shutil.copy(self.folder / "home" / "keys" / "controller.key", server / "keys")
        broker.send_signal(signal.SIGHUP)
        return self.start(
            "serve", sys.executable, "-m", "controller", "--home", str(server), "serve"
        )

    def enroll(self, name: str, *options: str) -> Path:
        """Let a device come; return its folder."""
        self.ctl("device", "add", name, *options)
        folder = self.folder / name
        enrolment = str(self.folder / f"{name}.enrol")
        self.run(
            sys.executable, "-m", "agent", "enroll", enrolment,
            "--dir", str(folder), "--state", str(folder / "state"),
        )  # fmt: skip
        assert not Path(enrolment).exists(), "it is used once"
        return folder

    def start_agent(self, folder: Path, machine: str) -> subprocess.Popen[bytes]:
        """Run an agent with what was enrolled, on a calm machine of this number."""
        calm = Picture(self.folder / f"root-{machine}", total_mib=8192)
        (calm.root / "etc").mkdir(exist_ok=True)
        (calm.root / "etc" / "machine-id").write_text(f"{machine}\n")
        config = folder / f"{machine}.toml"
        config.write_text(
            (folder / "agent.toml").read_text() + f'[sensors]\nsysroot = "{calm.root}"\n'
            '[inference]\ntcp = "127.0.0.1:0"\n[telemetry]\ninterval_s = 0.5\n'
        )
        return self.start(
            f"agent-{machine}", sys.executable, "-m", "agent", "run", "--config", str(config)
        )

    def stop(self) -> None:
        """End every process, the kind way first."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    try:
        place.ctl("keygen")
        yield place
    finally:
        place.stop()


def secrets_of(place: Place, *folders: Path) -> dict[str, str]:
    """Return every secret that was made, by the file that it lies in."""
    found = {}
    for folder in (*folders, place.folder / "home", place.folder / "server", place.broker_dir):
        for path in folder.rglob("*"):
            if path.suffix in {".key", ".nonce"} or path.name == "broker.password":
                assert path.stat().st_mode & 0o077 == 0, path
                lines = [x for x in path.read_text().splitlines() if "----" not in x]
                found[str(path)] = lines[0]
    return found


def ask(device: Device) -> int:
    """Post one image to a device; return the answer's status."""
    assert device.inventory is not None
    (url,) = (u for u in device.inventory.endpoints if u.startswith("http://"))
    host, _, port = url.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port.rstrip("/")), timeout=10)
    try:
        return infer(connection, "digits", images(1)[0][0], "FP32").status
    finally:
        connection.close()


def is_well(device: Device) -> bool:
    """Whether a device is there as itself, and does what it was told."""
    reported, desired = device.reported, device.desired
    return (
        device.standing == "accepted"
        and device.online
        and reported is not None
        and desired is not None
        and reported.generation == desired.generation
        and reported.refusal is None
    )


def eventually(what: str, look: Callable[[], object]) -> None:
    wait_for(what, look, timeout_s=60.0)


def test_from_nothing_to_answers_over_tls_and_back(place: Place) -> None:
    broker = place.start_broker()
    serve = place.start_serve(broker)
    ada = place.enroll("ada", "--label", "room=hall")
    bob = place.enroll("bob", "--password")
    broker.send_signal(signal.SIGHUP)  # it learns bob's password
    agents = [place.start_agent(ada, "1a"), place.start_agent(bob, "1b")]
    place.ctl(
        "cascade", "build", "digits", "--stage", f"small={SMALL}", "--stage",
        f"large={LARGE_INT8}", "--samples", str(SAMPLES), "--x-key", "x_calibration",
        "--y-key", "y_calibration",
    )  # fmt: skip
    with Session(Home.open(place.folder / "home", environ={})) as session:

        def device(name: str) -> Device:
            return session.fleet.device(name)

        eventually("ada is seen", lambda: device("ada").standing == "accepted")
        eventually("bob is seen", lambda: device("bob").standing == "accepted")
        place.ctl("deploy", "digits", "--timeout", "120s")
        assert device("ada").labels == {"room": "hall"}
        assert device("ada").desired.enrolment == device("ada").inventory.enrolment is not None  # type: ignore[union-attr]
        assert ask(device("ada")) == ask(device("bob")) == 200

        # A copy of ada's folder on another machine: not planned for, and it does not act, while
        # the two end each other's sessions all the time.
        copy = place.folder / "copy"
        shutil.copytree(ada, copy, ignore=shutil.ignore_patterns("state"))
        for file in copy.glob("*.toml"):
            file.write_text(file.read_text().replace(str(ada), str(copy)))
        thief = place.start_agent(copy, "2a")
        eventually("it is noticed", lambda: "ada" in session.fleet.rivals)
        eventually("it refuses", lambda: "is for another machine" in place.log("agent-2a"))
        eventually("serve says so", lambda: "ada: another machine" in place.log("serve"))
        thief.terminate()
        thief.wait(20)
        eventually("ada is back", lambda: is_well(device("ada")))
        checks = {c["name"]: c for c in place.ctl_json("doctor", "--wait", "0s", code=1)}
        assert checks["roster"]["level"] == "fail"
        assert "another machine uses ada" in checks["roster"]["found"]

        # Revoked: nothing is planned, and the broker does not let it in again.
        place.ctl("device", "revoke", "ada")
        broker.send_signal(signal.SIGHUP)
        agents[0].terminate()
        agents[0].wait(20)
        outcast = place.start_agent(ada, "1a")
        doubt = "does it take our certificate?"
        eventually("it is kept out", lambda: doubt in place.log("agent-1a"))
        place.look()
        assert device("ada").standing == "revoked"
        assert not device("ada").online
        assert device("bob").online
        outcast.terminate()
        retained = str(session.fleet)

    acts = acts_without_secrets(place, retained, secrets_of(place, ada, bob))
    assert acts.count("device-added") == 2
    assert "device-revoked" in acts
    assert serve.poll() is None


def acts_without_secrets(place: Place, retained: str, secrets: dict[str, str]) -> list[str]:
    """Check that secrets are in their files alone; return what the audit trail has recorded.

    Not in logs, not in `ps`, not in events, and not in what the broker retains.
    """
    assert len(secrets) >= 9
    trail = (place.folder / "home" / "audit.jsonl").read_text()
    told = f"{place.logs}\n{retained}\n{trail}"
    shown = b"\n".join(place.command_lines).decode(errors="replace")
    assert str(place.folder) in shown, "the look at the command lines saw ours"
    for where, secret in secrets.items():
        assert secret not in told, f"{where} is told"
        assert secret not in shown, f"{where} is in a command line"
    return [json.loads(line)["act"] for line in trail.splitlines()]
