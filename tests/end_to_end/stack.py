"""A fleet of real processes in a folder of its own: broker, `ctl`, `ctl serve` and agents."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from controller.broker import start_broker
from protocols.device import Event, Inventory, Reported, ReportedCascade, Status, Telemetry
from protocols.link import Broker, Link
from protocols.topics import Topics
from tests.agent.picture import Picture

FLEET = "test"
Found = TypeVar("Found")


def wait_for(what: str, look: Callable[[], Found | None], timeout_s: float = 30.0) -> Found:
    """Look again and again until something is there; fail with what was waited for."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.02)


@dataclass
class Agent:
    """One agent process and what is known of it."""

    name: str
    state_dir: Path
    config: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        """What it has written so far."""
        return (self.state_dir.parent / f"{self.name}.log").read_text(errors="replace")

    def runner_pid(self) -> int | None:
        """The pid of its runner: the child whose command line says so."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in children.read_text().split():
            line = Path(f"/proc/{pid}/cmdline")
            if line.exists() and b"agent.runner" in line.read_bytes():
                return int(pid)
        return None


@dataclass
class Observer:
    """A dashboard: a second reader of the fleet's topics, which remembers what came."""

    broker_url: str
    reported: dict[str, Reported] = field(default_factory=dict)
    inventory: dict[str, Inventory] = field(default_factory=dict)
    status: dict[str, Status] = field(default_factory=dict)
    telemetry: dict[str, Telemetry] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    raw: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.topics = Topics(FLEET)
        self.link = Link(Broker.parse(self.broker_url), f"observer-{os.getpid()}", self._take)
        self.link.subscribe(f"{self.topics.root}/devices/+/+", f"{self.topics.root}/controllers/#")

    def _take(self, topic: str, payload: bytes, _retained: bool) -> None:  # noqa: FBT001
        self.raw[topic] = payload
        if not payload:
            return
        name = self.topics.parse(topic)
        match name.kind:
            case "reported":
                self.reported[name.name] = Reported.decode(payload)
            case "inventory":
                self.inventory[name.name] = Inventory.decode(payload)
            case "status":
                self.status[name.name] = Status.decode(payload)
            case "telemetry":
                self.telemetry[name.name] = Telemetry.decode(payload)
            case "events":
                self.events.append(Event.decode(payload))

    def cascade(self, device: str, cascade: str) -> ReportedCascade | None:
        """What a device last reported of one cascade."""
        reported = self.reported.get(device)
        if reported is None:
            return None
        return next((c for c in reported.cascades if c.bundle.name == cascade), None)

    def running(self, device: str, cascade: str, version: int) -> bool:
        """Whether a device reports that it runs that version and wants no other."""
        state = self.cascade(device, cascade)
        return (
            state is not None
            and state.phase == "running"
            and state.running is not None
            and state.running.version == version
        )


@dataclass
class Stack:
    """The folder, the broker's address and every process that a test started in it."""

    folder: Path
    agents: dict[str, Agent] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.broker = start_broker(self.folder / "broker")
        self.broker_url = self.broker.url
        self.home = self.folder / "home"
        self.env = {
            **os.environ,
            "SLUICE_HOME": str(self.home),
            "SLUICE_BROKER": self.broker_url,
            "SLUICE_FLEET": FLEET,
            "NO_COLOR": "1",
            "COLUMNS": "160",
        }
        self.observer = Observer(self.broker_url)
        self.observer.link.start()

    def kill_broker(self) -> None:
        """End the broker as a power cut does."""
        self.broker.process.kill()
        self.broker.process.wait()

    def start_broker(self) -> None:
        """Start it again, on the same port and with what it had on disk."""
        self.broker = start_broker(self.folder / "broker", port=self.broker.port)

    def ctl(
        self, *arguments: str, timeout_s: float = 90.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run one `ctl` command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "controller", *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"ctl {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def ctl_json(self, *arguments: str) -> Any:  # noqa: ANN401 - whatever the command prints
        """Run one `ctl` command with `-o json` and return what it printed."""
        return json.loads(self.ctl(*arguments, "-o", "json").stdout)

    def start_ctl(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a `ctl` command that goes on in the background."""
        with (self.folder / f"ctl-{arguments[0]}-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "controller", *arguments],
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def start_agent(self, name: str, extra: str = "") -> Agent:
        """Start an agent on a calm machine: what the tests' own machine does is not the matter.

        `extra` is more TOML for its configuration file.
        """
        state_dir = self.folder / name
        state_dir.mkdir(exist_ok=True)
        calm = Picture(self.folder / f"{name}-root", total_mib=8192)
        config = self.folder / f"{name}.toml"
        config.write_text(
            f'id = "{name}"\nfleet = "{FLEET}"\nstate_dir = "{state_dir}"\n'
            f'trust = "{self.home / "trust.json"}"\n'
            f'[broker]\nurl = "{self.broker_url}"\n'
            f'[inference]\ntcp = "127.0.0.1:0"\n'
            f'[sensors]\nsysroot = "{calm.root}"\n'
            f"[fetch]\njitter_s = 0\n[telemetry]\ninterval_s = 0.5\n{extra}"
        )
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "--config", str(config)],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        self.agents[name] = Agent(name, state_dir, config, process)
        return self.agents[name]

    def endpoint(self, device: str) -> tuple[str, int]:
        """Host and port of a device's inference endpoint on TCP, once it has said so."""

        def look() -> tuple[str, int] | None:
            inventory = self.observer.inventory.get(device)
            for url in inventory.endpoints if inventory else ():
                if url.startswith("http://"):
                    host, _, port = url.removeprefix("http://").rpartition(":")
                    return host, int(port.rstrip("/"))
            return None

        return wait_for(f"endpoint of {device}", look)

    def stop(self) -> None:
        """End every process, the kind way first."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
        self.observer.link.stop()
        self.broker.stop()
