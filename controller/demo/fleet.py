"""The demo's fleet: real agent processes on scripted machines."""

import subprocess
import sys
from pathlib import Path

import psutil

from controller.demo.machine import RUNNER, ScriptedMachine
from controller.demo.pictures import Picture


class DemoDevice:
    """One scripted machine and the agent process that lives on it."""

    def __init__(self, picture: Picture, folder: Path) -> None:
        self.picture = picture
        self.log = folder / f"{picture.name}.log"
        self._config = folder / f"{picture.name}.toml"
        self._state = folder / picture.name
        self.machine = ScriptedMachine(picture, folder / f"{picture.name}-root")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, broker_url: str, fleet: str, trust: Path) -> None:
        """Start the machine's counters and the agent, as a board would boot."""
        self.machine.start()
        self._state.mkdir()
        self._config.write_text(
            f'id = "{self.picture.name}"\nfleet = "{fleet}"\n'
            f'state_dir = "{self._state}"\ntrust = "{trust}"\n'
            f'[labels]\nkind = "{self.picture.kind}"\n'
            f'[broker]\nurl = "{broker_url}"\n'
            '[inference]\ntcp = "127.0.0.1:0"\n'
            f'[sensors]\nsysroot = "{self.machine.root}"\ninterval_s = 0.25\n'
            "[telemetry]\ninterval_s = 1.0\n"
            "[fetch]\njitter_s = 0\n"
        )
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own agent
                [sys.executable, "-m", "agent", "run", "--config", str(self._config)],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.machine.host(self._process.pid)

    def runner_cpu_s(self) -> float:
        """CPU seconds of the runner process that answers now."""
        if self._process is None:
            return 0.0
        for child in psutil.Process(self._process.pid).children():
            if RUNNER in child.cmdline():
                times = child.cpu_times()
                return float(times.user + times.system)
        return 0.0

    def ask_to_stop(self) -> None:
        """Send the agent the signal that a service manager sends."""
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        """Wait for the agent's end, then freeze the machine."""
        if self._process is not None:
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self.machine.stop()
