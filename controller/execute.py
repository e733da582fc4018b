"""Carries steps out over a link: documents signed and retained, artifacts as retained chunks."""

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controller.home import Home
from controller.library import read_artifact
from controller.signing import Signer, load_signer
from controller.steps import (
    CannotFit,
    ClearArtifact,
    PutArtifact,
    PutDeployment,
    PutDesired,
    PutPins,
    Step,
)
from protocols.bundle import ArtifactRef
from protocols.chunks import chunk_count, cut
from protocols.device import Event, EventKind
from protocols.envelope import Role
from protocols.errors import LinkError
from protocols.link import Link
from protocols.pull import Puller

log = logging.getLogger("sluice.execute")

WINDOW_CHUNKS = 16
"""Chunks sent before the broker's word is waited for: 1 MiB, below paho's 20 in flight."""

WINDOW_TIMEOUT_S = 60.0
LOOK_S = 0.5
"""A retained chunk that is there comes at once."""

OnBytes = Callable[[int], None]
"""Called with the bytes that the broker has taken since the last call."""


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
        self._topics = home.topics
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

    def execute(self, step: Step, on_bytes: OnBytes = lambda _: None) -> Published | None:
        """Carry one step out. Documents that a person decides wait for the broker's word.

        Raises:
            HomeError: the key that must sign cannot be used.
            CatalogError, ArtifactError: an artifact is not in the catalog, or damaged there.
            LinkError: the broker does not confirm.
        """
        match step:
            case PutArtifact(ref):
                self._put_artifact(ref, on_bytes)
            case ClearArtifact(ref):
                self._clear_artifact(ref)
            case PutDeployment(deployment):
                topic = self._topics.deployment(deployment.id)
                return self._put(topic, self.signer("release").sign_deployment(deployment))
            case PutPins(pins):
                topic = self._topics.device(pins.device, "pins")
                return self._put(topic, self.signer("release").sign_pins(pins))
            case PutDesired(desired):
                topic = self._topics.device(desired.device, "desired")
                envelope = self.signer("controller").sign_desired(desired)
                self._link.publish(topic, envelope, retain=True)
                self._tell(desired.device, "planned", step.describe())
                return Published(topic, envelope)
            case CannotFit(device, _, cascade, message):
                self._tell(device, "refused", message, cascade)
        return None

    def put_artifacts(
        self, steps: Sequence[PutArtifact], on_bytes: OnBytes = lambda _: None
    ) -> int:
        """Put artifacts out, unless the last of them, the manifest, is on the broker already.

        The manifest goes out last, so that where it is, all that it names is too.

        Returns:
            How many bytes were sent.

        Raises:
            CatalogError, ArtifactError, LinkError: as `execute`.
        """
        contents = {step.ref.sha256: read_artifact(self._home, step.ref) for step in steps}
        if steps and self._is_there(steps[-1].ref, contents[steps[-1].ref.sha256]):
            on_bytes(sum(step.ref.size_bytes for step in steps))
            return 0
        for step in steps:
            self._send(step.ref, contents[step.ref.sha256], on_bytes)
        return sum(step.ref.size_bytes for step in steps)

    def _put(self, topic: str, payload: bytes) -> Published:
        self._link.publish_and_wait(topic, payload, retain=True)
        return Published(topic, payload)

    def _put_artifact(self, ref: ArtifactRef, on_bytes: OnBytes) -> None:
        self._send(ref, read_artifact(self._home, ref), on_bytes)

    def _send(self, ref: ArtifactRef, content: bytes, on_bytes: OnBytes) -> None:
        """Send all chunks; the broker takes them in order, so the last word stands for a window."""
        last, unconfirmed = chunk_count(ref.size_bytes) - 1, 0
        for number, chunk in enumerate(cut(content)):
            topic = self._topics.chunk(ref.sha256, number)
            unconfirmed += len(chunk)
            if number == last or number % WINDOW_CHUNKS == WINDOW_CHUNKS - 1:
                self._link.publish_and_wait(topic, chunk, retain=True, timeout_s=WINDOW_TIMEOUT_S)
                on_bytes(unconfirmed)
                unconfirmed = 0
            else:
                self._link.publish(topic, chunk, retain=True)

    def _is_there(self, ref: ArtifactRef, content: bytes) -> bool:
        """Whether an artifact's last chunk is on the broker."""
        count = chunk_count(ref.size_bytes)
        found: dict[int, bytes] = {}
        with Puller(self._home.broker, self._topics, f"{self._home.fleet}-ctl") as puller:
            try:
                puller.pull(ref, found.__setitem__, frozenset(range(count - 1)), LOOK_S)
            except LinkError:
                return False
        return content.endswith(found[count - 1])

    def _clear_artifact(self, ref: ArtifactRef) -> None:
        """Take every chunk off the broker."""
        for number in range(chunk_count(ref.size_bytes) - 1, -1, -1):
            self._link.publish(self._topics.chunk(ref.sha256, number), b"", retain=True)

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
