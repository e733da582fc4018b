"""Steps are data: what `ctl plan` prints is what `ctl deploy` and `ctl serve` carry out."""

from dataclasses import dataclass

from protocols.audit import Act
from protocols.bundle import ArtifactRef
from protocols.desired import Deployment, Desired, Pins
from protocols.rollout import Rollout
from protocols.roster import RosterEntry


@dataclass(frozen=True, slots=True)
class PutArtifact:
    """Put one artifact's chunks on the broker, retained; nothing is sent if they are there."""

    ref: ArtifactRef
    what: str
    """For a person: `digits@2 stage large, int8`."""

    def describe(self) -> str:
        """Say what it does."""
        return f"put {self.what}: {self.ref.size_bytes} bytes, {self.ref.sha256[:12]}"


@dataclass(frozen=True, slots=True)
class ClearArtifact:
    """Take one artifact's chunks off the broker; devices keep theirs."""

    ref: ArtifactRef
    what: str

    def describe(self) -> str:
        """Say what it does."""
        return f"clear {self.what} from the broker: {self.ref.sha256[:12]}"


@dataclass(frozen=True, slots=True)
class PutDeployment:
    """Publish a deployment, signed by the release role."""

    deployment: Deployment
    act: Act = "deployed"

    def describe(self) -> str:
        """Say what it does."""
        ref = self.deployment.bundle
        verb = _VERBS.get(self.act, "publish")
        return f"{verb} deployment {self.deployment.id} of {ref.name}@{ref.version}"


_VERBS: dict[Act, str] = {
    "aborted": "abort",
    "rollout-paused": "pause",
    "rollout-resumed": "resume",
    "rollout-promoted": "promote",
    "rollout-undone": "undo to",
}


@dataclass(frozen=True, slots=True)
class PutPins:
    """Publish what a person has fixed on a device, signed by the release role."""

    pins: Pins

    def describe(self) -> str:
        """Say what it does."""
        said = [
            f"{pin.cascade}/{pin.stage} "
            + ", ".join(
                [
                    *([] if pin.loaded is None else ["loaded" if pin.loaded else "unloaded"]),
                    *([] if pin.threads is None else [f"{pin.threads} threads"]),
                ]
            )
            for pin in self.pins.pins
        ]
        return f"pin on {self.pins.device}: {'; '.join(said) or 'nothing'}"


@dataclass(frozen=True, slots=True)
class PutDesired:
    """Publish what a device should be, signed by the controller role."""

    desired: Desired

    def describe(self) -> str:
        """Say what it does, and why."""
        return (
            f"tell {self.desired.device} generation {self.desired.generation}: "
            f"{self.desired.reason}"
        )


@dataclass(frozen=True, slots=True)
class PutRollout:
    """Publish how far a rollout has come, signed by the controller role."""

    rollout: Rollout
    said: str
    """For a person: `opens wave 2 of 3, 25%`."""

    def describe(self) -> str:
        """Say what has changed."""
        return f"rollout {self.rollout.deployment} {self.said}"


@dataclass(frozen=True, slots=True)
class PutRoster:
    """Publish a person's word on a device, signed by the release role."""

    entry: RosterEntry
    act: Act
    """What it is called in the audit trail."""

    def describe(self) -> str:
        """Say what it does."""
        entry = self.entry
        proof = f", by enrolment file {entry.enrolment[:12]}" if entry.enrolment else ""
        return f"{entry.device} is {entry.state}{proof}, generation {entry.generation}"


@dataclass(frozen=True, slots=True)
class ClearDevice:
    """Take all retained documents of a device off the broker, except its roster entry."""

    device: str

    def describe(self) -> str:
        """Say what it does."""
        return f"clear the documents of {self.device} from the broker"


@dataclass(frozen=True, slots=True)
class NotPlanned:
    """Nothing is told to a device, because it is not the one that its name was given to."""

    device: str
    message: str

    def describe(self) -> str:
        """Say why."""
        return self.message


@dataclass(frozen=True, slots=True)
class PutSigned:
    """Publish an envelope that has all its signatures, retained.

    Attributes:
        topic: where.
        envelope: what.
        what: for a person: `deployment digits-v2-1a2b3c`.
        act: what it is called in the audit trail; None: it stands there in another's name.
        target: what is acted on, for the audit trail.
    """

    topic: str
    envelope: bytes
    what: str
    act: Act | None = None
    target: str = ""

    def describe(self) -> str:
        """Say what it does."""
        return f"publish {self.what}"


@dataclass(frozen=True, slots=True)
class CannotFit:
    """Nothing is told to a device, because what a deployment wants cannot run there."""

    device: str
    deployment: str
    cascade: str
    message: str

    def describe(self) -> str:
        """Say why."""
        return self.message


Document = PutDeployment | PutPins | PutDesired | PutRollout | PutRoster | PutSigned
"""What is signed and retained."""

Step = Document | PutArtifact | ClearArtifact | ClearDevice | NotPlanned | CannotFit
