"""A scripted fleet on a real broker: devices that speak the real wire format and run no model.

`Device` decides, without I/O: documents in, documents out. `Fleet` carries any number of devices
over one MQTT session, so that thousands cost one connection. A device follows its desired document
as an agent does (signature, fleet, name, rising generation, bundle signed by the release role,
artifacts pulled and checked against their digests), unless its script says how it ends.
"""

import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Self

from protocols.bundle import ArtifactRef, Bundle, BundleRef
from protocols.desired import Desired, DesiredCascade, StagePin
from protocols.device import (
    CascadePhase,
    CascadeStats,
    CoreClass,
    Event,
    Inventory,
    Refusal,
    Reported,
    ReportedCascade,
    ReportedStage,
    Rungs,
    Sample,
    StageStats,
    Status,
    Telemetry,
)
from protocols.envelope import BUNDLE, DESIRED, KeySet, verify
from protocols.errors import SluiceError
from protocols.link import Broker, Link
from protocols.message import Message
from protocols.profile import StageProfile
from protocols.pull import Puller, pull_bytes
from protocols.topics import Topics

Ending = Literal["running", "refused", "rejected", "quarantined", "fetching"]
"""Where a device ends with a cascade: `fetching` stays there for ever."""

Publication = tuple[str, bytes, bool]
"""Topic, payload, retained."""

Pull = Callable[[ArtifactRef], bytes]


@dataclass(frozen=True)
class Script:
    """How a device ends with every cascade it is given, and what it says."""

    ending: Ending = "running"
    message: str = ""
    versions: tuple[int, ...] = ()
    """The bundles that end so, the others run; empty: all of them."""
    worse: dict[str, float] = field(default_factory=dict)
    """What telemetry says of these bundles, besides the usual: fields of `CascadeStats`."""

    def ending_of(self, bundle: BundleRef) -> Ending:
        """Return where the device ends with a bundle."""
        return self.ending if self.means(bundle) else "running"

    def means(self, bundle: BundleRef) -> bool:
        """Whether a bundle is one of those."""
        return not self.versions or bundle.version in self.versions


@dataclass
class Device:
    """One device. Every method returns what is to be published."""

    name: str
    topics: Topics
    trust: KeySet | None = None
    labels: dict[str, str] = field(default_factory=dict)
    memory_mib: float = 4096.0
    cpus: int = 4
    has_battery: bool = False
    profiles: tuple[StageProfile, ...] = ()
    script: Script = Script()
    sample: Sample = field(default_factory=lambda: Sample(time_s=0.0))
    rungs: Rungs = field(default_factory=Rungs)
    boot_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    generation: int = 0
    desired: Desired | None = None
    cascades: dict[str, ReportedCascade] = field(default_factory=dict)
    refusal: Refusal | None = None
    _seq: int = 0

    def hello(self) -> list[Publication]:
        """Come online: status, inventory, what is reported."""
        inventory = Inventory(
            device=self.name,
            labels=self.labels,
            agent_version="0.1.0",
            runtime="ai-edge-litert 2.3.0",
            machine="aarch64",
            model="Raspberry Pi 4 Model B",
            kernel="6.6.0",
            pointer_bits=64,
            cores=(CoreClass(cpus=tuple(range(self.cpus)), capacity=1024, max_mhz=1800),),
            memory_mib=self.memory_mib,
            has_battery=self.has_battery,
            endpoints=("http://127.0.0.1:8080",),
            profiles=self.profiles,
        )
        return [
            self._retained("status", self.status(online=True)),
            self._retained("inventory", inventory),
            self.report(),
        ]

    def status(self, *, online: bool) -> Status:
        """Return its status; offline is what its last will says."""
        return Status(device=self.name, online=online, boot_id=self.boot_id, version="0.1.0")

    def goodbye(self) -> list[Publication]:
        """Go as a device goes whose connection breaks: the last will."""
        return [self._retained("status", self.status(online=False))]

    def report(self) -> Publication:
        """Say what is."""
        return self._retained(
            "reported",
            Reported(
                device=self.name,
                boot_id=self.boot_id,
                generation=self.generation,
                cascades=tuple(self.cascades.values()),
                rungs=self.rungs,
                refusal=self.refusal,
            ),
        )

    def telemetry(self) -> Publication:
        """Say how the device is."""
        self._seq += 1
        document = Telemetry(
            device=self.name,
            boot_id=self.boot_id,
            seq=self._seq,
            ts=time.time(),
            uptime_s=float(self._seq),
            sample=self.sample,
            rungs=self.rungs,
            cascades=tuple(
                _stats(c, c.running, self.script.worse if self.script.means(c.running) else {})
                for c in self.cascades.values()
                if c.running
            ),
            supervisor_rss_mib=30.0,
            runner_rss_mib=60.0,
        )
        return self.topics.device(self.name, "telemetry"), document.encode(), False

    def event(self, kind: str, message: str, **more: object) -> Publication:
        """Say that something happened."""
        self._seq += 1
        document = Event.model_validate(
            {
                "device": self.name,
                "boot_id": self.boot_id,
                "seq": self._seq,
                "ts": time.time(),
                "kind": kind,
                "message": message,
                **more,
            }
        )
        return self.topics.device(self.name, "events"), document.encode(), False

    def follow(self, envelope: bytes, pull: Pull | None) -> Iterator[Publication]:
        """Follow a desired document, as far as the script lets it. `pull=None` fetches nothing."""
        try:
            desired = self._accept(envelope)
        except SluiceError as error:
            self.refusal = Refusal(message=str(error))
            yield self.report()
            return
        if desired is None:
            return
        self.generation, self.desired, self.refusal = desired.generation, desired, None
        wanted = {cascade.bundle.name for cascade in desired.cascades}
        self.cascades = {n: c for n, c in self.cascades.items() if n in wanted}
        for cascade in desired.cascades:
            yield from self._go_to(cascade, desired.pins, pull)
        yield self.report()

    def _accept(self, envelope: bytes) -> Desired | None:
        if self.trust is None:
            raise SluiceError("cannot follow: no trusted keys")
        desired = Desired.decode(verify(envelope, DESIRED, self.trust))
        if (desired.fleet, desired.device) != (self.topics.fleet, self.name):
            raise SluiceError(f"cannot follow: meant for {desired.fleet}/{desired.device}")
        if self.desired is not None and desired.generation == self.generation:
            return None
        if desired.generation < self.generation:
            raise SluiceError(
                f"cannot accept generation {desired.generation}: {self.generation} was accepted"
            )
        return desired

    def _go_to(
        self, wanted: DesiredCascade, pins: tuple[StagePin, ...], pull: Pull | None
    ) -> Iterator[Publication]:
        before = self.cascades.get(wanted.bundle.name)
        running = before.running if before else None
        ending = self.script.ending_of(wanted.bundle)
        if running == wanted.bundle and ending == "running":
            self._set(wanted, "running", running, pins)
            return
        self._set(wanted, "fetching", running, pins)
        yield self.report()
        if ending == "fetching":
            return
        try:
            fetched = self._fetch(wanted, pull) if pull else 0
        except SluiceError as error:
            self._set(wanted, "refused", running, pins, str(error))
            return
        if ending != "running":
            self._set(wanted, ending, running, pins, self.script.message)
            yield self.event(ending, self.script.message, cascade=wanted.bundle.name)
            return
        self._set(wanted, "running", wanted.bundle, pins, fetched=fetched)
        yield self.event(
            "applied",
            f"{wanted.bundle.name}@{wanted.bundle.version} runs",
            cascade=wanted.bundle.name,
        )

    def _fetch(self, wanted: DesiredCascade, pull: Pull) -> int:
        """Pull and check the bundle and what it names for the chosen variants."""
        if self.trust is None:
            return 0
        bundle = Bundle.decode(verify(pull(wanted.bundle.artifact), BUNDLE, self.trust))
        refs = [bundle.golden.artifact]
        for stage in bundle.stages:
            if stage.name not in wanted.dropped:
                refs += [
                    v.artifact for v in stage.variants if v.name == wanted.variants[stage.name]
                ]
        return sum(len(pull(ref)) for ref in refs)

    def _set(
        self,
        wanted: DesiredCascade,
        phase: CascadePhase,
        running: BundleRef | None,
        pins: tuple[StagePin, ...],
        message: str = "",
        fetched: int = 0,
    ) -> None:
        mine = {pin.stage: pin for pin in pins if pin.cascade == wanted.bundle.name}
        self.cascades[wanted.bundle.name] = ReportedCascade(
            bundle=wanted.bundle,
            phase=phase,
            running=running,
            stages=tuple(
                _stage(name, variant, mine.get(name), up=phase == "running")
                for name, variant in wanted.variants.items()
                if name not in wanted.dropped
            ),
            fetched_bytes=fetched,
            total_bytes=fetched,
            message=message,
        )

    def _retained(
        self, kind: Literal["status", "inventory", "reported"], document: Message
    ) -> Publication:
        return self.topics.device(self.name, kind), document.encode(), True


def _stage(name: str, variant: str, pin: StagePin | None, *, up: bool) -> ReportedStage:
    loaded = up and (pin is None or pin.loaded is not False)
    threads = (pin.threads if pin and pin.threads else 1) if loaded else None
    return ReportedStage(
        name=name, variant=variant, state="loaded" if loaded else "verified", threads=threads
    )


def _stats(cascade: ReportedCascade, running: BundleRef, worse: dict[str, float]) -> CascadeStats:
    usual = CascadeStats(
        name=running.name,
        version=running.version,
        stages=tuple(
            StageStats(name=s.name, variant=s.variant, loaded=s.state == "loaded")
            for s in cascade.stages
        ),
        answers=100,
        escalated=20,
        p50_ms=1.5,
        p95_ms=4.0,
    )
    return usual.with_(**worse)


class Fleet:
    """Carries devices over one MQTT session. Use it as a context manager.

    Args:
        broker: the real one.
        devices: all of one fleet.
        pulls: whether the devices really fetch what they are given.
        interval_s: between two telemetry messages of each device.
    """

    def __init__(
        self, broker: Broker, *devices: Device, pulls: bool = True, interval_s: float = 0.2
    ) -> None:
        self.devices = {device.name: device for device in devices}
        self._broker = broker
        self._topics = devices[0].topics
        self._pulls = pulls
        self._interval_s = interval_s
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._silent: set[str] = set()
        self._told_version, self._told = 0, set[str]()
        self._link = Link(broker, f"fleet-{uuid.uuid4().hex[:8]}", self._received)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Bring every device online; inside, the broker knows them all."""
        self._link.start()
        *others, last = [p for device in self.devices.values() for p in device.hello()]
        self._publish(others)
        self._link.publish_and_wait(last[0], last[1], retain=last[2])
        self._link.subscribe(self._topics.device("+", "desired"))
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._inbox.put(None)
        self._thread.join(30)
        self._link.stop()

    def do(self, name: str, act: Callable[[Device], list[Publication]]) -> None:
        """Let a device do something, on the fleet's thread, and publish what comes of it."""
        self._inbox.put(lambda: self._publish(act(self.devices[name])))

    def say(self, name: str, kind: str, message: str, **more: object) -> None:
        """Let a device publish an event."""
        self.do(name, lambda device: [device.event(kind, message, **more)])

    def watch_told(self, version: int, told: set[str]) -> None:
        """Put every device into a set that is told to run this version of any cascade."""
        self._told_version, self._told = version, told

    def fall_silent(self, name: str) -> None:
        """Let a device vanish, as its last will tells it: it says and follows nothing more."""
        self._silent.add(name)
        self.do(name, Device.goodbye)

    def _received(self, topic: str, payload: bytes, _retained: bool) -> None:  # noqa: FBT001
        name = self._topics.parse(topic).name
        if payload and name in self.devices and name not in self._silent:
            self._inbox.put(lambda: self._follow(name, payload))

    def _follow(self, name: str, payload: bytes) -> None:
        self._carry(name, payload)
        desired = self.devices[name].desired
        if desired and any(c.bundle.version == self._told_version for c in desired.cascades):
            self._told.add(name)

    def _carry(self, name: str, payload: bytes) -> None:
        if not self._pulls:
            self._publish(list(self.devices[name].follow(payload, None)))
            return
        with Puller(self._broker, self._topics, name) as puller:
            for publication in self.devices[name].follow(
                payload, lambda ref: pull_bytes(puller, ref)
            ):
                self._publish([publication])

    def _publish(self, publications: list[Publication]) -> None:
        for topic, payload, retain in publications:
            self._link.publish(topic, payload, retain=retain)

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            if time.monotonic() >= due:
                due = time.monotonic() + self._interval_s
                self._publish(
                    [d.telemetry() for n, d in self.devices.items() if n not in self._silent]
                )
            try:
                act = self._inbox.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                continue
            if act is None:
                return
            act()
