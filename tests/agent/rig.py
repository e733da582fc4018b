"""A real agent process on a real broker, and the controller's side of the wire in a test's hand."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from protocols.bundle import ArtifactRef, Bundle, BundleRef
from protocols.chunks import artifact_ref, cut, with_lists
from protocols.desired import Desired, DesiredCascade, StagePin
from protocols.device import Event, ReportedCascade, Status
from protocols.envelope import (
    BUNDLE,
    DESIRED,
    KeySet,
    generate_key,
    public_key,
    sign,
)
from protocols.errors import MessageError
from protocols.link import Broker, Link
from protocols.packing import payload_of
from protocols.schedule import Schedule
from tests.agent.picture import Picture
from tests.agent.runner.cascades import Built, Piece, build
from tests.agent.runner.samples import samples
from tests.end_to_end.stack import FLEET, Observer, wait_for
from tests.models import classifier, random_layers

CALM = Schedule(thresholds={})
"""No signal asks for anything: what a test's machine does besides is not the matter here."""

FEATURES = 16
CLASSES = 4


def small_model(seed: int) -> bytes:
    """Return a classifier of 16 features and 4 classes."""
    return classifier(random_layers(FEATURES, 8, CLASSES, seed=seed))


def large_model(seed: int) -> bytes:
    """Return one of some megabytes."""
    return classifier(random_layers(FEATURES, 1024, 1024, CLASSES, seed=seed))


def one_stage(folder: Path, *, version: int = 1, name: str = "digits", seed: int = 0) -> Built:
    """Return a bundle of one small model; each version answers otherwise."""
    folder.mkdir(exist_ok=True)
    model = small_model(seed or version)
    return build(folder, [Piece("only", model)], samples(8, FEATURES), name=name, version=version)


def two_stages(folder: Path, *, version: int = 1, name: str = "digits") -> Built:
    """Return an early-exit cascade whose first stage is never sure enough."""
    folder.mkdir(exist_ok=True)
    small = Piece("small", small_model(version), metric="max_prob", threshold=1.5)
    large = Piece("large", large_model(version + 100))
    return build(folder, [small, large], samples(8, FEATURES), name=name, version=version)


@dataclass
class Watcher(Observer):
    """An observer that looks away when a test publishes nonsense, and remembers every status."""

    statuses: list[Status] = field(default_factory=list)

    def _take(self, topic: str, payload: bytes, _retained: bool) -> None:  # noqa: FBT001
        with contextlib.suppress(MessageError):
            super()._take(topic, payload, _retained)
            if topic.endswith("/status"):
                self.statuses.append(Status.decode(payload))


@dataclass
class Rig:
    """A fleet of one device. Every desired document is one generation above the one before."""

    folder: Path
    broker_url: str
    name: str = "pi"
    generation: int = 0
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    last_desired: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        self.release, self.controller = generate_key(), generate_key()
        keys = (public_key(self.release, "release"), public_key(self.controller, "controller"))
        self.trust = self.folder / "trust.json"
        self.trust.write_bytes(KeySet(fleet=FLEET, keys=keys).encode())
        self.state_dir = self.folder / "state"
        self.observer = Watcher(self.broker_url)
        self.observer.link.start()
        self.topics = self.observer.topics
        self.link = Link(
            Broker.parse(self.broker_url), f"rig-{os.urandom(4).hex()}", lambda *_: None
        )
        self.link.start()

    # --- the controller's side

    def put(
        self, content: bytes, ref: ArtifactRef | None = None, *, instead: bytes | None = None
    ) -> ArtifactRef:
        """Publish an artifact's chunks, packed if `ref` has a chunk list.

        `instead` is sent under its name.
        """
        ref = ref or artifact_ref(content)
        for number, chunk in enumerate(cut(instead or content)):
            payload = payload_of(ref, chunk)
            self.link.publish(self.topics.chunk(ref.sha256, number), payload, retain=True)
        return ref

    def ship(
        self, built: Built, *, bundle: Bundle | None = None, corrupt: bool = False
    ) -> DesiredCascade:
        """Publish a bundle with all that it names; `corrupt` flips a byte in its last model."""
        bundle = bundle or built.bundle
        for ref in with_lists(bundle.artifacts):
            content = (built.folder / ref.sha256).read_bytes()
            wrong = None
            if corrupt and ref == bundle.stages[-1].variants[-1].artifact:
                wrong = content[:-1] + bytes([content[-1] ^ 1])
            self.put(content, ref, instead=wrong)
        envelope = self.put(sign(bundle, BUNDLE, [self.release]).encode())
        return DesiredCascade(
            bundle=BundleRef(name=bundle.name, version=bundle.version, artifact=envelope),
            variants={stage.name: stage.variants[0].name for stage in bundle.stages},
        )

    def desire(
        self,
        *cascades: DesiredCascade,
        schedule: Schedule = CALM,
        pins: tuple[StagePin, ...] = (),
        device: str | None = None,
        generation: int | None = None,
        key: bytes | None = None,
    ) -> Desired:
        """Publish a desired document."""
        if generation is None:
            self.generation += 1
        desired = Desired(
            fleet=FLEET,
            device=device or self.name,
            generation=self.generation if generation is None else generation,
            cascades=cascades,
            schedule=schedule,
            pins=pins,
        )
        self.last_desired = sign(desired, DESIRED, [key or self.controller]).encode()
        self.link.publish_and_wait(self.desired_topic, self.last_desired, retain=True)
        return desired

    @property
    def desired_topic(self) -> str:
        return self.topics.device(self.name, "desired")

    # --- the device

    def start(
        self,
        picture: Picture | None = None,
        extra: str = "",
        interval_s: float = 0.1,
        telemetry_s: float = 0.2,
        module: str = "agent",
    ) -> None:
        """Start the agent, or another module that becomes one.

        It looks at the sensors, and speaks, once an interval.
        """
        self.state_dir.mkdir(exist_ok=True)
        config = self.folder / "agent.toml"
        sysroot = f'\nsysroot = "{picture.root}"' if picture else ""
        fetch = "" if "[fetch]" in extra else "[fetch]\njitter_s = 0\n"
        config.write_text(
            f'id = "{self.name}"\nfleet = "{FLEET}"\nstate_dir = "{self.state_dir}"\n'
            f'trust = "{self.trust}"\n[broker]\nurl = "{self.broker_url}"\n'
            f'[inference]\ntcp = "127.0.0.1:0"\n[telemetry]\ninterval_s = {telemetry_s}\n'
            f"{fetch}[sensors]\ninterval_s = {interval_s}{sysroot}\n{extra}"
        )
        self.starts += 1
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "run", "--config", str(config)],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the agent; return its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        code = self.process.wait(20)
        self.process = None
        return code

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text(errors="replace")

    def runner_pids(self) -> list[int]:
        """The pids of the runners that are alive."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        pids = []
        for pid in children.read_text().split():
            with contextlib.suppress(OSError):
                if b"agent.runner" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    pids.append(int(pid))
        return pids

    def address(self) -> tuple[str, int]:
        """Where it answers, as it told in the log of this start."""

        def look() -> tuple[str, int] | None:
            told = [line for line in self.log.splitlines() if "answers at http://" in line]
            if len(told) < self.starts:
                return None
            host, _, port = told[-1].split("http://")[1].split("/")[0].rpartition(":")
            return host, int(port)

        return wait_for("the endpoint", look)

    # --- what it says

    def cascade(self, name: str = "digits") -> ReportedCascade | None:
        return self.observer.cascade(self.name, name)

    def wait_running(self, version: int = 1, name: str = "digits") -> None:
        """Wait until a version runs and the current generation is reported."""

        def look() -> bool:
            reported = self.observer.reported.get(self.name)
            return (
                reported is not None
                and reported.generation == self.generation
                and self.observer.running(self.name, name, version)
            )

        wait_for(f"{name} {version} running", look)

    def wait_phase(self, phase: str, name: str = "digits") -> ReportedCascade:
        """Wait until a cascade of the current generation is in a phase."""

        def look() -> ReportedCascade | None:
            reported = self.observer.reported.get(self.name)
            cascade = self.cascade(name)
            current = reported is not None and reported.generation == self.generation
            return cascade if current and cascade and cascade.phase == phase else None

        return wait_for(f"{name} {phase}", look)

    def wait_event(self, kind: str, *words: str) -> Event:
        """Wait for an event that says some words."""

        def look() -> Event | None:
            for event in list(self.observer.events):
                if event.kind == kind and all(word in event.message for word in words):
                    return event
            return None

        return wait_for(f"event {kind} {words}", look)

    def wait_online(self) -> Status:
        def look() -> Status | None:
            status = self.observer.status.get(self.name)
            return status if status and status.online else None

        return wait_for("online", look)

    def close(self) -> None:
        """End everything."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
        self.link.stop()
        self.observer.link.stop()


def expected_top1(built: Built, stage: str) -> list[int]:
    """Return the class that the bare interpreter gives for every sample."""
    return [int(np.argmax(built.chances(stage, n))) for n in range(len(built.x))]


@contextlib.contextmanager
def rigged(folder: Path, broker_url: str, name: str) -> Iterator[Rig]:
    """Make a rig whose device has a name of its own on a shared broker; end it afterwards."""
    rig = Rig(folder, broker_url, name)
    try:
        yield rig
    finally:
        rig.close()
