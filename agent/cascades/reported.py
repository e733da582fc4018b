"""The reported document's cascades, from what is wanted, what is here and what runs. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from agent.cascades.choice import Choice
from agent.cascades.fit import artifacts_of
from protocols.bundle import ArtifactRef
from protocols.desired import DesiredCascade
from protocols.device import CascadePhase, ReportedCascade, ReportedStage

_BAD: frozenset[CascadePhase] = frozenset({"refused", "rejected", "quarantined"})


@dataclass(frozen=True, slots=True)
class Running:
    """What runs: `serving` answers requests, `starting` is being loaded to take over."""

    serving: tuple[DesiredCascade, ...] = ()
    starting: tuple[DesiredCascade, ...] = ()

    def version_of(self, name: str) -> DesiredCascade | None:
        """Return what serves under a cascade's name."""
        return next((c for c in self.serving if c.bundle.name == name), None)


def phase_of(choice: Choice, running: Running) -> CascadePhase:
    """Say how far a cascade is."""
    if choice.phase != "verified":
        return choice.phase
    if choice.wanted.identity in {c.identity for c in running.serving}:
        return "running"
    if choice.wanted.identity in {c.identity for c in running.starting}:
        return "starting"
    return "verified"


def reported_cascade(
    choice: Choice,
    running: Running,
    fetched_bytes: Callable[[ArtifactRef], int],
    stages: Callable[[DesiredCascade], tuple[ReportedStage, ...]],
) -> ReportedCascade:
    """Return one cascade as the device reports it.

    Args:
        choice: what was chosen for it.
        running: what serves and what starts.
        fetched_bytes: how much of an artifact is in the store.
        stages: the states of a cascade's stages.
    """
    wanted, phase = choice.wanted, phase_of(choice, running)
    serves = running.version_of(wanted.bundle.name)
    refs = [wanted.bundle.artifact]
    if choice.bundle is not None:
        refs += artifacts_of(wanted, choice.bundle)
    return ReportedCascade(
        bundle=wanted.bundle,
        phase=phase,
        running=serves.bundle if serves else None,
        stages=stages(serves if serves is not None and phase in _BAD else wanted),
        fetched_bytes=sum(map(fetched_bytes, refs)),
        total_bytes=sum(ref.size_bytes for ref in refs),
        message=choice.message,
    )
