"""Plays the demo: starts everything, measures, takes things away, gives them back, and tells."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from controller.broker import embedded_broker
from controller.demo.fleet import DemoDevice
from controller.demo.pictures import PICTURES
from controller.demo.script import SCENES, SCHEDULE, Scene
from controller.demo.table import Cost, answers_table, cost_table, failures, unload_table
from controller.demo.traffic import Client
from controller.demo.watch import Watch
from controller.errors import ControllerError

ASSETS = Path(__file__).parent / "assets"
FLEET = "demo"
_READY_S = 20.0
_ASKED_FOR_COST = 200
_EVERY_S = 0.02


def play(console: Console, *, keep: bool) -> int:
    """Run the whole demo; return the exit code: 0, or 1 if an answer failed that should not have.

    Raises:
        ControllerError: a part of the product did not start or did not do its work.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(_folder()))
        broker_url = stack.enter_context(embedded_broker(data_dir=folder / "broker"))
        env = _environment(folder, broker_url)
        console.print(f"broker on {broker_url}, everything else in {folder}\n")
        _build(console, env)
        watch = stack.enter_context(Watch(broker_url, FLEET, console))
        devices = stack.enter_context(_devices(folder, broker_url))
        stack.enter_context(_serve(folder, env))
        watch.wait_for_devices([d.picture.name for d in devices], _READY_S)
        failed = _measure_and_play(console, env, folder, devices, watch)
        if keep:
            _wait_for_person(console, folder, broker_url, watch)
    return 1 if failed else 0


def _measure_and_play(
    console: Console,
    env: dict[str, str],
    folder: Path,
    devices: Sequence[DemoDevice],
    watch: Watch,
) -> list[str]:
    images, labels = _test_images()
    _deploy(console, env, folder, "large-alone")
    alone = _cost(devices, watch, "large-alone", images, labels)
    _ctl(console, env, "undeploy", "large-alone")
    _deploy(console, env, folder, "digits")
    cascade = _cost(devices, watch, "digits", images, labels)
    clients = {
        d.picture.name: _client(d, watch, "digits", images, labels, _EVERY_S) for d in devices
    }
    for client in clients.values():
        client.start()
    for scene in SCENES:
        _play_scene(console, scene, devices, clients, watch)
    for client in clients.values():
        client.stop()
    answers = {name: client.answers for name, client in clients.items()}
    console.print()
    for table in (
        answers_table(answers),
        cost_table(alone, cascade),
        unload_table(watch.events),
    ):
        console.print(table)
    failed = [f for each in answers.values() for f in failures(each)]
    for failure in failed[:10]:
        console.print(f"[red]failed answer: {failure}")
    return failed


def _play_scene(
    console: Console,
    scene: Scene,
    devices: Sequence[DemoDevice],
    clients: dict[str, Client],
    watch: Watch,
) -> None:
    where = f" on {scene.device}" if scene.device else ""
    console.rule(f"{scene.name}{where}", align="left")
    for client in clients.values():
        client.scene = scene.name
    machine = next((d.machine for d in devices if d.picture.name == scene.device), None)
    for moment in scene.moments:
        watch.say(f"[bold]{moment.says}[/]")
        if machine is not None:
            moment.happen(machine)
        time.sleep(moment.lasts_s)


def _cost(
    devices: Sequence[DemoDevice],
    watch: Watch,
    cascade: str,
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> dict[str, Cost]:
    """Ask each device for the same images in turn, and count its runner's CPU time."""
    costs = {}
    for device in devices:
        client = _client(device, watch, cascade, images, labels, 0.0)
        client.ask_each_once("cost", 20)
        before_s = device.runner_cpu_s()
        answers = client.ask_each_once("cost", _ASKED_FOR_COST)
        costs[device.picture.name] = Cost(answers, device.runner_cpu_s() - before_s)
    return costs


def _client(
    device: DemoDevice,
    watch: Watch,
    cascade: str,
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    interval_s: float,
) -> Client:
    url = urlsplit(watch.endpoint(device.picture.name))
    address = (url.hostname or "127.0.0.1", url.port or 0)
    client = Client(address, cascade, images, labels, interval_s)
    client.prepare()
    return client


def _build(console: Console, env: dict[str, str]) -> None:
    _ctl(console, env, "keygen")
    large = f"{ASSETS / 'large-int8.tflite'},{ASSETS / 'large-fp32.tflite'}"
    _ctl(
        console,
        env,
        *("cascade", "build", "digits", "--gate", "max_prob", "--eps", "1%"),
        *("--stage", f"small={ASSETS / 'small-int8.tflite'}", "--stage", f"large={large}"),
        *("--samples", str(ASSETS / "digits.npz")),
        *("--x-key", "x_calibration", "--y-key", "y_calibration"),
    )
    fp32 = ASSETS / "large-fp32.tflite"
    _ctl(
        console,
        env,
        *("cascade", "build", "large-alone", "--stage", f"large={fp32}"),
        *("--samples", str(ASSETS / "digits.npz")),
        *("--x-key", "x_calibration", "--y-key", "y_calibration"),
    )


def _deploy(console: Console, env: dict[str, str], folder: Path, cascade: str) -> None:
    schedule = folder / "schedule.json"
    schedule.write_bytes(SCHEDULE.encode())
    _ctl(console, env, "deploy", cascade, "--schedule", str(schedule), "--timeout", "40s")


def _ctl(console: Console, env: dict[str, str], *arguments: str) -> None:
    """Run a `ctl` command as a person would, and show what it prints.

    Through a pipe, line by line: a live view of its own would fight with the lines of the events.
    """
    shown = " ".join(argument.replace(f"{ASSETS}/", "") for argument in arguments)
    console.print(f"[bold]$ ctl {shown}[/]", highlight=False, soft_wrap=True)
    with subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "controller", *arguments],
        env={**env, "COLUMNS": str(console.width)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as command:
        for line in command.stdout or ():
            console.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)
    if command.returncode != 0:
        raise ControllerError(f"cannot go on: ctl {arguments[0]} ended with {command.returncode}")
    console.print()


@contextmanager
def _devices(folder: Path, broker_url: str) -> Iterator[list[DemoDevice]]:
    devices = [DemoDevice(picture, folder) for picture in PICTURES]
    try:
        for device in devices:
            device.start(broker_url, FLEET, folder / "home" / "trust.json")
        yield devices
    finally:
        for device in devices:
            device.ask_to_stop()
        for device in devices:
            device.stop()


@contextmanager
def _serve(folder: Path, env: dict[str, str]) -> Iterator[None]:
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "controller", "serve"],
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def _folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="sluice-demo-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: Path, broker_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "SLUICE_HOME": str(folder / "home"),
        "SLUICE_BROKER": broker_url,
        "SLUICE_FLEET": FLEET,
    }


def _test_images() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    with np.load(ASSETS / "digits.npz") as data:
        return data["x_test"], data["y_test"]


def _wait_for_person(console: Console, folder: Path, broker_url: str, watch: Watch) -> None:
    console.print(
        "\nStill running; Ctrl-C ends it. In another terminal:\n\n"
        f"  export SLUICE_HOME={folder / 'home'} SLUICE_BROKER={broker_url} SLUICE_FLEET={FLEET}\n"
        "  ctl device ls; ctl top; ctl events -f\n",
        highlight=False,
        soft_wrap=True,
    )
    for name in (p.name for p in PICTURES):
        console.print(f"  curl {watch.endpoint(name)}/v2/models/digits", highlight=False)
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        console.print("\nending")
