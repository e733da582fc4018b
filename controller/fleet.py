"""The fleet as its documents tell it: a fold of what comes from the broker. No I/O.

`Fleet` holds frozen records and replaces them one at a time: at thousands of devices a copy of the
whole for each telemetry message would cost more than all the rest. Every payload is checked here,
signatures included; one that is not what its topic promises changes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from controller.standing import PLANNED, Standing, standing_of
from protocols.desired import ControllerMode, ControllerStatus, Deployment, Desired, Pins
from protocols.device import Event, Inventory, Reported, Status, Telemetry
from protocols.envelope import (
    DEPLOYMENT,
    DESIRED,
    MAX_KEYS,
    PINS,
    ROLLOUT,
    ROSTER,
    KeySet,
    PayloadType,
    verify,
)
from protocols.errors import MessageError, TrustError
from protocols.rollout import Rollout, Selector
from protocols.roster import RosterEntry
from protocols.schedule import RUNGS
from protocols.topics import TopicName, Topics

MAX_DEVICES = 100_000
MAX_DEPLOYMENTS = 10_000
MAX_CONTROLLERS = 1_000
MAX_KEY_SETS = 1_000
MAX_KEY_SET_BYTES = 64 << 10
"""Whoever may publish must not fill our memory."""

GAP_S = 60.0
"""A longer silence between two telemetry messages says nothing of the time between them."""

Said = TypeVar("Said", Status, Inventory, Reported, Telemetry)

ChangeKind = Literal[
    "device", "telemetry", "event", "deployment", "rollout", "controller", "roster", "keys"
]


@dataclass(frozen=True, slots=True)
class RungHistory:
    """Where a device stands on one ladder, and since when."""

    rung: int = 0
    since_s: tuple[float, ...] | None = None
    """For every rung k from 1 on: when `rung >= k` was last seen to change. None: never heard."""

    def heard(self, rung: int, now_s: float, *, anew: bool) -> "RungHistory":
        """Return the history with one more reading; `anew` forgets what was before."""
        if anew or self.since_s is None:
            return RungHistory(rung, (now_s,) * (RUNGS - 1))
        if rung == self.rung:
            return self
        since_s = tuple(
            now_s if (rung >= k) != (self.rung >= k) else since
            for k, since in enumerate(self.since_s, start=1)
        )
        return RungHistory(rung, since_s)

    def at_least_s(self, rung: int, now_s: float) -> float:
        """Return for how many seconds it has been at `rung` (1 to 4) or a worse one."""
        if self.since_s is None or self.rung < rung:
            return 0.0
        return max(0.0, now_s - self.since_s[rung - 1])

    def at_most_s(self, rung: int, now_s: float) -> float:
        """Return for how many seconds it has been at `rung` (0 to 3) or a better one."""
        if self.since_s is None or self.rung > rung:
            return 0.0
        return max(0.0, now_s - self.since_s[rung])


@dataclass(frozen=True, slots=True)
class Device:
    """All that is known of one device; None where it has not said so yet."""

    name: str
    status: Status | None = None
    inventory: Inventory | None = None
    telemetry: Telemetry | None = None
    heard_s: float | None = None
    """When the last telemetry came, by our clock (Unix time)."""
    reported: Reported | None = None
    reported_s: float = 0.0
    """When that came, by our clock (Unix time)."""
    desired: Desired | None = None
    pins: Pins | None = None
    residency: RungHistory = RungHistory()
    compute: RungHistory = RungHistory()
    standing: Standing = "open"

    @property
    def member(self) -> bool:
        """Whether it is planned for."""
        return self.standing in PLANNED

    @property
    def online(self) -> bool:
        """Whether its agent holds a session with the broker, as far as it may.

        The last words of a revoked one do not come through: it seems to be there for ever.
        """
        there = self.status is not None and self.status.online
        return there and self.standing != "revoked"

    @property
    def labels(self) -> dict[str, str]:
        """Its labels, empty while its inventory is not known."""
        return self.inventory.labels if self.inventory is not None else {}

    @property
    def known(self) -> bool:
        """Whether anything is known of it."""
        return any((self.status, self.inventory, self.telemetry, self.reported)) or any(
            (self.desired, self.pins)
        )

    def matches(self, selector: Selector) -> bool:
        """Whether it has all of these labels."""
        return all(self.labels.get(key) == value for key, value in selector.items())


@dataclass(frozen=True, slots=True)
class Change:
    """What a payload changed: of which device, deployment or controller."""

    kind: ChangeKind
    name: str
    event: Event | None = None
    before: Rollout | None = None
    """How the rollout was that has changed."""


@dataclass(slots=True)
class Fleet:
    """Devices, deployments and controllers of one fleet, by name.

    Args:
        topics: of the fleet.
        keys: that signed documents are checked against; None: none of them can be read.
    """

    topics: Topics
    keys: KeySet | None
    devices: dict[str, Device] = field(default_factory=dict)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    controllers: dict[str, ControllerStatus] = field(default_factory=dict)
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    """By deployment."""
    roster: dict[str, RosterEntry] = field(default_factory=dict)
    """By device."""
    rivals: set[str] = field(default_factory=set)
    """Devices whose names others were seen to use, until a person has said a word on them."""
    outdated: set[str] = field(default_factory=set)
    """Devices whose roster entries only keys of former times have signed: no members, but a fleet
    that has some is not open for that."""
    key_sets: dict[int, bytes] = field(default_factory=dict)
    """Envelopes by version, as they came: who holds the home folder follows them."""
    void: dict[str, Deployment] = field(default_factory=dict)
    """Deployments that only keys of former times have signed: nobody carries them out, and nothing
    is stopped for their sake."""
    ended: set[str] = field(default_factory=set)
    """Deployments that were seen to be aborted: an older document that is played back is none."""

    @property
    def closed(self) -> bool:
        """Whether it has a roster: only those on it are members."""
        return bool(self.roster or self.outdated)

    def copy(self) -> "Fleet":
        """Return a fleet that later payloads do not change; the records are shared."""
        return Fleet(
            self.topics,
            self.keys,
            self.devices.copy(),
            self.deployments.copy(),
            self.controllers.copy(),
            self.rollouts.copy(),
            self.roster.copy(),
            self.rivals.copy(),
            self.outdated.copy(),
            self.key_sets.copy(),
            self.void.copy(),
            self.ended.copy(),
        )

    def without_documents(self) -> "Fleet":
        """Return what is left when every retained document has to come again: telemetry alone."""
        kept = {
            name: Device(
                name,
                telemetry=device.telemetry,
                heard_s=device.heard_s,
                residency=device.residency,
                compute=device.compute,
            )
            for name, device in self.devices.items()
            if device.telemetry is not None
        }
        rivals, ended = self.rivals.copy(), self.ended.copy()
        return Fleet(self.topics, self.keys, kept, rivals=rivals, ended=ended)

    def device(self, name: str) -> Device:
        """Return a device's record, an empty one if it is not known."""
        return self.devices.get(name) or Device(name)

    def selected(self, names: Iterable[str] = (), selector: Selector | None = None) -> list[Device]:
        """Return the known devices of these names (none given: all) and labels, by name."""
        wanted = set(names)
        return [
            device
            for name, device in sorted(self.devices.items())
            if (not wanted or name in wanted) and device.matches(selector or {})
        ]

    def alive(self, mode: ControllerMode) -> list[str]:
        """Return the controllers of one mode that are alive, by name."""
        return sorted(n for n, c in self.controllers.items() if c.online and c.mode == mode)

    def fold(  # noqa: PLR0911 - one for each kind
        self, topic: str, payload: bytes, now_s: float, *, retained: bool = False
    ) -> Change | None:
        """Take one payload in; an empty one deletes the document.

        Args:
            topic: where it came.
            payload: what came.
            now_s: Unix time in seconds.
            retained: it is what the broker has now, and not an echo of what was under way.

        Returns:
            What it changed; None: nothing.

        Raises:
            TopicError: the topic is none of this fleet's.
            MessageError: the payload is not what its topic promises, or there are too many.
            TrustError: it is not signed as it must be.
        """
        name = self.topics.parse(topic)
        match name.kind:
            case "deployment":
                return self._fold_deployment(name.name, payload)
            case "rollout":
                return self._fold_rollout(name.name, payload, retained=retained)
            case "controller":
                return self._fold_controller(name.name, payload)
            case "roster":
                return self._fold_roster(name.name, payload)
            case "keys":
                return self._fold_keys(int(name.name), payload)
            case "events":
                return self._read_event(name.name, payload)
            case "artifact" | "audit":
                return None
            case _:
                return self._fold_device(name, payload, now_s, retained=retained)

    def _fold_device(
        self, name: TopicName, payload: bytes, now_s: float, *, retained: bool
    ) -> Change | None:
        before = self.devices.get(name.name)
        if before is None:
            if not payload:
                return None
            _check_room(len(self.devices), MAX_DEVICES, "devices")
        device = fold_device(
            before or Device(name.name), name, payload, self.keys, now_s, retained=retained
        )
        device = self._stood(device)
        if device == before:
            return None
        if device.known:
            self.devices[name.name] = device
        else:
            del self.devices[name.name]
        return Change("telemetry" if name.kind == "telemetry" else "device", name.name)

    def _fold_deployment(self, name: str, payload: bytes) -> Change | None:
        before = self.deployments.get(name)
        if not payload:
            self.void.pop(name, None)
            return Change("deployment", name) if self.deployments.pop(name, None) else None
        if before is None:
            _check_room(len(self.deployments) + len(self.void), MAX_DEPLOYMENTS, "deployments")
        try:
            body = _verified(payload, DEPLOYMENT, self.keys)
        except TrustError:
            if before is None:
                self._note_void(name, payload)
            raise
        deployment = Deployment.decode(body)
        _check_names(("fleet", deployment.fleet, self.topics.fleet), ("id", deployment.id, name))
        if deployment.aborted:
            self.ended.add(name)
        elif name in self.ended:
            raise TrustError(f"cannot trust deployment {name}: it was aborted, and stays so")
        self.deployments[name] = deployment
        self.void.pop(name, None)
        return Change("deployment", name) if deployment != before else None

    def _note_void(self, name: str, payload: bytes) -> None:
        """Remember a deployment that was good until its key was taken away."""
        body = self._once_signed(payload, DEPLOYMENT)
        if body is None:
            return
        try:
            deployment = Deployment.decode(body)
        except MessageError:
            return
        if (deployment.fleet, deployment.id) == (self.topics.fleet, name):
            self.void[name] = deployment

    def _once_signed(self, payload: bytes, payload_type: PayloadType) -> bytes | None:
        """Return what a key of former times has vouched for; None: none has."""
        if self.keys is None or not self.keys.former:
            return None
        once = self.keys.with_(
            keys=(*self.keys.keys, *self.keys.former)[:MAX_KEYS], threshold={"release": 1}
        )
        try:
            return verify(payload, payload_type, once)
        except (TrustError, MessageError):
            return None

    def _fold_keys(self, version: int, payload: bytes) -> Change | None:
        if not payload:
            return Change("keys", str(version)) if self.key_sets.pop(version, None) else None
        if self.key_sets.get(version) == payload:
            return None
        _check_room(len(self.key_sets), MAX_KEY_SETS, "key sets")
        _check_room(len(payload), MAX_KEY_SET_BYTES, "bytes of a key set")
        self.key_sets[version] = payload
        return Change("keys", str(version))

    def _fold_rollout(self, name: str, payload: bytes, *, retained: bool) -> Change | None:
        before = self.rollouts.get(name)
        if not payload:
            self.rollouts.pop(name, None)
            return Change("rollout", name, before=before) if before is not None else None
        if before is None:
            _check_room(len(self.rollouts), MAX_DEPLOYMENTS, "rollouts")
        rollout = Rollout.decode(_verified(payload, ROLLOUT, self.keys))
        _check_names(
            ("fleet", rollout.fleet, self.topics.fleet), ("deployment", rollout.deployment, name)
        )
        late = before is not None and _is_late(rollout, before)
        if rollout == before or (late and not retained):
            return None
        self.rollouts[name] = rollout
        return Change("rollout", name, before=before)

    def _fold_roster(self, name: str, payload: bytes) -> Change | None:
        before = self.roster.get(name)
        was_closed = self.closed
        if not payload:
            self.outdated.discard(name)
            if self.roster.pop(name, None) is None and was_closed == self.closed:
                return None
            self._stand_anew(name if self.closed else None)
            return Change("roster", name)
        if before is None:
            _check_room(len(self.roster) + len(self.outdated), MAX_DEVICES, "roster entries")
        try:
            entry = RosterEntry.decode(_verified(payload, ROSTER, self.keys))
        except TrustError:
            if before is None and self._once_signed(payload, ROSTER) is not None:
                self.outdated.add(name)
                self._stand_anew(name if was_closed else None)
            raise
        _check_names(("fleet", entry.fleet, self.topics.fleet), ("device", entry.device, name))
        if before is not None and entry.generation <= before.generation:
            return None
        self.roster[name] = entry
        self.rivals.discard(name)
        self.outdated.discard(name)
        self._stand_anew(name if was_closed else None)
        return Change("roster", name)

    def _stand_anew(self, name: str | None) -> None:
        """Let a device stand as the roster has it now; None: all, since it has opened or closed."""
        for one in [name] if name is not None else list(self.devices):
            if one in self.devices:
                self.devices[one] = self._stood(self.devices[one])

    def _stood(self, device: Device) -> Device:
        standing = standing_of(
            self.roster.get(device.name),
            device.inventory,
            device.desired,
            closed=self.closed,
        )
        if standing == "stranger":
            self.rivals.add(device.name)
        return device if standing == device.standing else replace(device, standing=standing)

    def _fold_controller(self, name: str, payload: bytes) -> Change | None:
        before = self.controllers.get(name)
        if not payload:
            return Change("controller", name) if self.controllers.pop(name, None) else None
        if before is None:
            _check_room(len(self.controllers), MAX_CONTROLLERS, "controllers")
        status = ControllerStatus.decode(payload)
        _check_names(("controller", status.controller, name))
        self.controllers[name] = status
        return Change("controller", name) if status != before else None

    @staticmethod
    def _read_event(name: str, payload: bytes) -> Change | None:
        if not payload:
            return None
        event = Event.decode(payload)
        _check_names(("device", event.device, name))
        return Change("event", name, event)


def _is_late(rollout: Rollout, before: Rollout) -> bool:
    """Whether a state came after its successor; of two of one revision the one that ends it holds.

    Two controllers may both write while one takes over from the other.
    """
    if rollout.revision != before.revision:
        return rollout.revision < before.revision
    return before.ended_s is not None and rollout.ended_s is None


def fold_device(
    device: Device,
    topic: TopicName,
    payload: bytes,
    keys: KeySet | None,
    now_s: float,
    *,
    retained: bool = False,
) -> Device:
    """Return a device's record with one payload taken in. Pure.

    Raises:
        MessageError, TrustError: as `Fleet.fold`.
    """
    match topic.kind:
        case "status":
            return replace(device, status=_own(Status, payload, topic))
        case "inventory":
            return replace(device, inventory=_own(Inventory, payload, topic))
        case "reported":
            return replace(device, reported=_own(Reported, payload, topic), reported_s=now_s)
        case "telemetry":
            telemetry = _own(Telemetry, payload, topic)
            return _heard(device, telemetry, now_s) if telemetry is not None else device
        case _:
            return _fold_signed(device, topic, payload, keys, retained=retained)


def _fold_signed(
    device: Device, topic: TopicName, payload: bytes, keys: KeySet | None, *, retained: bool
) -> Device:
    if topic.kind == "pins":
        return replace(device, pins=_pins(payload, topic, keys))
    return _told(device, _desired(payload, topic, keys), retained=retained)


def _heard(device: Device, telemetry: Telemetry, now_s: float) -> Device:
    """Take a telemetry message in; one that was sent before the last one is late and dropped."""
    last = device.telemetry
    same_run = last is not None and last.boot_id == telemetry.boot_id
    if last is not None and same_run and telemetry.seq <= last.seq:
        return device
    anew = not same_run or device.heard_s is None or now_s - device.heard_s > GAP_S
    rungs = telemetry.rungs
    return replace(
        device,
        telemetry=telemetry,
        heard_s=now_s,
        residency=device.residency.heard(rungs.residency, now_s, anew=anew),
        compute=device.compute.heard(rungs.compute, now_s, anew=anew),
    )


def _told(device: Device, desired: Desired | None, *, retained: bool) -> Device:
    """Take a desired document in; the echo of an older generation changes nothing."""
    before = device.desired
    late = before is not None and desired is not None and desired.generation < before.generation
    return device if late and not retained else replace(device, desired=desired)


def _own(kind: type[Said], payload: bytes, topic: TopicName) -> Said | None:
    if not payload:
        return None
    message = kind.decode(payload)
    _check_names(("device", message.device, topic.name))
    return message


def _desired(payload: bytes, topic: TopicName, keys: KeySet | None) -> Desired | None:
    if not payload:
        return None
    desired = Desired.decode(_verified(payload, DESIRED, keys))
    _check_names(
        ("fleet", desired.fleet, keys.fleet if keys else ""), ("device", desired.device, topic.name)
    )
    return desired


def _pins(payload: bytes, topic: TopicName, keys: KeySet | None) -> Pins | None:
    if not payload:
        return None
    pins = Pins.decode(_verified(payload, PINS, keys))
    _check_names(
        ("fleet", pins.fleet, keys.fleet if keys else ""), ("device", pins.device, topic.name)
    )
    return pins


def _verified(payload: bytes, payload_type: PayloadType, keys: KeySet | None) -> bytes:
    if keys is None:
        raise TrustError("cannot trust a signed document: no trust.json here says whose keys count")
    return verify(payload, payload_type, keys)


def _check_names(*names: tuple[str, str, str]) -> None:
    """Check what a document says of its place (what, said, place)."""
    for what, said, place in names:
        if said != place:
            raise MessageError(f"cannot accept a document of {what} {said!r} in place of {place!r}")


def _check_room(count: int, limit: int, what: str) -> None:
    if count >= limit:
        raise MessageError(f"cannot take more {what}: {limit} are known already")
