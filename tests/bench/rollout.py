"""Rollouts over 200 simulated agents on a real broker: bad bundles stop with the canaries.

Every agent speaks the real messages, checks each document's signature, fetches the bundle's chunks
and hashes them; none runs a model. One in ten does badly with version 2: it rejects it, is slower
with it, or answers with errors. `ctl deploy` carries the rollout out itself.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.home import Home
from controller.signing import generate_keys
from tests.brokers import running_broker
from tests.controller.cli.conftest import Bench
from tests.fleet import Device, Fleet, Script

AGENTS = 200
CANARIES = 20
BAD_EVERY = 10
TELEMETRY_S = 2.0
OPTIONS = ("--canary", "ring=canary", "--waves", "25%,100%", "--soak", "5s")

SCRIPTS = {
    "good": Script(),
    "rejected by 10 %": Script(
        "rejected", "cannot accept digits@2: 3 of 4 golden samples are answered wrongly", (2,)
    ),
    "slower on 10 %": Script(versions=(2,), worse={"p95_ms": 14.0}),
    "failing on 10 %": Script(versions=(2,), worse={"failed": 30}),
}


@dataclass(frozen=True)
class Ending:
    """How a rollout ended.

    Attributes:
        code: the exit code of `ctl deploy`.
        seconds: that it took.
        reached: devices that were ever told to run version 2.
        running: devices that run version 2 in the end.
        gates: that failed, by device.
        errors: what `ctl` printed on stderr.
        cpu_s: CPU time of `ctl`.
    """

    code: int
    seconds: float
    reached: set[str]
    running: set[str]
    gates: dict[str, str]
    errors: str
    cpu_s: float


def agents(bench: Bench, count: int, canaries: int, script: Script) -> list[Device]:
    """Return agents of which every tenth follows a script; canaries are the first ones."""
    return [
        bench.device(
            f"pi-{number:03}",
            script if number % BAD_EVERY == 3 else Script(),
            labels={"ring": "canary" if number < canaries else "main"},
        )
        for number in range(count)
    ]


def roll_out(
    bench: Bench, devices: list[Device], options: tuple[str, ...] = OPTIONS, *, pulls: bool = True
) -> Ending:
    """Deploy version 1 everywhere, then version 2 in waves; return how that ended."""
    with Fleet(
        bench.home.broker, *devices, pulls=pulls, interval_s=TELEMETRY_S if pulls else 0.3
    ) as fleet:
        run(bench, "deploy", "digits@1")
        reached: set[str] = set()
        fleet.watch_told(2, reached)
        began_s, began_cpu_s = time.monotonic(), _children_cpu_s()
        done = run(bench, "deploy", "digits@2", *options, "-o", "json", "--timeout", "5m")
        seconds, cpu_s = time.monotonic() - began_s, _children_cpu_s() - began_cpu_s
        document: dict[str, Any] = json.loads(done.stdout)
        running = {
            device.name
            for device in fleet.devices.values()
            if any(c.running and c.running.version == 2 for c in device.cascades.values())
        }
    gates = {f["device"]: f["gate"] for f in document["findings"]}
    return Ending(done.returncode, seconds, reached, running, gates, done.stderr, cpu_s)


def run(bench: Bench, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one `ctl` command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "controller", *bench.globals, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
        timeout=600,
    )


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print how each rollout ends."""
    print(f"{AGENTS} agents, {CANARIES} canaries, ctl deploy digits@2 {' '.join(OPTIONS)}")
    for name, script in SCRIPTS.items():
        with tempfile.TemporaryDirectory() as folder, running_broker(Path(folder)) as url:
            home = Home.open(Path(folder) / "home", broker=url, fleet="many", environ={})
            generate_keys(home)
            bench = Bench(home, url)
            bench.shelve(1)
            bench.shelve(2)
            found = roll_out(bench, agents(bench, AGENTS, CANARIES, script))
        back = len(found.reached - found.running)
        said = ", ".join(f"{device}: {gate}" for device, gate in found.gates.items())
        print(
            f"{name:18} exit code {found.code}, {found.seconds:5.1f} s, reached "
            f"{len(found.reached):3}, run it {len(found.running):3}, went back {back:3}; "
            f"ctl {found.cpu_s:.1f} s CPU; gates: {said or 'none'}"
        )
        for line in found.errors.splitlines()[-4:]:
            print(f"  | {line}")
