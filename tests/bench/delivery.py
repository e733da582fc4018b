"""20 MB to 20 devices: over MQTT, from a static server, and by bare Range requests to it.

The fetching part of 20 agents, each in a process of its own, through a real mosquitto and a real
nginx on this machine; the three ways by turns, and the median of the rounds. Then the same by real
agents and a real `ctl deploy`, of which the broker's log tells how often each chunk was sent.

Options: `--devices 20 --rounds 5 --content weights|noise`.
"""

import argparse
import collections
import contextlib
import getpass
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from protocols.bundle import ArtifactRef
from protocols.chunks import chunk_list, cut, list_ref, listed_ref
from protocols.link import Broker, Link
from protocols.packing import payload_of
from protocols.topics import Topics
from tests.bench._fetching import Task, Way
from tests.brokers import free_port, running, running_broker
from tests.end_to_end.digits import SAMPLES
from tests.end_to_end.stack import FLEET, Stack, wait_for
from tests.models import classifier, random_layers

ARTIFACTS, ARTIFACT_BYTES = 4, 5_000_000
MOST = {"mqtt": 2.5, "url": 1.3}
MOST_RISE_KIB = 4 * 64
_PATIENCE_S = 180.0
_GOLDEN = ("--samples", str(SAMPLES), "--x-key", "x_calibration", "--y-key", "y_calibration")


def main(options: list[str]) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench delivery", description=__doc__)
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--content", choices=("weights", "noise"), default="weights")
    asked = parser.parse_args(options)
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        print("cannot measure delivery: no nginx is installed to compare with")
        sys.exit(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contents = _contents(asked.content)
        with running_broker(folder) as broker, _static(nginx, folder / "www", contents) as source:
            sent = _put(broker, contents)
            total = sum(map(len, contents))
            print(f"{asked.devices} devices, {total / 1e6:.1f} MB, as chunks {sent / 1e6:.1f} MB")
            _compare(asked.devices, asked.rounds, folder, broker, source, contents)
        _deploy(asked.devices, folder / "stack")


def _compare(
    devices: int, rounds: int, folder: Path, broker: str, source: str, contents: list[bytes]
) -> None:
    took: dict[Way, list[float]] = collections.defaultdict(list)
    rose: dict[Way, list[float]] = collections.defaultdict(list)
    ways: tuple[Way, ...] = ("bare", "mqtt", "url")
    for number in range(rounds):
        for way in ways[number % 3 :] + ways[: number % 3]:
            place = folder / f"{way}-{number}"
            crowd = [
                _task(way, f"d{n}", place / f"d{n}", broker, source, contents)
                for n in range(devices)
            ]
            took_s, rose_kib = _run(crowd)
            took[way].append(took_s)
            rose[way] += rose_kib
            shutil.rmtree(place)
    base = statistics.median(took["bare"])
    print(f"{'':5} {'median':>8} {'rounds':24} {'ratio':>6} {'at most':>8} {'memory, KiB':>12}")
    for way in ways:
        median = statistics.median(took[way])
        each = " ".join(f"{seconds:.2f}" for seconds in took[way])
        most = f"{MOST[way]:.1f}" if way in MOST else ""
        rise = f"{statistics.median(rose[way]):.0f}"
        print(f"{way:5} {median:6.2f} s {each:24} {median / base:6.2f} {most:>8} {rise:>12}")


def _deploy(devices: int, folder: Path) -> None:
    """Deploy to real agents, and count how often each chunk was sent to the broker."""
    folder.mkdir()
    model = folder / "big.tflite"
    model.write_bytes(classifier(random_layers(64, 2200, 2200, 10), sample_shape=(8, 8, 1)))
    stack = Stack(folder)
    sent: collections.Counter[str] = collections.Counter()
    bytes_sent = 0

    def count(topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001
        nonlocal bytes_sent
        if payload and not retained:
            sent[topic] += 1
            bytes_sent += len(payload)

    link = Link(Broker.parse(stack.broker_url), "bench-count", count)
    try:
        stack.ctl("keygen")
        stack.start_ctl("serve")
        for number in range(devices):
            stack.start_agent(f"d{number}")
        stack.ctl("cascade", "build", "big", "--stage", f"only={model}", *_GOLDEN)
        link.subscribe(f"{Topics(FLEET).root}/artifacts/+/+")
        link.start()
        wait_for("the devices", lambda: len(stack.observer.inventory) == devices, _PATIENCE_S)
        began_s = time.monotonic()
        stack.ctl("deploy", "big", "--timeout", "300s", timeout_s=_PATIENCE_S + 300)
        took_s = time.monotonic() - began_s
    finally:
        link.stop()
        stack.stop()
    print(
        f"a model of {model.stat().st_size / 1e6:.1f} MB by ctl deploy to {devices} whole agents: "
        f"{len(sent)} chunks, {bytes_sent / 1e6:.1f} MB, none of them more than "
        f"{max(sent.values())} time(s) to the broker; answered by all after {took_s:.1f} s"
    )


def _contents(kind: str) -> list[bytes]:
    """Return the artifacts: int8 weights, normally distributed, or noise that nothing packs."""
    random = np.random.default_rng(0)
    if kind == "noise":
        return [random.bytes(ARTIFACT_BYTES) for _ in range(ARTIFACTS)]
    weights = random.normal(0, 25, (ARTIFACTS, ARTIFACT_BYTES)).clip(-127, 127).astype(np.int8)
    return [row.tobytes() for row in weights]


def _warm_up() -> bytes:
    """Return an artifact with chunks of every kind: what unpacks them is imported by it."""
    random = np.random.default_rng(1)
    weights = random.normal(0, 25, 200_000).clip(-127, 127).astype(np.int8)
    floats = random.normal(0, 0.05, 50_000).astype(np.float32)
    shared = random.choice(random.normal(0, 0.05, 16), 50_000).astype(np.float32)
    return random.bytes(200_000) + weights.tobytes() + floats.tobytes() + shared.tobytes()


def _refs(contents: list[bytes]) -> list[ArtifactRef]:
    return [listed_ref(content) for content in contents]


def _task(
    way: Way, device: str, place: Path, broker: str, source: str, contents: list[bytes]
) -> Task:
    place.mkdir(parents=True)
    refs = [ref.model_dump_json() for ref in _refs(contents)]
    warm_up = listed_ref(_warm_up()).model_dump_json()
    return Task(way, device, str(place), broker, source, refs, warm_up)


def _run(tasks: list[Task]) -> tuple[float, list[float]]:
    """Let all fetch at once; return the seconds until the last has all, and each one's rise."""
    crowd = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.bench._fetching"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in tasks
    ]
    try:
        for process, task in zip(crowd, tasks, strict=True):
            _tell(process, task.line())
        for process in crowd:
            if _hear(process) != "ready\n":
                raise SystemExit("a process that should fetch did not come up")
        began_s = time.monotonic()
        for process in crowd:
            _tell(process, "go\n")
        found = [json.loads(_hear(process)) for process in crowd]
        return time.monotonic() - began_s, [one["rose_kib"] for one in found]
    finally:
        for process in crowd:
            process.kill()
            process.wait()


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


def _hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _put(broker: str, contents: list[bytes]) -> int:
    """Publish every chunk and chunk list once; return how many bytes that were."""
    link, topics, sent = (
        Link(Broker.parse(broker), "bench-put", lambda *_: None),
        Topics("bench"),
        0,
    )
    link.start()
    for content in (*contents, _warm_up()):
        ref = listed_ref(content)
        listed = list_ref(ref)
        assert listed is not None
        pairs = [(ref, n, payload_of(ref, chunk)) for n, chunk in enumerate(cut(content))]
        pairs += [(listed, n, chunk) for n, chunk in enumerate(cut(chunk_list(content)))]
        for one, number, payload in pairs:
            link.publish_and_wait(topics.chunk(one.sha256, number), payload, retain=True)
            sent += len(payload)
    link.stop()
    return sent


@contextlib.contextmanager
def _static(nginx: str, folder: Path, contents: list[bytes]) -> Iterator[str]:
    """Serve artifacts and their chunk lists with nginx; yield the source's URL."""
    (folder / "root").mkdir(parents=True)
    for content in (*contents, _warm_up()):
        ref = listed_ref(content)
        (folder / "root" / ref.sha256).write_bytes(content)
        listed = list_ref(ref)
        if listed is not None:
            (folder / "root" / listed.sha256).write_bytes(chunk_list(content))
    port = free_port()
    config = folder / "nginx.conf"
    user = "user root;" if getpass.getuser() == "root" else ""
    config.write_text(
        f"{user} worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {folder};\n"
        f"proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};\n"
        f"scgi_temp_path {folder}; server {{ listen 127.0.0.1:{port}; root {folder}/root; }} }}\n"
    )
    command = [nginx, "-p", str(folder), "-c", str(config), "-g", "daemon off;"]
    with running(command, folder / "nginx.log", port):
        yield f"http://127.0.0.1:{port}/{{sha256}}"
