"""An agent that is killed 50 times while it fetches and applies, and a broker 10 times.

Options: `--agent 50 --broker 10 --seed 0`. The broker must be mosquitto: its log says which chunks
were sent more than once.
"""

import argparse
import collections
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.agent.rig import rigged
from tests.brokers import running_broker
from tests.end_to_end.digits import LARGE_FP32, build
from tests.end_to_end.kills import LOG_EVERY_CHUNK, Kill, Killer, faults
from tests.end_to_end.stack import Stack, wait_for

_LOG_CHARACTERS = 4000
_LONGEST_S = 2.0
"""By then a deployment to a device of this machine has come to its end."""


def main(options: list[str]) -> None:
    """Kill, and print what it led to."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench kills", description=__doc__)
    parser.add_argument("--agent", type=int, default=50)
    parser.add_argument("--broker", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(options)
    wrong = kill_agents(asked.agent, asked.seed) if asked.agent else 0
    wrong += kill_brokers(asked.broker, asked.seed) if asked.broker else 0
    print(f"\n{'all as it must be' if not wrong else f'{wrong} faults'}")
    if wrong:
        sys.exit(1)


def kill_agents(count: int, seed: int) -> int:
    """Kill an agent, in the fetch and anywhere by turns; return how many faults that led to."""
    with (
        tempfile.TemporaryDirectory() as name,
        running_broker(Path(name), more=LOG_EVERY_CHUNK) as url,
        rigged(Path(name), url, "pi") as rig,
    ):
        (log,) = Path(name).glob("mosquitto-*.log")
        rig.start()
        killer = Killer(rig, Path(name), log, seed)
        killer.settle()
        within_s = 1.2 * statistics.median(killer.settle() for _ in range(3))
        print(
            f"agent: {count} kills, in the fetch and within {within_s:.2f} s by turns", flush=True
        )
        kills, wrong = [], 0
        for number in range(count):
            try:
                kills.append(killer.kill(within_s if number % 2 else None))
            except AssertionError:
                print(rig.log[-_LOG_CHARACTERS:])
                raise
            for fault in faults(kills[-1], killer.version):
                print(f"  kill {number + 1} ({kills[-1].where}): {fault}", flush=True)
                wrong += 1
        _summarize(kills, killer.version)
    return wrong


def _summarize(kills: list[Kill], version: int) -> None:
    for where, times in sorted(collections.Counter(kill.where for kill in kills).items()):
        mine = [kill for kill in kills if kill.where == where]
        again = [kill.again for kill in mine]
        back_s = statistics.median(kill.back_s for kill in mine)
        print(
            f"  {times:3} {where:17} chunks sent again: at most {max(again)}, "
            f"median {statistics.median(again):g}; it ran {back_s:.2f} s later (median)"
        )
    first = version - len(kills) + 1
    older = sum(kill.answered == first + at - 1 for at, kill in enumerate(kills))
    print(f"  {older} restarts found the new version not ready, and the earlier one answered")


def kill_brokers(count: int, seed: int) -> int:
    """Kill the broker while a device fetches; return how often the bundle did not come to run."""
    moments, times_s = random.Random(seed), []  # noqa: S311 - no secret
    with tempfile.TemporaryDirectory() as name:
        stack = Stack(Path(name))
        try:
            stack.ctl("keygen")
            stack.start_ctl("serve")
            stack.start_agent("pi")
            stack.ctl("deploy", build(stack, LARGE_FP32), "--timeout", "60s")
            print(f"broker: {count} kills within {_LONGEST_S:g} s of a deployment", flush=True)
            for number in range(count):
                bundle = build(stack, _another_large(Path(name), number))
                deploy = stack.start_ctl("deploy", bundle, "--timeout", "90s")
                time.sleep(moments.uniform(0.3, _LONGEST_S))
                stack.kill_broker()
                stack.start_broker()
                took_s = _ran_s(stack, bundle, deploy)
                if took_s is None:
                    print(f"  kill {number + 1}: {bundle} does not run", flush=True)
                else:
                    times_s.append(took_s)
        finally:
            stack.stop()
    print(f"  the bundle ran {statistics.median(times_s):.1f} s after the broker was back (median)")
    return count - len(times_s)


def _another_large(folder: Path, number: int) -> Path:
    """Return the demo's large model in other bytes: what follows a model's tables is not read."""
    path = folder / f"large-{number}.tflite"
    path.write_bytes(LARGE_FP32.read_bytes() + random.Random(number).randbytes(4 << 20))  # noqa: S311
    return path


def _ran_s(stack: Stack, bundle: str, deploy: subprocess.Popen[bytes]) -> float | None:
    """Return after how many seconds a bundle ran.

    A person whose broker was killed before the deployment was there deploys once more.
    """
    began_s = time.monotonic()
    version = int(bundle.rpartition("@")[2])
    if deploy.wait(100) != 0:
        stack.ctl("deploy", bundle, "--timeout", "60s", check=False)
    try:
        wait_for(f"{bundle} running", lambda: stack.observer.running("pi", "digits", version), 60)
    except AssertionError:
        return None
    return time.monotonic() - began_s
