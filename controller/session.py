"""One controller's session with a fleet: the link, the fold, and the plan loop where we may act.

paho's thread only puts messages into an inbox. One thread takes them out, folds them, loads the
bundles that deployments name, and plans. Whoever else wants to know takes a snapshot, or waits for
something to become true.

Every connect starts from nothing: the documents that the broker retains are the database, so what
it no longer has is gone. Planning stands still until all of them have come.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self, TypeVar

from controller.audit import read_trail, surplus
from controller.clearing import unneeded_artifacts
from controller.deployments import named_artifacts
from controller.election import electorate
from controller.errors import HomeError
from controller.execute import Executor, Published
from controller.fleet import Change, Fleet
from controller.home import Home
from controller.planner import PlannerPolicy, is_due, is_expiring, plan
from controller.presence import Mode, Presence, controller_name, last_will
from controller.repair import stalled_bundles
from controller.retained import read_retained
from controller.rollouts.rollout import rollout_steps, under_way
from controller.rollouts.waves import touched
from controller.shelf import Job, Shelf
from controller.shipping import OnBytes
from controller.steps import CannotFit, NotPlanned, PutArtifact, Step
from controller.sync import QUIET_S, Sync, filters, marker_topic
from controller.trust import chain, keep_keys
from protocols.bundle import Bundle, BundleRef
from protocols.device import Event
from protocols.envelope import KeySet
from protocols.errors import LinkError, SluiceError, TrustError
from protocols.link import Link
from protocols.trust import verify_rotation

log = logging.getLogger("sluice.session")

CONNECT_TIMEOUT_S = 10.0
PLAN_EVERY_S = 0.2
ROLL_EVERY_S = 0.5
ROLL_SHARE = 0.1
"""Of the thread's time, what rollouts may take: in a large fleet they are looked at less often."""
LOOK_EVERY_S = 5.0
REPAIR_EVERY_S = 60.0
TRIM_EVERY_S = 600.0
EVENTS_KEPT = 2000
_BATCH = 1000

__all__ = ["DEFAULT_POLICY", "Mode", "Session"]

DEFAULT_POLICY = PlannerPolicy()

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class _Connected:
    marker: str


@dataclass(frozen=True, slots=True)
class _Disconnected:
    reason: str


@dataclass(frozen=True, slots=True)
class _Fetched:
    ref: BundleRef
    bundle: Bundle | None


_Item = _Message | _Connected | _Disconnected | _Fetched | None


class Session:
    """A session with one fleet. Use it as a context manager: inside, the fleet is known.

    Args:
        home: broker, fleet, keys and catalog.
        mode: what it may do.
        name: this controller's name; None: the home's, with a random end unless it serves.
        policy: how patient the planner is.
        connect_timeout_s: how long to wait for broker and documents on entry.

    Raises:
        HomeError: on entry: trust.json, or for `serve` the controller key, cannot be used.
        LinkError: on entry: the broker cannot be reached in time.
    """

    def __init__(
        self,
        home: Home,
        mode: Mode = "watch",
        *,
        name: str | None = None,
        policy: PlannerPolicy = DEFAULT_POLICY,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self.home, self.mode = home, mode
        self.policy = replace(policy, expire_after_s=home.expire_after_s)
        self.name = name or controller_name(home, mode)
        self._connect_timeout_s = connect_timeout_s
        self._inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._changed = threading.Condition()
        keys = _keys(home, mode)
        self._fleet = Fleet(home.topics, keys)
        self._sync: Sync | None = None
        self._synced = False
        self._lost_reason = ""
        self._refusal: str | None = None
        self._begun = False
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._event_count = 0
        self._dirty: set[str] = set()
        self._all_dirty = False
        self._planned_s: dict[str, float] = {}
        self._next_plan_s = 0.0
        self._next_roll_s = 0.0
        self._unneeded: set[str] = set()
        self._unfit: dict[tuple[str, str], str] = {}
        self._repair_after_s: dict[str, float] = {}
        self._look_s, self._trim_s = 0.0, time.monotonic() + LOOK_EVERY_S
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._shelf = Shelf(
            home,
            keys,
            self._jobs.put if mode != "watch" else None,
            lambda ref, bundle: self._inbox.put(_Fetched(ref, bundle)),
        )
        self._link = Link(
            home.broker,
            f"{home.fleet}-ctl-{self.name}",
            lambda topic, payload, retained: self._inbox.put(_Message(topic, payload, retained)),
            on_connected=self._on_connected,
            on_disconnected=lambda reason: self._inbox.put(_Disconnected(reason)),
            will=last_will(home, mode, self.name),
        )
        # QoS 0: a connection that lives loses nothing, and after one that broke all documents come
        # again.
        self._link.subscribe(*filters(home.topics), qos=0)
        self._executor = Executor(home, self._link, self.name)
        self._presence = Presence(home, self._link, self._executor, mode, self.name)
        self._threads = (
            threading.Thread(target=self._run, name="session", daemon=True),
            threading.Thread(target=self._work, name="session-jobs", daemon=True),
        )

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def open(self) -> None:
        """Connect and wait until the fleet is known. Once in a session's life.

        Raises:
            HomeError, LinkError: as the class says.
        """
        self._presence.check_key()
        for thread in self._threads:
            thread.start()
        self._link.start()
        with self._changed:
            self._changed.wait_for(
                lambda: self._synced or self._refusal is not None, self._connect_timeout_s
            )
        if self._synced:
            return
        self.close()
        url = self.home.broker.url
        if self._refusal is not None:
            raise LinkError(
                f"cannot use broker {url}: {self._refusal}; check username and password_file in "
                f"{self.home.folder / 'config.toml'}"
            )
        raise LinkError(
            f"cannot reach broker {url}: {self._lost_reason or 'no connection'} in "
            f"{self._connect_timeout_s:g} s; is it running? (`ctl broker` starts one)"
        )

    def close(self) -> None:
        """Say that we are gone, and disconnect."""
        self._inbox.put(None)
        self._jobs.put(None)
        for thread in self._threads:
            thread.join(5)
        if self._link.connected:
            self._presence.leave()
        self._link.stop()

    # What others may ask, from any thread.

    @property
    def fleet(self) -> Fleet:
        """The fleet as it is now: a snapshot, later payloads do not change it."""
        with self._changed:
            return self._fleet.copy()

    @property
    def bundles(self) -> dict[str, Bundle]:
        """The bundles of all deployments that could be read, by the SHA-256 of their envelopes."""
        with self._changed:
            return self._shelf.bundles.copy()

    @property
    def connected(self) -> bool:
        """Whether the broker is there and all of its documents are known."""
        return self._synced and self._link.connected

    @property
    def acting(self) -> bool:
        """Whether this session would plan for a device now: there must be somebody who does."""
        with self._changed:
            return self._presence.stands_as(self._fleet) is not None

    def events(self) -> tuple[Event, ...]:
        """Return the last events since the session began, oldest first."""
        with self._changed:
            return tuple(self._events)

    def wait(
        self, look: Callable[[Fleet], Found | None], timeout_s: float | None = None
    ) -> Found | None:
        """Look at the fleet after each change until something is found; return it.

        Args:
            look: called with a snapshot, on this thread; what is false counts as not found.
            timeout_s: None: for ever. When it is over, None is returned.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            fleet = self.fleet
            if found := look(fleet):
                return found
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            with self._changed:
                self._changed.wait(left)

    def wait_events(
        self, seen: int, timeout_s: float | None = None
    ) -> tuple[tuple[Event, ...], int]:
        """Return the events after the first `seen` ones, and how many there have been by then.

        Waits for one if there is none yet; begin with 0. Of a great many only the last 2,000 come.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._event_count > seen, timeout_s)
            new = min(self._event_count - seen, len(self._events))
            return tuple(self._events)[len(self._events) - new :], self._event_count

    def execute(self, steps: Sequence[Step], on_bytes: OnBytes = lambda _: None) -> None:
        """Carry steps out, on this thread, and wait until the broker has them.

        Artifacts go first, and not at all where the broker has them.

        Raises:
            HomeError, CatalogError, ArtifactError, LinkError: as `Executor.execute`.
        """
        puts = [step for step in steps if isinstance(step, PutArtifact)]
        self._executor.put_artifacts(puts, on_bytes)
        for step in steps:
            if not isinstance(step, PutArtifact):
                self._executor.execute(step)

    def repair(self, ref: BundleRef, bundle: Bundle) -> None:
        """Put out again what this catalog has of a bundle, whatever the broker has."""
        for artifact, what in named_artifacts(ref, bundle):
            try:
                if self.home.artifact_path(artifact.sha256).exists():
                    log.info("put %s out again: devices wait for it", what)
                    self._executor.execute(PutArtifact(artifact, what))
            except SluiceError as error:
                log.warning("%s", error)

    def add_bundle(self, ref: BundleRef, bundle: Bundle) -> None:
        """Make a bundle known that is about to be deployed."""
        self._inbox.put(_Fetched(ref, bundle))

    # The session's own thread.

    def _run(self) -> None:
        while True:
            batch = self._next_batch()
            with self._changed:
                for item in batch:
                    if item is None:
                        return
                    self._take(item)
                self._settle()
                self._changed.notify_all()
            if self._synced:
                self._act()

    def _act(self) -> None:
        """Do what may be due. An unforeseen fault in one of them must not end the others."""
        announce = partial(self._presence.announce, self._fleet)
        for act in (announce, self._roll, self._plan, self._look_around):
            try:
                act()
            except Exception:
                log.exception("cannot act on what has changed (unexpected)")

    def _next_batch(self) -> list[_Item]:
        batch: list[_Item] = []
        try:
            batch.append(self._inbox.get(timeout=self._idle_s()))
            while len(batch) < _BATCH:
                batch.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return batch

    def _idle_s(self) -> float:
        """How long nothing can be due."""
        if self._sync is not None:
            return QUIET_S / 2
        if self._dirty or self._all_dirty:
            return max(0.0, self._next_plan_s - time.monotonic())
        return ROLL_EVERY_S

    def _take(self, item: _Item) -> None:
        match item:
            case _Message(topic, payload, retained):
                self._fold(topic, payload, retained=retained)
            case _Connected(marker):
                self._begin_sync(marker)
            case _Disconnected(reason):
                self._lose(reason)
            case _Fetched(ref, bundle):
                self._shelf.have(ref, bundle)
                self._all_dirty = True

    def _lose(self, reason: str) -> None:
        """Take note that there is no connection. Who never had one is told by `open`."""
        log.log(logging.WARNING if self._begun else logging.DEBUG, "%s", reason)
        what, _, why = reason.partition(f"{self.home.broker.url}: ")
        self._lost_reason, self._synced, self._sync = why or reason, False, None
        if what.startswith("refused"):
            self._refusal = why

    def _fold(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Take a message in. Whatever is wrong with it is said in the log, and changes nothing."""
        fleet = self._fleet
        if self._sync is not None:
            fleet = self._sync.fleet
            self._sync.hear(topic, time.monotonic(), retained=retained)
        try:
            change = fleet.fold(topic, payload, time.time(), retained=retained)
        except SluiceError as error:
            # Without any trusted keys, it was said once that signed documents are not shown.
            expected = fleet.keys is None and isinstance(error, TrustError)
            log.log(logging.DEBUG if expected else logging.WARNING, "%s: %s", topic, error)
            return
        if change is not None:
            self._note(change)

    def _note(self, change: Change) -> None:
        """Remember what must be planned again."""
        match change.kind:
            case "event":
                if change.event is not None:
                    self._events.append(change.event)
                    self._event_count += 1
            case "telemetry":
                self._note_telemetry(change.name)
            case "device":
                self._dirty.add(change.name)
            case "deployment":
                self._all_dirty = True
                self._want_bundles()
            case "rollout":
                self._note_rollout(change)
            case "controller" | "roster":
                self._all_dirty = True
            case "keys":
                self._follow_keys()

    def _follow_keys(self) -> None:
        """Trust the key sets that follow ours, and look at every document anew with them."""
        fleet = self._fleet if self._sync is None else self._sync.fleet
        before = fleet.keys
        try:
            while fleet.keys and (envelope := fleet.key_sets.get(fleet.keys.version + 1)):
                fleet.keys = verify_rotation(envelope, fleet.keys)
                keep_keys(self.home, fleet.keys, envelope)
        except SluiceError as error:
            log.warning("%s", error)
        if fleet.keys is None or fleet.keys is before:
            return
        log.warning("the fleet's keys have changed: version %d", fleet.keys.version)
        self._fleet.keys = fleet.keys
        self._shelf.trust(fleet.keys)
        self._executor.forget_keys()
        self._presence.keys_changed()
        self._begin_sync(marker := marker_topic(self.home.topics))
        self._link.subscribe(*filters(self.home.topics), qos=0)
        self._link.publish(marker, b"")

    def _begin_sync(self, marker: str) -> None:
        """Start from nothing: all documents come again."""
        self._synced = False
        self._sync = Sync(self._fleet.without_documents(), marker, time.monotonic())

    def _publish_keys(self) -> None:
        """Put out what the broker has lost of the key sets: a device follows them one by one."""
        for version, envelope in chain(self.home).items():
            if self._fleet.key_sets.get(version) != envelope:
                self._link.publish(self.home.topics.keys(version), envelope, retain=True)

    def _note_rollout(self, change: Change) -> None:
        deployment = self._fleet.deployments.get(change.name)
        if deployment is not None:
            after = self._fleet.rollouts.get(change.name)
            devices = self._fleet.devices.values()
            self._dirty.update(touched(deployment, change.before, after, devices))

    def _note_telemetry(self, name: str) -> None:
        """A device's load is looked at again now and then: most telemetry changes nothing."""
        device, now_s = self._fleet.devices.get(name), time.time()
        again_s = self._planned_s.get(name, 0.0) + self.policy.revise_after_s / 5
        if device is not None and now_s >= again_s and is_due(device, now_s, self.policy):
            self._planned_s[name] = now_s
            self._dirty.add(name)

    def _settle(self) -> None:
        """Once all documents have come, they are the fleet."""
        if self._sync is None or not self._sync.is_done(time.monotonic()):
            return
        if not self._sync.returned:
            log.warning("the broker does not return what we publish; going on without")
        self._fleet, self._sync = self._sync.fleet, None
        self._synced, self._begun, self._all_dirty = True, True, True
        self._presence.forget()
        self._want_bundles()
        if self.mode != "watch":
            self._publish_keys()

    def _want_bundles(self) -> None:
        if self._shelf.want(d.bundle for d in self._fleet.deployments.values()):
            self._all_dirty = True

    def _roll(self) -> None:
        """Carry on the rollouts that are ours: they move with time, whatever comes."""
        began_s = time.monotonic()
        if began_s < self._next_roll_s:
            return
        try:
            if any(under_way(self._fleet)) and self.name in self._voters():
                bundles = self._shelf.bundles
                for step in rollout_steps(self._fleet, bundles, time.time(), self.name):
                    self._carry_out(step)
        finally:
            now_s = time.monotonic()
            self._next_roll_s = now_s + max(ROLL_EVERY_S, (now_s - began_s) / ROLL_SHARE)

    def _voters(self) -> tuple[str, ...]:
        return electorate(self._fleet.controllers.values())

    def _plan(self) -> None:
        """Plan what has changed, where it is ours, and carry the steps out."""
        now_s = time.monotonic()
        if now_s < self._next_plan_s or not (self._dirty or self._all_dirty):
            return
        self._next_plan_s = now_s + PLAN_EVERY_S
        devices = None if self._all_dirty else self._dirty
        self._dirty, self._all_dirty = set(), False
        if self.name not in self._voters():
            return
        bundles, now_s = self._shelf.bundles, time.time()
        for step in plan(self._fleet, bundles, now_s, self.name, self.policy, devices=devices):
            self._carry_out(step)

    def _carry_out(self, step: Step) -> None:
        if isinstance(step, (CannotFit, NotPlanned)):
            place = (step.device, step.cascade if isinstance(step, CannotFit) else "")
            if self._unfit.get(place) == step.message:
                return
            self._unfit[place] = step.message
        log.info("%s", step.describe())
        try:
            published = self._executor.execute(step)
        except SluiceError as error:
            log.error("%s", error)  # noqa: TRY400 - its text says all, the trace nothing
            return
        if published is not None:
            self._fold_own(published)

    def _fold_own(self, published: Published) -> None:
        """Take in what we have published, without waiting for its echo."""
        with self._changed:
            self._fold(published.topic, published.payload, retained=False)
            self._changed.notify_all()

    def _look_around(self) -> None:
        """Now and then: fetch again what did not come, and put out again what devices wait for."""
        now_s = time.monotonic()
        if now_s < self._look_s:
            return
        self._look_s = now_s + LOOK_EVERY_S
        self._want_bundles()
        if self.mode == "watch":
            return
        self._dirty |= {
            name
            for name, device in self._fleet.devices.items()
            if is_expiring(device, time.time(), self.policy)
        }
        if now_s >= self._trim_s and self._presence.stands_as(self._fleet) is not None:
            self._trim_s = now_s + TRIM_EVERY_S
            self._jobs.put(self._trim_audit)
            self._jobs.put(self._clear_unneeded)
        for ref in stalled_bundles(self._fleet, time.time()):
            sha256 = ref.artifact.sha256
            bundle = self._shelf.bundles.get(sha256)
            if bundle is not None and now_s >= self._repair_after_s.get(sha256, 0.0):
                self._repair_after_s[sha256] = now_s + REPAIR_EVERY_S
                self._jobs.put(partial(self.repair, ref, bundle))

    def _clear_unneeded(self) -> None:
        """Clear what no deployment has needed since the last time this was looked at."""
        found = unneeded_artifacts(self.fleet, self.bundles)
        self._executor.clear_artifacts([ref for ref in found if ref.sha256 in self._unneeded])
        self._unneeded = {ref.sha256 for ref in found}

    # paho's thread.

    def _on_connected(self) -> None:
        marker = marker_topic(self.home.topics)
        self._inbox.put(_Connected(marker))
        self._link.publish(marker, b"")

    # The thread for what takes long.

    def _trim_audit(self) -> None:
        """Take off the broker what of the trail is too much, or no entry at all."""
        try:
            found = read_retained(self.home, (self.home.topics.audit("+"),))
            trail = read_trail(found, self.home.topics, self.home.trust())
        except SluiceError as error:
            log.warning("cannot look through the audit trail: %s", error)
            return
        if trail.misplaced:
            log.warning("cleared %d messages that can be no audit entries", len(trail.misplaced))
        for topic in surplus(trail):
            self._link.publish(topic, b"", retain=True)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:
                log.exception("cannot finish a job in the background (unexpected)")


def _keys(home: Home, mode: Mode) -> KeySet | None:
    """Return the trusted keys; who only watches may do without."""
    try:
        return home.trust()
    except HomeError as error:
        if mode != "watch":
            raise
        log.warning("%s; signed documents are not shown", error)
        return None
