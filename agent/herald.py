"""Tells what became of cascades and stages, each thing once."""

from agent import wording
from agent.reconcile import identity
from agent.runner.control import StageChanged
from agent.telemetry import Voice
from protocols.desired import DesiredCascade
from protocols.device import CascadePhase, EventKind

_TOLD: dict[CascadePhase, EventKind] = {
    "fetching": "fetching",
    "refused": "refused",
    "rejected": "rejected",
    "quarantined": "quarantined",
}

News = tuple[CascadePhase, str]
"""How far a cascade is, and why."""


class Herald:
    """Remembers what has been told."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._told: dict[str, News] = {}
        self._served: tuple[DesiredCascade, ...] = ()

    def phases(self, news: dict[str, tuple[DesiredCascade, News]]) -> None:
        """Tell of the cascades that have come into another phase, by cascade name."""
        for name, (cascade, (phase, message)) in news.items():
            if (phase, message) != self._told.get(name) and (kind := _TOLD.get(phase)):
                text = message or f"{wording.versioned(cascade)} is being fetched"
                self._voice.event(kind, text, cascade=name)
        self._told = {name: told for name, (_, told) in news.items()}

    def stage(self, change: StageChanged, threads_before: int | None) -> None:
        """Tell of a stage."""
        kind: EventKind = "rejected" if change.change == "failed" else change.change
        self._voice.event(
            kind,
            wording.stage_changed(change, threads_before),
            cascade=change.cascade,
            stage=change.stage,
            returned_bytes=change.returned_bytes,
        )

    def served(self, after: tuple[DesiredCascade, ...], wanted: frozenset[str]) -> None:
        """Tell which cascades have taken over, and whether they are the wanted ones."""
        known = {identity(cascade) for cascade in self._served}
        versions = {cascade.bundle.name: cascade for cascade in self._served}
        self._served = after
        for cascade in after:
            if identity(cascade) in known:
                continue
            old = versions.get(cascade.bundle.name)
            instead = f" instead of {wording.form(old)}" if old else ""
            self._voice.event(
                "applied" if identity(cascade) in wanted else "reverted",
                f"{wording.form(cascade)} serves{instead}",
                cascade=cascade.bundle.name,
            )

    def died(self, message: str) -> None:
        """Tell of a runner's death."""
        self._voice.event("runner-died", message)
