"""Carries steps out over a link: documents signed and retained, artifacts as retained chunks."""

import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from controller.audit import keep, new_entry
from controller.errors import HomeError
from controller.home import Home
from controller.identity import whoami
from controller.rollouts.waves import is_held
from controller.shipping import OnBytes, Shipper
from controller.signing import Signer, load_signer
from controller.steps import (
    CannotFit,
    ClearArtifact,
    ClearDevice,
    Document,
    NotPlanned,
    PutArtifact,
    PutDeployment,
    PutDesired,
    PutPins,
    PutRollout,
    PutRoster,
    PutSigned,
    Step,
)
from protocols.audit import Act
from protocols.bundle import ArtifactRef
from protocols.device import Event, EventKind
from protocols.envelope import Role
from protocols.errors import LinkError
from protocols.link import Link
from protocols.rollout import Rollout, RolloutPhase
from protocols.topics import RETAINED_KINDS

log = logging.getLogger("sluice.execute")

_ACT_OF_END: dict[RolloutPhase, Act] = {
    "stopped": "rollout-stopped",
    "completed": "rollout-completed",
}


@dataclass(frozen=True, slots=True)
class Published:
    """A document that was published."""

    topic: str
    payload: bytes


class Executor:
    """Carries steps out, in the name of one controller.

    Args:
        home: keys and catalog.
        link: the session that publishes.
        me: this controller's name, the source of its events.
    """

    def __init__(self, home: Home, link: Link, me: str) -> None:
        self._home, self._link, self._me = home, link, me
        self._topics, self._shipper = home.topics, Shipper(home, link)
        self._boot_id = uuid.uuid4().hex[:12]
        self._seq = 0
        self._signers: dict[Role, Signer] = {}

    def signer(self, role: Role) -> Signer:
        """Return the signer of a role, read once.

        Raises:
            HomeError: its key is missing or cannot be used.
        """
        if role not in self._signers:
            self._signers[role] = load_signer(self._home, role)
        return self._signers[role]

    def forget_keys(self) -> None:
        """Read the keys anew: the fleet trusts others now."""
        self._signers.clear()

    def execute(self, step: Step, on_bytes: OnBytes = lambda _: None) -> Published | None:
        """Carry one step out. Documents that a person decides wait for the broker's word.

        Raises:
            HomeError: the key that must sign cannot be used.
            CatalogError, ArtifactError: an artifact is not in the catalog, or damaged there.
            LinkError: the broker does not confirm.
        """
        match step:
            case PutArtifact(ref):
                self._shipper.send(ref, on_bytes)
            case ClearArtifact(ref):
                self._shipper.clear(ref)
            case ClearDevice(device):
                for kind in RETAINED_KINDS:
                    self._put(self._topics.device(device, kind), b"")
            case NotPlanned(device, message):
                self._tell(device, "refused", message)
            case CannotFit(device, _, cascade, message):
                self._tell(device, "refused", message, cascade)
            case _:
                return self._sign(step)
        return None

    def _sign(self, step: Document) -> Published:
        """Publish a document, signed by the role whose word it is."""
        match step:
            case PutDeployment(deployment, act):
                topic = self._topics.deployment(deployment.id)
                envelope = self.signer("release").sign_deployment(deployment)
                published = self._put(topic, envelope)
                self.record(act, deployment.id, step.describe())
                return published
            case PutSigned(topic, envelope, _, act, target):
                published = self._put(topic, envelope)
                if act is not None:
                    self.record(act, target, step.describe())
                return published
            case PutPins(pins):
                topic = self._topics.device(pins.device, "pins")
                published = self._put(topic, self.signer("release").sign_pins(pins))
                self.record("pinned", pins.device, step.describe())
                return published
            case PutDesired(desired):
                topic = self._topics.device(desired.device, "desired")
                envelope = self.signer("controller").sign_desired(desired)
                self._link.publish(topic, envelope, retain=True)
                self._tell(desired.device, "planned", step.describe())
                return Published(topic, envelope)
            case PutRollout(rollout):
                return self._put_rollout(rollout, step.describe())
            case PutRoster(entry, act):
                topic = self._topics.roster(entry.device)
                published = self._put(topic, self.signer("release").sign_roster(entry))
                self.record(act, entry.device, step.describe())
                return published

    def put_artifacts(
        self, steps: Sequence[PutArtifact], on_bytes: OnBytes = lambda _: None
    ) -> int:
        """Put artifacts out, see `Shipper.put`; return how many bytes were sent."""
        return self._shipper.put(steps, on_bytes)

    def clear_artifacts(self, refs: Sequence[ArtifactRef]) -> None:
        """Take artifacts off the broker that are still there."""
        try:
            cleared = self._shipper.clear_what_is_there(refs)
        except LinkError as error:
            log.warning("%s; what nobody needs is cleared another time", error)
            return
        for ref in cleared:
            log.info("cleared %s from the broker: no deployment needs it", ref.sha256[:12])

    def record(self, act: Act, target: str, message: str, role: Role = "release") -> Published:
        """Write an act into the audit trail, after it was done: on the broker and in the home.

        A broker or disk that does not take the entry does not undo the act: that is only logged.

        Args:
            act: what was done.
            target: to which deployment, device or key set.
            message: for a person: what, and why. What looks like a secret is left out of it.
            role: whose key signs. `release`: a person has acted, and is named as user@host;
                `controller`: this controller has, by itself.

        Raises:
            HomeError: the role's key cannot be used.
        """
        signer = self._recorder(role)
        entry = new_entry(
            self._home.fleet,
            act,
            target,
            message,
            by=whoami() if role == "release" else self._me,
            key_id=signer.key_id,
            now_s=time.time(),
        )
        published = Published(self._topics.audit(entry.id), signer.sign_entry(entry))
        with _noting(act, target):
            keep(self._home.audit_file, entry)
        with _noting(act, target):
            self._tell_all(published, wait=role == "release")
        return published

    def _put_rollout(self, rollout: Rollout, said: str) -> Published:
        """Publish a rollout's state; its beginning and its end are recorded."""
        topic = self._topics.rollout(rollout.deployment)
        envelope = self.signer("controller").sign_rollout(rollout)
        self._link.publish(topic, envelope, retain=True)
        act = _ACT_OF_END.get(rollout.phase)
        if act is None and rollout.revision == 1 and not is_held(rollout):
            act = "rollout-started"
        if act is not None:
            self.record(act, rollout.deployment, said, "controller")
        for device in {one.device for one in rollout.findings if one.device is not None}:
            self._tell(device, "deployment", said)
        return Published(topic, envelope)

    def _tell_all(self, published: Published, *, wait: bool) -> None:
        """Publish a document; a controller has more to do than to wait for the broker's word."""
        if wait:
            self._put(published.topic, published.payload)
        else:
            self._link.publish(published.topic, published.payload, retain=True)

    def _recorder(self, role: Role) -> Signer:
        """Return who signs an audit entry: who has given the own key away has acted with that."""
        try:
            return self.signer(role)
        except HomeError:
            keys = self._home.trust()
            if not keys.former:
                raise
            return load_signer(self._home, role, keys.with_(keys=keys.former))

    def _put(self, topic: str, payload: bytes) -> Published:
        self._link.publish_and_wait(topic, payload, retain=True)
        return Published(topic, payload)

    def _tell(self, device: str, kind: EventKind, message: str, cascade: str | None = None) -> None:
        """Say on a device's events topic what was decided about it."""
        self._seq += 1
        event = Event(
            device=device,
            boot_id=self._boot_id,
            seq=self._seq,
            ts=time.time(),
            kind=kind,
            cascade=cascade,
            message=message,
            source=self._me,
        )
        self._link.publish(self._topics.device(device, "events"), event.encode())


@contextmanager
def _noting(act: Act, target: str) -> Iterator[None]:
    """Log what keeps an act from being recorded: it is done all the same."""
    try:
        yield
    except (HomeError, LinkError) as error:
        log.warning("cannot record that %s was %s: %s", target, act, error)
