"""The cascades of this device: what is wanted, what is here, what serves, and the way between.

Owned by the supervisor's one deciding thread. Every change ends in `ensure`, which may be called at
any time and does nothing when all is as it should be.
"""

import logging
import time
from collections import Counter
from pathlib import Path
from typing import Protocol

from agent.cascades.battery import held, low
from agent.cascades.choice import Choice, Facts, choose, kept_artifacts, needed_artifacts
from agent.cascades.desired import DesiredDocument
from agent.cascades.fit import is_roomy, load_mib, needed_mib
from agent.cascades.orders import Orders, explained, orders_of
from agent.cascades.plan import runner_plans, schedule_of
from agent.cascades.reported import Running, phase_of, reported_cascade
from agent.cascades.stages import StageBook
from agent.cascades.verdicts import Verdict, Verdicts
from agent.errors import AgentError
from agent.inbox import FetchDone, FetchFailed, FetchProgress, FetchWaits
from agent.inner_loop import InnerLoop
from agent.processes.crashes import inquire, unproven, with_deaths
from agent.processes.runners import Counted, Died, Lineup, Moved, Outcome, Serving, TurnedDown
from agent.processes.swap import READY_WITHIN_S, Swap
from agent.reporting import wording
from agent.reporting.events import Announcer
from agent.reporting.publisher import Publisher
from agent.runner.control import Assign, Assignment, CascadePlan
from agent.sensors.oom import OomCount
from agent.storage.allowance import Limits, Order, limits_of
from agent.storage.artifacts import ArtifactStore
from agent.storage.bundles import BundleStore
from agent.storage.ledger import LedgerFile
from agent.trust import KeySets
from protocols.bundle import ArtifactRef, Bundle, BundleRef
from protocols.desired import Desired, DesiredCascade
from protocols.device import CascadeStats, ReportedCascade, Sample
from protocols.memory import leaves_room, rung_mib

log = logging.getLogger("sluice.cascades")


class Fetches(Protocol):
    """What `agent.storage.fetch.Fetcher` is."""

    def limit(self, limits: Limits) -> None:
        """Keep to these limits from now on."""

    def want(self, orders: tuple[Order, ...], donors: tuple[ArtifactRef, ...] = ()) -> None:
        """Fetch these, and no others from now on."""


class Reconciler:
    """Makes what serves match what is desired.

    Args:
        document: the desired document in force.
        ledger: what the device remembers.
        bundles: the bundles that are here.
        store: the artifacts that are here.
        fetcher: gets what is missing.
        swap: the runners.
        inner_loop: where the governor stands.
        publisher: says what happens.
        cpus: the CPUs that stages may use.
        mask: those of this process, which its runners keep to; None: not known.
        budget_mib: memory that models may have; None: not known.
    """

    def __init__(  # noqa: PLR0913 - what it brings together
        self,
        *,
        document: DesiredDocument,
        ledger: LedgerFile,
        bundles: BundleStore,
        store: ArtifactStore,
        fetcher: Fetches,
        swap: Swap,
        inner_loop: InnerLoop,
        publisher: Publisher,
        cpus: tuple[int, ...],
        mask: tuple[int, ...] | None,
        budget_mib: float | None,
    ) -> None:
        self._document, self._ledger, self._bundles, self._store = document, ledger, bundles, store
        self._fetcher, self._swap, self._inner_loop = fetcher, swap, inner_loop
        self._announcer = Announcer(publisher)
        self._cpus, self._mask, self._budget_mib = cpus, mask, budget_mib
        self._book = StageBook()
        self._oom = OomCount()
        self._choices: tuple[Choice, ...] = ()
        self._verdicts = Verdicts()
        self._stalled: set[str] = set()
        self._orders, self._rationed = Orders(), ""
        self._postponed = ""
        self._deaths: Counter[BundleRef] = Counter()

    # --- what has happened

    def renewed(self) -> None:
        """Another desired document is in force: what was tried and failed may be tried again."""
        self._verdicts.renew(time.monotonic())
        self._stalled.clear()
        self._rationed = ""
        desired = self._document.desired
        if desired is not None:
            reason = f": {desired.reason}" if desired.reason else ""
            self.ensure(f"generation {desired.generation}{reason}")
            self._collect(partial=True)  # room may be taken for what is wanted no more

    def fetched(self, done: FetchDone) -> None:
        """An artifact has come."""
        self._stalled.discard(done.ref.sha256)
        self._rationed = ""
        if done.ref.sha256 in self._manifests():
            self._collect()  # it may need the room of what is wanted no more
        self.ensure("fetched")

    def missed(self, failed: FetchFailed) -> None:
        """An artifact has not come; what does not wait for it goes on."""
        if failed.phase is None:
            self._stalled.add(failed.ref.sha256)
        elif not self._makes_room(failed):
            verdict = Verdict(failed.phase, failed.message)
            self._verdicts.miss(failed.ref.sha256, verdict, time.monotonic())
        self.ensure("a fetch failed")

    def waits(self, message: FetchWaits) -> None:
        """An artifact waits for another day; what does not wait for it goes on."""
        self._stalled.add(message.ref.sha256)
        self._rationed = message.message
        self.ensure("a fetch waits")

    def progressed(self, message: FetchProgress) -> None:
        """Some more of an artifact has come."""
        if self._rationed:
            self._stalled.discard(message.ref.sha256)
            self._rationed = ""
            self.ensure("a fetch goes on")

    def look(self) -> None:
        """The sensors have been read: what waits for battery or link may go on, or must wait."""
        if self._find_orders().reason != self._orders.reason:
            self.ensure("battery or link")

    def again(self) -> None:
        """Look at everything anew: a disk has room again, say, and nobody tells."""
        self._verdicts.expire(time.monotonic())
        self.ensure("tried again")

    def trust(self, trust: KeySets) -> None:
        """Take bundles by other keys from now on, and look at all that was refused anew."""
        self._bundles.renew(trust)
        self._verdicts.renew(time.monotonic())
        self.ensure("the fleet's keys have changed")

    def powered(self) -> None:
        """Look at the battery: what waited for it may go on, or has to wait from now on."""
        power = self._document.schedule.power
        before, self._postponed = (
            self._postponed,
            low(self._inner_loop.sample, power, self._postponed),
        )
        if bool(before) != bool(self._postponed):
            self.ensure("the battery is low" if self._postponed else "plugged in or charged")

    def use(self, cpus: tuple[int, ...], mask: tuple[int, ...] | None, cause: str) -> None:
        """Plan with other CPUs from now on, and let the runners keep to them."""
        self._cpus, self._mask = cpus, mask
        self.ensure(cause)

    def happened(self, outcomes: tuple[Outcome, ...]) -> None:
        """Act on what the runners did."""
        causes = [cause for outcome in outcomes if (cause := self._act_on(outcome))]
        if causes:
            self.ensure("; ".join(causes))
        self._resume()

    # --- what follows from it

    def ensure(self, cause: str) -> None:
        """Bring what serves closer to what is desired; `cause` is said of whatever moves."""
        desired = self._document.desired
        facts = self._facts()
        choices = () if desired is None else choose(desired, self._bundles, facts)
        self._choices = held(choices, self._running(), facts, self._postponed)
        self._fetch()
        for choice in self._choices:
            self._book.note(choice)
        self._exchange(cause)
        self._tell()

    def _fetch(self) -> None:
        """Have fetched what is missing and may come now, and note what the rest waits for."""
        self._orders = self._find_orders()
        self._choices = tuple(explained(choice, self._reason) for choice in self._choices)
        self._fetcher.limit(limits_of(self._document.schedule.downloads))
        self._fetcher.want(self._orders.now, self._donors() if self._orders.now else ())

    def _find_orders(self) -> Orders:
        downloads, sample = self._document.schedule.downloads, self._inner_loop.sample
        return orders_of(self._choices, self._store.fetched_bytes, downloads, sample)

    def _reason(self, sha256: str) -> str:
        """Say what an artifact waits for; empty: for nothing."""
        if sha256 in self._orders.held:
            return self._orders.reason
        return self._rationed if sha256 in self._stalled else ""

    def _donors(self) -> tuple[ArtifactRef, ...]:
        """Return what may be here and have chunks in common with what is fetched."""
        try:
            return needed_artifacts(self._needed(), self._bundles)
        except AgentError as error:
            log.warning("cannot look for chunks that are here: %s", error)
            return ()

    def _resume(self) -> None:
        """Go on with an exchange that had to wait for its time, or for a runner to leave."""
        serving = self._swap.serving
        settled = serving is not None and (self._waits() or serving.executes(self._serve()))
        if self._swap.next is None and not settled:
            self.ensure("restart")

    def reported(self) -> tuple[ReportedCascade, ...]:
        """Return the cascades as the reported document shows them."""
        running = self._running()
        return tuple(
            reported_cascade(choice, running, self._store.fetched_bytes, self._book.report)
            for choice in self._choices
        )

    def fits(self, sample: Sample, residency: int) -> bool:
        """Whether what a residency rung may load would go into memory and stay there."""
        desired, serving = self._document.desired, self._swap.serving
        if desired is None or serving is None:
            return True
        need = sum(self._need_mib(desired, c, residency) for c in serving.cascades)
        line = self._document.schedule.thresholds.get("memory_available_percent")
        return leaves_room(sample, need, residency, line)

    @property
    def folder(self) -> Path:
        """Where the artifacts are, each named by its SHA-256."""
        return self._store.folder

    def serving(self) -> tuple[tuple[DesiredCascade, Bundle], ...]:
        """Return what answers now, with its bundles."""
        return tuple((one, self._bundles.bundle(one)) for one in self._running().serving)

    def with_deaths(self, counted: tuple[CascadeStats, ...]) -> tuple[CascadeStats, ...]:
        """Return a runner's statistics with what it cannot know: how often one died of them."""
        return with_deaths(counted, self._deaths)

    # --- facts

    def _facts(self) -> Facts:
        return Facts(self._ledger.now, self._budget_mib, self._verdicts.now)

    def _running(self) -> Running:
        serving, starting = self._swap.serving, self._swap.next
        return Running(serving.cascades if serving else (), starting.cascades if starting else ())

    def _waits(self) -> bool:
        """Whether something still comes in: one exchange for all of it is better than one each."""
        return any(
            ref.sha256 not in self._stalled and ref.sha256 not in self._orders.held
            for choice in self._choices
            for ref in choice.missing
        )

    def _serve(self) -> tuple[DesiredCascade, ...]:
        """Return what should serve, by the last choice."""
        return tuple(choice.serve for choice in self._choices if choice.serve is not None)

    def _plans(self, cascades: tuple[DesiredCascade, ...]) -> tuple[CascadePlan, ...]:
        desired = self._document.desired
        if desired is None:
            return ()
        pairs = [(cascade, self._bundles.bundle(cascade)) for cascade in cascades]
        return runner_plans(desired, pairs, self._inner_loop.rungs, self._cpus)

    def _lineup(self, cascades: tuple[DesiredCascade, ...]) -> Lineup:
        assignments = tuple(
            Assignment(
                bundle=self._bundles.bundle(cascade),
                variants=cascade.variants,
                dropped=cascade.dropped,
                folder=str(self._store.folder),
            )
            for cascade in cascades
        )
        return Lineup(
            cascades, Assign(assignments=assignments, plans=self._plans(cascades), mask=self._mask)
        )

    def _is_roomy(self, cascades: tuple[DesiredCascade, ...]) -> bool:
        desired = self._document.desired
        if desired is None:
            return True
        rung = self._inner_loop.rungs.residency
        need = sum(needed_mib(desired, c, self._bundles.bundle(c), rung) for c in cascades)
        return is_roomy(self._inner_loop.sample, need)

    def _need_mib(self, desired: Desired, cascade: DesiredCascade, residency: int) -> float:
        bundle = self._bundles.bundle(cascade)
        sizes = {
            stage.name: self._book.entry(cascade, stage.name).loaded_mib or load_mib(cascade, stage)
            for stage in bundle.stages
            if stage.name not in cascade.dropped
        }
        rung = schedule_of(desired, bundle).residency[residency]
        return rung_mib(rung, sizes, self._book.loaded(cascade))

    # --- consequences

    def _act_on(self, outcome: Outcome) -> str:
        """Note an outcome; return what is to be looked at anew for it, empty: nothing."""
        match outcome:
            case Moved():
                self._moved(outcome)
            case Counted(stats):
                self._book.sync(self._running().serving, stats)
            case TurnedDown(cascade, message):
                self._book.cue_all(cascade, "fail")
                self._reject(cascade, message)
                return f"{cascade.bundle.name} was rejected"
            case Died():
                self._died(outcome)
                return "the runner died"
            case Serving(cascades):
                self._took_over(cascades)
                return "took over"
        return ""

    def _exchange(self, cause: str) -> None:
        """Give what serves its targets, and replace it if something else should serve."""
        serve, serving = self._serve(), self._swap.serving
        if serving is not None:
            wanted = {choice.wanted.bundle.name for choice in self._choices}
            stay = tuple(c for c in serving.cascades if c.bundle.name in wanted)
            self._swap.apply(self._plans(stay), cause, self._mask)
        if serving is None or not self._waits():
            self._swap.ensure(self._lineup(serve), roomy=self._is_roomy(serve))
        if self._swap.next is not None:
            for cascade in self._swap.next.cascades:
                self._book.cue_all(cascade, "start")

    def _tell(self) -> None:
        running = self._running()
        self._announcer.phases(
            {
                choice.wanted.bundle.name: (
                    choice.wanted,
                    (phase_of(choice, running), choice.message),
                )
                for choice in self._choices
            }
        )

    def _moved(self, moved: Moved) -> None:
        change = moved.change
        for cascade in moved.cascades:
            if cascade.bundle.name == change.cascade:
                before = self._book.entry(cascade, change.stage).threads
                self._book.changed(cascade, change)
                self._announcer.stage(change, before, time.monotonic())

    def _reject(self, cascade: DesiredCascade, message: str) -> None:
        proven = not unproven(self._ledger.now, (cascade,))
        self._verdicts.reject(cascade.identity, message, time.monotonic(), proven=proven)

    def _died(self, died: Died) -> None:
        still = {cascade.identity for cascade in self._running().serving}
        for cascade in died.cascades:
            if cascade.identity not in still:
                self._book.cue_all(cascade, "gone")
        if died.late and not died.ready:
            for cascade in unproven(self._ledger.now, died.suspects or died.cascades):
                self._reject(cascade, wording.not_ready(cascade, READY_WITHIN_S))
        finding = inquire(self._ledger.now, died, oom=self._oom.rose(), now_ts=time.time())
        self._ledger.note(finding.ledger)
        self._deaths.update(cascade.bundle for cascade in finding.blamed)
        self._announcer.died(finding.message)

    def _took_over(self, cascades: tuple[DesiredCascade, ...]) -> None:
        wanted = tuple(choice.wanted for choice in self._choices)
        names = frozenset(cascade.bundle.name for cascade in wanted)
        self._ledger.note(self._ledger.now.with_good(cascades, names))
        self._announcer.served(cascades, frozenset(cascade.identity for cascade in wanted))
        self._book.keep((*cascades, *wanted))
        self._collect()

    def _collect(self, *, partial: bool = False) -> None:
        """Delete what nothing that runs, is wanted or may be returned to needs.

        Args:
            partial: only of what has not come whole.
        """
        wanted = tuple(choice.wanted for choice in self._choices)
        if all(self._bundles.has(cascade.bundle.artifact) for cascade in wanted):
            self._delete(partial=partial)  # else what these need is not known yet, and may be here

    def _makes_room(self, failed: FetchFailed) -> bool:
        """Where the disk has not taken a manifest, delete what lies in its way; whether it helps.

        What its bundle needs is not known without it, and may be among that. Then it is fetched
        once more, which is better than a bundle that never comes.
        """
        is_in_the_way = failed.phase == "refused" and failed.ref.sha256 in self._manifests()
        return is_in_the_way and self._delete(partial=True) > 0

    def _delete(self, *, partial: bool) -> int:
        """Delete what is not known to be needed, see `_collect`; return the bytes freed."""
        try:
            kept = kept_artifacts(self._needed(), self._bundles) | self._manifests()
            return self._bundles.keep(kept, partial=partial)
        except (AgentError, OSError) as error:
            log.warning("cannot look for artifacts that nobody needs: %s", error)
            return 0

    def _manifests(self) -> frozenset[str]:
        """Return the digests of the manifests of what is wanted, here or not."""
        return frozenset(choice.wanted.bundle.artifact.sha256 for choice in self._choices)

    def _needed(self) -> tuple[DesiredCascade, ...]:
        """Return what runs, is wanted or may be returned to."""
        running = self._running()
        good = [c for kept in self._ledger.now.good.values() for c in kept]
        wanted = [choice.wanted for choice in self._choices]
        return (*running.serving, *running.starting, *good, *wanted)
