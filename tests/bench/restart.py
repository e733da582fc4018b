"""How soon a client is answered again after its runner was killed with SIGKILL."""

import os
import signal
import statistics
import tempfile
import time
from pathlib import Path

from tests.end_to_end.clients import Load
from tests.end_to_end.digits import build, images
from tests.end_to_end.stack import Stack, wait_for

DEVICES = ("ada", "bob", "cleo")
KILLS = 3
"""On each device: these restarts come at once, later ones in a row are spaced by the back-off."""
BETWEEN_S = 2.0
BOUND_S = 1.0


def main() -> None:
    """Deploy the digits to real agents, keep a client asking each, and kill their runners."""
    with tempfile.TemporaryDirectory() as name:
        stack = Stack(Path(name))
        try:
            stack.ctl("keygen")
            stack.start_ctl("serve")
            for device in DEVICES:
                stack.start_agent(device)
                stack.endpoint(device)
            stack.ctl("deploy", build(stack), "--timeout", "60s")
            measure(stack)
        finally:
            stack.stop()


def measure(stack: Stack) -> None:
    """Kill one device's runner after the other's and print the gaps."""
    samples, _ = images()
    gaps_s, refused, lost = [], 0, 0
    for device in DEVICES:
        with Load(stack.endpoint(device), "digits", samples) as load:
            gaps_s += [kill(stack, device, load) for _ in range(KILLS)]
        refused, lost = refused + load.refused, lost + len(load.broken)
    print(f"kill to next answer   {' '.join(f'{gap:.2f}' for gap in gaps_s)} s")
    print(
        f"median {statistics.median(gaps_s):.2f} s, longest {max(gaps_s):.2f} s (bound {BOUND_S})"
    )
    print(f"connections refused {refused}, requests lost {lost} in {len(gaps_s)} kills")


def kill(stack: Stack, device: str, load: Load) -> float:
    """Kill the runner once; return the seconds until the client's next answer."""
    pid = wait_for("a runner", stack.agents[device].runner_pid)
    killed_s = time.monotonic()
    os.kill(pid, signal.SIGKILL)

    def back_s() -> float | None:
        at_s = load.answers[-1][1].at_s if load.answers else 0.0
        return at_s if at_s > killed_s + 0.005 else None

    wait_for("an answer after the kill", back_s)
    gap_s = next(a.at_s for _, a in load.answers if a.at_s > killed_s + 0.005) - killed_s
    time.sleep(BETWEEN_S)
    return gap_s


if __name__ == "__main__":
    main()
