"""What a sample costs: CPU of the thread that decides, on each recorded machine and on this one.

What takes a program is apart: a process started off that thread, once in so many seconds.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from agent.sensors import Sensors
from agent.sensors.command import Command, find_program
from tests.agent.sensors.machines import (
    PMIC,
    TERMUX,
    Machine,
    big_little,
    jetson,
    phone,
    pi_4,
    pi_5,
    program,
    proot,
    termux,
)

PICTURES: tuple[Callable[[Path], Machine], ...] = (
    pi_4,
    pi_5,
    big_little,
    phone,
    termux,
    proot,
    jetson,
)
SAMPLES = 400
INTERVAL_S = 1.0
BOUND_US = 1000.0
PROGRAMS = 20


def costs_us(sensors: Sensors) -> list[float]:
    """Return what each of so many samples costs, a second of their own clock apart, in order."""
    sensors.sample(0.0)
    costs = []
    for n in range(1, SAMPLES + 1):
        begun_s = time.thread_time()
        sensors.sample(n * INTERVAL_S)
        costs.append(1e6 * (time.thread_time() - begun_s))
    return sorted(costs)


def program_us(environ: dict[str, str]) -> float:
    """Return the CPU of starting and reading one program, its own included."""
    path = find_program("vcgencmd", environ) or ""
    before = os.times()
    for _ in range(PROGRAMS):
        Command(path, limit_s=5.0).output()
    return 1e6 * sum(b - a for a, b in zip(before[:4], os.times()[:4], strict=True)) / PROGRAMS


def main() -> None:
    """Print a row for each machine."""
    print(f"us of CPU on the deciding thread, {SAMPLES} samples (bound: median {BOUND_US:g})")
    print(f"{'machine':12}{'median':>9}{'p95':>9}{'max':>9}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environ = program(folder / "bin", "vcgencmd", f"cat <<'E'\n{PMIC}\nE")
        program(folder / "bin", "termux-battery-status", f"cat <<'E'\n{TERMUX}\nE")
        for make in PICTURES:
            here = environ | ({"TERMUX_VERSION": "0"} if make in (termux, proot) else {})
            machine = make(folder / make.__name__)
            show(make.__name__, Sensors(machine.root, environ=here))
        show("this one", Sensors())
        each_us = program_us(environ)
        print(f"a program (sh, cat): {each_us:.0f} us; once in 10 s: {each_us / 10:.0f} us/s")


def show(name: str, sensors: Sensors) -> None:
    """Measure one machine and print its row."""
    costs = costs_us(sensors)
    sensors.close()
    p95 = costs[int(0.95 * len(costs))]
    print(f"{name:12}{statistics.median(costs):9.0f}{p95:9.0f}{costs[-1]:9.0f}")


if __name__ == "__main__":
    main()
