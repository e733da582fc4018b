"""Which events are told of cascades, stages and sensors: each thing once."""

from agent.reporting import wording
from agent.reporting.publisher import Publisher
from agent.runner.control import StageChanged
from protocols import governor
from protocols.desired import DesiredCascade
from protocols.device import CascadePhase, EventKind, Sample
from protocols.schedule import LADDER_OF, Signal

_TOLD: dict[CascadePhase, EventKind] = {
    "fetching": "fetching",
    "refused": "refused",
    "rejected": "rejected",
    "quarantined": "quarantined",
}

News = tuple[CascadePhase, str]
"""How far a cascade is, and why."""


_REPEAT_AFTER_S = 30.0
"""At R2 stages take turns with every escalation: told each time, they would fill a poor link."""


class Repeats:
    """Counts what happens again and again for one cause, so that it is told now and then."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, ...], tuple[float, int]] = {}

    def count(self, key: tuple[str, ...], now_s: float) -> int | None:
        """Return how often it has gone untold if it should be told now, else None."""
        self._told = {
            k: (at_s, untold)
            for k, (at_s, untold) in self._told.items()
            if k == key or now_s - at_s < _REPEAT_AFTER_S
        }
        at_s, untold = self._told.get(key, (-_REPEAT_AFTER_S, 0))
        if now_s - at_s < _REPEAT_AFTER_S:
            self._told[key] = (at_s, untold + 1)
            return None
        self._told[key] = (now_s, 0)
        return untold


class Announcer:
    """Tells what became of cascades and stages; remembers what has been told."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._repeats = Repeats()
        self._told: dict[str, News] = {}
        self._served: tuple[DesiredCascade, ...] = ()

    def phases(self, news: dict[str, tuple[DesiredCascade, News]]) -> None:
        """Tell of the cascades that have come into another phase, by cascade name."""
        for name, (cascade, (phase, message)) in news.items():
            if (phase, message) == self._told.get(name):
                continue
            if phase == "verified" and message:
                text = f"{wording.versioned(cascade)} {message}"
                self._publisher.event("postponed", text, cascade=name)
            elif kind := _TOLD.get(phase):
                text = message or f"{wording.versioned(cascade)} is being fetched"
                self._publisher.event(kind, text, cascade=name)
        self._told = {name: told for name, (_, told) in news.items()}

    def stage(self, change: StageChanged, threads_before: int | None, now_s: float) -> None:
        """Tell of a stage."""
        if change.change == "threads" and threads_before == change.threads:
            return  # it is only nicer to others, or less so
        key = (change.change, change.cascade, change.stage, change.cause)
        if (untold := self._repeats.count(key, now_s)) is None:
            return
        more = f" ({untold} times more since this was last told)" if untold else ""
        kind: EventKind = "rejected" if change.change == "failed" else change.change
        self._publisher.event(
            kind,
            wording.stage_changed(change, threads_before) + more,
            cascade=change.cascade,
            stage=change.stage,
            returned_bytes=change.returned_bytes,
        )

    def served(self, after: tuple[DesiredCascade, ...], wanted: frozenset[str]) -> None:
        """Tell which cascades have taken over, and whether they are the wanted ones."""
        known = {cascade.identity for cascade in self._served}
        versions = {cascade.bundle.name: cascade for cascade in self._served}
        gone = versions.keys() - {cascade.bundle.name for cascade in after}
        self._served = after
        for name in sorted(gone):
            text = f"{wording.form(versions[name])} does not serve any more"
            self._publisher.event("applied", text, cascade=name)
        for cascade in after:
            if cascade.identity in known:
                continue
            old = versions.get(cascade.bundle.name)
            instead = f" instead of {wording.form(old)}" if old else ""
            self._publisher.event(
                "applied" if cascade.identity in wanted else "reverted",
                f"{wording.form(cascade)} serves{instead}",
                cascade=cascade.bundle.name,
            )

    def died(self, message: str) -> None:
        """Tell of a runner's death."""
        self._publisher.event("runner-died", message)


class LossWatch:
    """Remembers which of the governor's signals this machine has shown."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._seen: set[Signal] = set()

    def look(self, sample: Sample) -> None:
        """Say once which signals are gone; one that comes back may be lost again."""
        for signal in LADDER_OF:
            if governor.value_of(signal, sample) is not None:
                self._seen.add(signal)
            elif signal in self._seen:
                self._seen.discard(signal)
                self._publisher.event(
                    "sensor-lost",
                    f"{signal} cannot be read any more: no recovery on its ladder until it can",
                )
