"""The runner: stages that come and go by a plan, and requests that wait for them.

Each stage takes its requests one after the other. A stage that has to leave lets out who is inside
first, as the runner does. What is left out: queueing within a second that is not full.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agent.runner.admission import MAX_INSIDE, MAX_SPACED, MAX_SPACED_S
from agent.runner.control import CascadePlan, StageTarget
from agent.runner.pacing import Spacing, TokenBucket
from tests.plant.body import Body
from tests.plant.pictures import Model, Work

_BUCKETS = 40
"""Of latency, to a power of ten: each is 6 % wide."""


@dataclass(slots=True)
class Tally:
    """What a day came to.

    `well`: answered by the stage that should have answered. `degraded`: by an earlier one.
    `denied_core_s`: what others wanted of the CPUs and did not get because of us.
    """

    well: int = 0
    degraded: int = 0
    refused: int = 0
    lost: int = 0
    kills: int = 0
    loads: int = 0
    right: float = 0.0
    core_s: float = 0.0
    mib_s: float = 0.0
    used_wh: float = 0.0
    denied_core_s: float = 0.0
    latency: dict[int, int] = field(default_factory=dict)

    @property
    def served(self) -> int:
        """Answers of any kind."""
        return self.well + self.degraded

    @property
    def asked(self) -> int:
        """Requests that came."""
        return self.served + self.refused + self.lost

    @property
    def accuracy(self) -> float:
        """Expected share of right answers, of those that were given."""
        return self.right / self.served if self.served else math.nan

    def took(self, latency_s: float, count: int) -> None:
        """Count answers that took so long."""
        bucket = round(_BUCKETS * math.log10(max(latency_s, 1e-6)))
        self.latency[bucket] = self.latency.get(bucket, 0) + count

    def quantile_ms(self, share: float) -> float:
        """Return a quantile of latency, to 6 %."""
        left = share * sum(self.latency.values())
        for bucket, count in sorted(self.latency.items()):
            left -= count
            if left <= 0:
                return float(1e3 * 10 ** (bucket / _BUCKETS))
        return math.nan


@dataclass(slots=True)
class Slot:
    """One stage: loaded or not, and the work that waits for it.

    Attributes:
        work_s: answers that wait, in seconds of one core of speed 1.
        loading_s: a load that is under way, likewise.
        rate: seconds of work done in a second; `single` with one thread.
        share: of their CPUs that its threads get.
    """

    name: str
    model: Model
    target: StageTarget
    loaded: bool = False
    used_s: float = 0.0
    work_s: float = 0.0
    loading_s: float = 0.0
    rate: float = 1.0
    single: float = 1.0
    share: float = 1.0
    _speeds: tuple[StageTarget, float, float] | None = None

    @property
    def waiting(self) -> float:
        """How many requests are inside."""
        return self.work_s / self.model.core_s

    def wait_s(self) -> float:
        """Return how long it takes until all that waits is done."""
        return self.loading_s / self.single + self.work_s / self.rate

    def answer_s(self) -> float:
        """Return how long an answer takes."""
        return self.model.core_s / self.rate

    def tune(self, body: Body, threads_busy: int) -> None:
        """Take speed and share from the device as it is now."""
        target = self.target
        if self._speeds is None or self._speeds[0] is not target:
            single, together = (
                body.picture.speed_of(target.cpus, n) * n**self.model.gain
                for n in (1, target.threads)
            )
            self._speeds = target, single, together
        self.share = body.share(max(threads_busy, target.threads), target.cpus, target.nice)
        scale = body.slowdown * self.share
        self.single, self.rate = self._speeds[1] * scale, self._speeds[2] * scale

    def run(self) -> float:
        """Work for a second; return the CPU seconds that it took."""
        loading_s = min(1.0, self.loading_s / self.single)
        self.loading_s = max(0.0, self.loading_s - loading_s * self.single)
        busy_s = min(1.0 - loading_s, self.work_s / self.rate)
        self.work_s = max(0.0, self.work_s - busy_s * self.rate)
        return self.share * (loading_s + busy_s * self.target.threads)


class Serving:
    """One cascade in the runner."""

    def __init__(self, work: Work, variants: Mapping[str, str], plan: CascadePlan) -> None:
        self.work, self.plan = work, plan
        targets = {target.name: target for target in plan.stages}
        self.slots = {
            name: Slot(name, work.models[name, variant], targets[name])
            for name, variant in variants.items()
        }
        certificate = work.bundle.certificate(dict(variants))
        self._ladder = certificate.gates["small"] if certificate else ()
        self._bucket, self._spacing = TokenBucket(), Spacing()

    @property
    def small(self) -> Slot:
        """The first stage."""
        return self.slots["small"]

    @property
    def large(self) -> Slot:
        """The last stage."""
        return self.slots["large"]

    def follow(self, plan: CascadePlan, now_s: float) -> None:
        """Take over a plan."""
        self.plan = plan
        self._bucket.reset(plan.escalations_per_s, now_s)
        for target in plan.stages:
            self.slots[target.name].target = target

    def tidy(self, now_s: float) -> None:
        """Let stages leave that must, and that nobody has used for long."""
        kept, idle_s = False, self.plan.idle_unload_s
        for slot in self.slots.values():
            if not slot.loaded:
                continue
            spare = self.plan.one_at_a_time and kept
            residence = slot.target.residence
            idle = residence == "on_demand" and idle_s and now_s - slot.used_s >= idle_s
            if (residence == "out" or spare or idle) and not slot.work_s:
                slot.loaded = False
            else:
                kept = True

    def missing(self) -> Iterator[Slot]:
        """Yield the stages that should be loaded and are not."""
        for slot in self.slots.values():
            room = not self.plan.one_at_a_time or not any(s.loaded for s in self.slots.values())
            if slot.target.residence == "resident" and not slot.loaded and room:
                yield slot

    def admit(self, hardness: Sequence[float], now_s: float) -> tuple[Sequence[float], float]:
        """Return the requests that come in, and how long the last of them has to wait."""
        inside = sum(slot.waiting for slot in self.slots.values())
        room = max(0, MAX_INSIDE - math.ceil(inside))
        interval_s = self.plan.request_interval_s
        if not interval_s:
            return hardness[:room], 0.0
        longest = min(MAX_SPACED_S, MAX_SPACED * interval_s)
        waits = [
            self._spacing.wait_s(interval_s, now_s + n / len(hardness), longest)
            for n in range(len(hardness))
        ]
        admitted = [h for h, wait in zip(hardness, waits, strict=True) if wait is not None]
        return admitted[:room], max((wait for wait in waits if wait is not None), default=0.0)

    def grant(self, wanted: int, now_s: float) -> int:
        """Return how many of the requests that want to go on may."""
        return self._bucket.take(wanted, now_s)

    def step(self) -> tuple[float, float]:
        """Return (eps, escalated) of the gate as it stands."""
        found = self._ladder[min(self.plan.threshold_index, len(self._ladder) - 1)]
        return found.eps, found.escalated

    def swaps(self) -> bool:
        """Whether each of its stages makes the other leave."""
        return self.plan.one_at_a_time and self.large.target.residence != "out"


class Runner:
    """All cascades in one process, whose memory the kernel may take away.

    Args:
        body: the device.
        tally: counts.
        budget_mib: at most so much is loaded, by the models' declared sizes: what was not used for
            longest leaves first; None: the plans alone say what is loaded.
    """

    def __init__(self, body: Body, tally: Tally, budget_mib: float | None = None) -> None:
        self._body, self._tally, self._budget_mib = body, tally, budget_mib
        self.cascades: dict[str, Serving] = {}

    @property
    def slots(self) -> list[Slot]:
        """All stages."""
        return [slot for serving in self.cascades.values() for slot in serving.slots.values()]

    @property
    def mib(self) -> float:
        """What the models take."""
        return sum(slot.model.mib for slot in self.slots if slot.loaded)

    def die(self) -> None:
        """Lose everything, those who wait included."""
        for slot in self.slots:
            lost = min(round(slot.waiting), self._tally.well)
            self._tally.well -= lost
            self._tally.lost += lost
            slot.loaded, slot.work_s, slot.loading_s = False, 0.0, 0.0

    def arrange(self, now_s: float) -> None:
        """Unload first, then load what should be resident."""
        for serving in self.cascades.values():
            serving.tidy(now_s)
        for serving in self.cascades.values():
            for slot in serving.missing():
                self._load(slot, now_s)

    def serve(self, requests: Sequence[Sequence[float]], now_s: float) -> None:
        """Take a second's requests in."""
        slots = self.slots
        busy = sum(slot.target.threads for slot in slots if slot.work_s or slot.loading_s)
        for slot in slots:
            slot.tune(self._body, busy)
        for serving, hardness in zip(self.cascades.values(), requests, strict=True):
            if not hardness:
                continue
            if serving.plan.paused is not None:
                self._tally.refused += len(hardness)
            else:
                self._answer(serving, hardness, now_s)

    def work(self) -> float:
        """Let a second pass; return the CPU seconds that it took."""
        spent = sum(slot.run() for slot in self.slots if slot.work_s or slot.loading_s)
        self._tally.core_s += spent
        self._tally.mib_s += self.mib
        return spent

    def _answer(self, serving: Serving, asked: Sequence[float], now_s: float) -> None:
        admitted, spaced_s = serving.admit(asked, now_s)
        self._tally.refused += len(asked) - len(admitted)
        if not admitted:
            return
        eps, share = serving.step()
        hard = sum(one < share for one in admitted)
        small, large = serving.small, serving.large
        self._use(small, now_s, len(admitted), serving)
        small_s = spaced_s + _latency(small, len(admitted))
        can_go = large.target.residence != "out"
        granted = serving.grant(hard, now_s) if hard and can_go else 0
        self._tally.took(small_s, len(admitted) - granted)
        if granted:
            self._use(large, now_s, granted, serving)
            self._tally.took(small_s + _latency(large, granted), granted)
            if serving.swaps():
                self._swap(serving, granted, asked_last=admitted[-1] < share)
        self._count(serving.work, eps, share, len(admitted), hard - granted)

    def _count(self, work: Work, eps: float, share: float, given: int, degraded: int) -> None:
        """Count answers; one that is degraded is right as often as the first stage is there."""
        self._tally.well += given - degraded
        self._tally.degraded += degraded
        lost = degraded * (work.gap - eps) / share
        self._tally.right += given * (work.accuracy - eps) - lost

    def _use(self, slot: Slot, now_s: float, count: int, serving: Serving) -> None:
        if not slot.loaded:
            if serving.plan.one_at_a_time:
                for other in serving.slots.values():
                    other.loaded = False
            self._load(slot, now_s)
        slot.used_s = now_s
        slot.work_s += count * slot.model.core_s

    def _swap(self, serving: Serving, count: int, *, asked_last: bool) -> None:
        """Load the first stage again after each of the last one's answers, but for the last."""
        small, large = serving.small, serving.large
        large.loading_s += (count - 1) * large.model.load_s
        small.loading_s += (count - asked_last) * small.model.load_s
        self._tally.loads += 2 * count - 1 - asked_last
        small.loaded, large.loaded = not asked_last, asked_last

    def _load(self, slot: Slot, now_s: float) -> None:
        if self._budget_mib is not None:
            self._evict(slot, self._budget_mib)
        slot.loaded, slot.used_s = True, now_s
        slot.loading_s += slot.model.load_s
        self._tally.loads += 1

    def _evict(self, newcomer: Slot, budget_mib: float) -> None:
        loaded = sorted((s for s in self.slots if s.loaded), key=lambda slot: slot.used_s)
        need = newcomer.model.declared_mib + sum(s.model.declared_mib for s in loaded)
        for slot in loaded:
            if need <= budget_mib:
                return
            slot.loaded = False
            need -= slot.model.declared_mib


def _latency(slot: Slot, count: int) -> float:
    """Return the mean time of answers that have just been added to what waits."""
    own_s = count * slot.answer_s()
    before_s = slot.wait_s() - own_s
    return before_s + slot.answer_s() + max(0.0, own_s - 1.0) / 2
