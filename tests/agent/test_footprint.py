"""What an idle supervisor costs: memory is held by a test, CPU is printed."""

import os
import sys
import time
from pathlib import Path

from tests.agent.rig import one_stage, rigged
from tests.brokers import running_broker

LIMIT_MIB = 40
TICKS = os.sysconf("SC_CLK_TCK")


def pss_mib(pid: int) -> float:
    """Return the proportional set size of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no Pss")


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def test_an_idle_supervisor_stays_small(tmp_path: Path) -> None:
    """Idle means: a cascade deployed and serving, nothing asked, telemetry and sensors going on."""
    with running_broker(tmp_path) as url, rigged(tmp_path, url, "idle") as rig:
        rig.start()
        rig.desire(rig.ship(one_stage(tmp_path / "built")))
        rig.wait_running(1)
        assert rig.process is not None
        pid = rig.process.pid
        begun, used = time.monotonic(), cpu_s(pid)
        first = rig.observer.telemetry[rig.name].seq
        while rig.observer.telemetry[rig.name].seq < first + 10:
            time.sleep(0.1)
        share = (cpu_s(pid) - used) / (time.monotonic() - begun)
        size = pss_mib(pid)
        text = f"PSS {size:.1f} MiB, {100 * share:.1f} % of a core at 10 samples a second"
        sys.stdout.write(f"idle supervisor: {text}\n")
        assert size <= LIMIT_MIB
        modules = Path(f"/proc/{pid}/maps").read_text()
        assert "numpy" not in modules
        assert "litert" not in modules
        assert "cryptography" not in modules
