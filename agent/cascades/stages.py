"""How far every stage is: the lifecycle table, kept for the cascades that matter now."""

from dataclasses import dataclass, replace

from agent.cascades.choice import Choice
from agent.cascades.lifecycle import Cue, advance
from agent.runner.control import StageChanged, Stats
from protocols.desired import DesiredCascade
from protocols.device import CascadeStats, ReportedStage, StageState

_CUE: dict[str, Cue] = {"loaded": "load", "unloaded": "unload", "failed": "fail"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One stage of one cascade in one choice of variants."""

    state: StageState = "absent"
    threads: int | None = None
    loaded_mib: float | None = None
    message: str = ""


class StageBook:
    """The entries, by cascade and stage."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}

    def entry(self, cascade: DesiredCascade, stage: str) -> Entry:
        """Return what is known of a stage."""
        return self._entries.get((cascade.identity, stage), Entry())

    def cue(self, cascade: DesiredCascade, stage: str, cue: Cue) -> None:
        """Advance one stage."""
        entry = self.entry(cascade, stage)
        after = advance(entry.state, cue)
        if after != entry.state:
            threads = entry.threads if after in {"loaded", "draining"} else None
            self._put(cascade, stage, replace(entry, state=after, threads=threads))

    def cue_all(self, cascade: DesiredCascade, cue: Cue) -> None:
        """Advance every stage that is not dropped."""
        for stage in cascade.stages:
            self.cue(cascade, stage, cue)

    def note(self, choice: Choice) -> None:
        """Cue the stages whose model is here, or on its way."""
        missing = {ref.sha256 for ref in choice.missing}
        if choice.bundle is None:
            if missing:
                self.cue_all(choice.wanted, "fetch")
            return
        for stage in choice.bundle.stages:
            for variant in stage.variants:
                if variant.name == choice.wanted.variants.get(stage.name):
                    here = variant.artifact.sha256 not in missing
                    self.cue(choice.wanted, stage.name, "stored" if here else "fetch")

    def loaded(self, cascade: DesiredCascade) -> frozenset[str]:
        """Return the stages that are in memory."""
        return frozenset(s for s in cascade.stages if self.entry(cascade, s).state == "loaded")

    def changed(self, cascade: DesiredCascade, change: StageChanged) -> None:
        """Take a runner's word for what it did with a stage."""
        if change.change in _CUE:
            self.cue(cascade, change.stage, _CUE[change.change])
        entry = self.entry(cascade, change.stage)
        if change.change == "unloaded":
            return
        self._put(
            cascade,
            change.stage,
            replace(
                entry,
                threads=change.threads if entry.state == "loaded" else None,
                loaded_mib=change.loaded_mib or entry.loaded_mib,
                message=change.cause if change.change == "failed" else "",
            ),
        )

    def sync(self, cascades: tuple[DesiredCascade, ...], stats: Stats) -> None:
        """Take a serving runner's word for what is loaded: it may differ from an older one's."""
        for cascade in cascades:
            for counted in stats.cascades:
                if counted.name == cascade.bundle.name:
                    self._sync(cascade, counted)

    def _sync(self, cascade: DesiredCascade, counted: CascadeStats) -> None:
        for stage in counted.stages:
            self.cue(cascade, stage.name, "load" if stage.loaded else "unload")
            entry = self.entry(cascade, stage.name)
            if stage.loaded and entry.state == "loaded" and entry.threads != stage.threads:
                self._put(cascade, stage.name, replace(entry, threads=stage.threads))

    def report(self, cascade: DesiredCascade) -> tuple[ReportedStage, ...]:
        """Return the stages as the reported document shows them."""
        return tuple(
            ReportedStage(
                name=stage,
                variant=cascade.variants[stage],
                state=entry.state,
                threads=entry.threads,
                message=entry.message,
            )
            for stage in cascade.stages
            for entry in (self.entry(cascade, stage),)
        )

    def keep(self, cascades: tuple[DesiredCascade, ...]) -> None:
        """Forget all others."""
        kept = {cascade.identity for cascade in cascades}
        self._entries = {k: v for k, v in self._entries.items() if k[0] in kept}

    def _put(self, cascade: DesiredCascade, stage: str, entry: Entry) -> None:
        self._entries[cascade.identity, stage] = entry
