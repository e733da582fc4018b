"""Steps are data: what `ctl plan` prints is what `ctl deploy` and `ctl serve` carry out."""

from dataclasses import dataclass

from protocols.bundle import ArtifactRef
from protocols.desired import Deployment, Desired, Pins


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

    def describe(self) -> str:
        """Say what it does."""
        ref = self.deployment.bundle
        verb = "abort" if self.deployment.aborted else "publish"
        return f"{verb} deployment {self.deployment.id} of {ref.name}@{ref.version}"


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
class CannotFit:
    """Nothing is told to a device, because what a deployment wants cannot run there."""

    device: str
    deployment: str
    cascade: str
    message: str

    def describe(self) -> str:
        """Say why."""
        return self.message


Step = PutArtifact | ClearArtifact | PutDeployment | PutPins | PutDesired | CannotFit
