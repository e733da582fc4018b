"""What an idle agent costs: PSS of the supervisor, and CPU at one sample a second."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from controller.broker import embedded_broker
from protocols.envelope import KeySet, generate_key, public_key

SETTLE_S = 5.0
MEASURE_S = 30.0
PSS_BOUND_MIB = 40.0
CPU_BOUND_PERCENT = 1.0


def pss_mib(pid: int) -> float:
    """Return the proportional set size of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"cannot read the PSS of process {pid}")


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Start an agent with nothing deployed, let it settle, and measure it."""
    with (
        tempfile.TemporaryDirectory() as name,
        embedded_broker(data_dir=Path(name) / "broker") as url,
    ):
        folder = Path(name)
        keys = tuple(public_key(generate_key(), role) for role in ("release", "controller"))
        (folder / "trust.json").write_bytes(KeySet(fleet="bench", keys=keys).encode())
        agent = subprocess.Popen(
            [
                *(sys.executable, "-m", "agent", "run", "--broker", url, "--id", "idle"),
                *("--fleet", "bench", "--trust", str(folder / "trust.json")),
                *("--state", str(folder / "state"), "--listen", "127.0.0.1:0"),
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(SETTLE_S)
            before_s = cpu_s(agent.pid)
            time.sleep(MEASURE_S)
            percent = 100 * (cpu_s(agent.pid) - before_s) / MEASURE_S
            print(f"supervisor PSS  {pss_mib(agent.pid):6.1f} MiB   (bound {PSS_BOUND_MIB:g})")
            print(f"supervisor CPU  {percent:6.2f} % of one core (bound {CPU_BOUND_PERCENT:g})")
        finally:
            agent.terminate()
            agent.wait(20)


if __name__ == "__main__":
    main()
