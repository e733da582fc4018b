"""How soon a model's bytes are back after the sample that crossed memory's hard line.

Two parts, each with a real agent, a real broker and a crowd of clients whose requests wait for the
big stage:

* scripted: the memory that the agent reads is a file, and falls below the line again and again;
* real, where a memory control group may be made: a process beside the agent, in the same group,
  allocates until the line is crossed and goes on, by more than was left. Some times with the
  default lines, and once without any, which shows that the kernel would have killed.

The times are the agent's own record: from the `rung` event, which it makes when the governor has
judged the sample, to the `unloaded` event, which it makes when the runner says how many bytes have
come back. Reading the sensors, which it does twice before an unload, comes before and is printed.
"""

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from agent.sensors import Sensors
from protocols.device import Event
from protocols.schedule import DEFAULT_THRESHOLDS, Dwell, Schedule
from tests import models
from tests.agent.picture import Picture
from tests.agent.rig import Rig, rigged
from tests.agent.runner.cascades import Built, Piece, build
from tests.agent.runner.samples import samples
from tests.bench._crowd import Crowd
from tests.bench._group import Group, GroupError
from tests.brokers import running_broker
from tests.end_to_end.stack import wait_for

ROUNDS = 20
REAL_ROUNDS = 3
CLIENTS = 48
BOUND_MS = 100.0
LIMIT_MIB = 512
SLOW_BELOW_PERCENT = 14.0
SLOW_MIB = 95.0
"""From 14 % (72 MiB) on: more than there is, less than with the 51 MiB of anonymous memory that the
interpreter returns. The rest of what comes back is the model's file, which the kernel drops in any
case."""
SLOW_MIB_PER_S = 25.0

MEMORY = {"memory_available_percent": DEFAULT_THRESHOLDS["memory_available_percent"]}
HASTY = Schedule(
    thresholds=MEMORY, dwell=Dwell(hold_s=0.3, recover_s=0.2, up_moves_per_hour=100_000)
)
DEFAULT = Schedule(thresholds=MEMORY)
BLIND = Schedule(thresholds={})

X = samples(24, 64)
SMALL = models.classifier(models.random_layers(64, 10, seed=1))
BIG = models.classifier(models.random_layers(64, 2560, 2560, 2560, 10, seed=2))

HOG = """
import pathlib, sys, time
limit, usage, stat, key, line_percent, slow_percent, slow_bytes, bytes_per_s = sys.argv[1:]
held, step, slow, crossed = [], 4 << 20, 0, False

def available_percent():
    words = dict(row.split() for row in pathlib.Path(stat).read_text().splitlines())
    used = int(pathlib.Path(usage).read_text()) - int(words[key])
    return 100 * (float(limit) - used) / float(limit)

while slow < float(slow_bytes):
    held.append(b"x" * step)
    left = available_percent()
    if left < float(line_percent) and not crossed:
        print(time.time(), flush=True)
        crossed = True
    if slow or left < float(slow_percent):
        slow += step
        time.sleep(step / float(bytes_per_s))
time.sleep(1)
"""


def main() -> None:
    """Print both parts."""
    print(f"a {len(BIG) / 1e6:.0f} MB stage, {CLIENTS} clients that wait for it")
    with tempfile.TemporaryDirectory() as name, running_broker(Path(name)) as url:
        folder = Path(name)
        built = _cascade(folder / "built")
        with rigged(folder, url, "scripted") as rig:
            _scripted(rig, built, Picture(folder / "machine", total_mib=1024))
        for number, schedule in enumerate((*[DEFAULT] * REAL_ROUNDS, BLIND)):
            (folder / f"real-{number}").mkdir()
            try:
                with (
                    Group.made(f"sluice-hog-{number}", LIMIT_MIB) as group,
                    rigged(folder / f"real-{number}", url, f"real-{number}") as rig,
                ):
                    _real(rig, built, group, schedule)
            except GroupError as error:
                print(f"real hog: skipped, {error}")
                return


def _cascade(folder: Path) -> Built:
    """Return an early-exit cascade of which every sample wants the big stage."""
    folder.mkdir()
    return build(folder, [Piece("small", SMALL, "max_prob", 1.5), Piece("big", BIG)], X)


def _scripted(rig: Rig, built: Built, machine: Picture) -> None:
    rig.start(machine)
    rig.desire(rig.ship(built), schedule=HASTY)
    rig.wait_running(1)
    with Crowd(rig.address(), built, CLIENTS) as crowd:
        rounds = [_round(rig, machine, crowd, number) for number in range(ROUNDS)]
    took_ms, returned_mib, inside = zip(*rounds, strict=True)
    print(f"scripted limit, {ROUNDS} rounds, {statistics.median(inside):.0f} requests inside")
    print(
        f"  sample to bytes back   median {statistics.median(took_ms):.1f} ms, "
        f"longest {max(took_ms):.1f} ms (bound {BOUND_MS:g}), "
        f"and {_two_readings_ms(machine):.1f} ms for reading the sensors twice"
    )
    print(f"  came back              {statistics.median(returned_mib):.1f} MiB")
    print(f"  {crowd.counts()}")


def _round(rig: Rig, machine: Picture, crowd: Crowd, number: int) -> tuple[float, float, int]:
    """Cross the line once, recover; return milliseconds, MiB and how many requests were inside."""
    seen = len(rig.observer.events)
    crowd.wait_for_whole(3 * CLIENTS)
    inside = crowd.under_way
    machine.memory(30 + number)  # another figure each time: what repeats itself is not told again
    gone = wait_for("the big stage to leave", lambda: _find(rig, seen, "unloaded", "big"))
    crossed = wait_for("the rung", lambda: _rung(rig, seen, "-> R4"))
    machine.memory(900)
    wait_for("R0 again", lambda: _rung(rig, seen, "-> R0"))
    return (gone.ts - crossed.ts) * 1e3, (gone.returned_bytes or 0) / 2**20, inside


def _real(rig: Rig, built: Built, group: Group, schedule: Schedule) -> None:
    rig.start(interval_s=1.0)
    assert rig.process is not None
    group.take(rig.process.pid)
    rig.desire(rig.ship(built), schedule=schedule)
    rig.wait_running(1)
    with Crowd(rig.address(), built, CLIENTS) as crowd:
        crowd.wait_for_whole(3 * CLIENTS)
        with _hog(group) as hog:
            line = (hog.stdout.readline() if hog.stdout else b"").strip()
            hog.wait()
    what = "default lines" if schedule.thresholds else "no lines"
    print(f"real hog in a group of {LIMIT_MIB} MiB, {what}")
    gone, crossed = _find(rig, 0, "unloaded", "big"), _rung(rig, 0, "-> R4")
    if gone and crossed:
        print(
            f"  sample to bytes back {(gone.ts - crossed.ts) * 1e3:.1f} ms, "
            f"{(gone.returned_bytes or 0) / 2**20:.1f} MiB ({_told(crossed.ts, line)})"
        )
    end = "was killed" if hog.returncode else "ended by itself"
    print(f"  OOM killer acted {group.oom_kills()} times; the hog {end}")
    print(f"  {crowd.counts()}")


def _told(sample_ts: float, line: bytes) -> str:
    """Say how the sample lies to the moment at which the hog itself saw the line crossed."""
    if not line:
        return "sampled before the hog saw the line crossed"
    return f"sampled {(sample_ts - float(line)) * 1e3:.0f} ms after the line was crossed"


@contextlib.contextmanager
def _hog(group: Group) -> Iterator["subprocess.Popen[bytes]"]:
    hard = MEMORY["memory_available_percent"].hard
    slow = (SLOW_BELOW_PERCENT, SLOW_MIB * 2**20, SLOW_MIB_PER_S * 2**20)
    words = (group.limit_bytes, *group.files, hard, *slow)
    process = subprocess.Popen(
        [sys.executable, "-c", HOG, *map(str, words)], stdout=subprocess.PIPE
    )
    group.take(process.pid)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def _rung(rig: Rig, seen: int, move: str) -> Event | None:
    events = list(rig.observer.events)[seen:]
    return next((e for e in events if e.kind == "rung" and move in e.message), None)


def _find(rig: Rig, seen: int, kind: str, stage: str) -> Event | None:
    events = list(rig.observer.events)[seen:]
    return next((e for e in events if (e.kind, e.stage) == (kind, stage)), None)


def _two_readings_ms(machine: Picture) -> float:
    sensors, took_ms = Sensors(machine.root), []
    for number in range(50):
        began = time.perf_counter()
        sensors.sample(number)
        sensors.sample(number)
        took_ms.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took_ms)


if __name__ == "__main__":
    main()
