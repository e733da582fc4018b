"""A cascade that answers requests, by the plan that is in force."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from agent.runner.admission import Admission, RefusedError
from agent.runner.cascade import certified, course, rules
from agent.runner.control import Assignment, CascadePlan
from agent.runner.pacing import TokenBucket
from agent.runner.residency import Residency
from agent.runner.stages import StageSlot, percentiles
from agent.runner.walk import Answer, Route, Walk
from agent.runner.worker import RECENT
from protocols.bundle import CONFIDENCE_BINS
from protocols.device import CascadeStats, StageStats
from protocols.inference.gate import confidence_bin
from protocols.inference.tensors import TensorError


class Cascade:
    """One bundle, as this runner serves it.

    A request is answered by the plan that was in force when it came in, except that a stage which
    has been taken away meanwhile is gone for it too.
    """

    def __init__(
        self,
        assignment: Assignment,
        plan: CascadePlan,
        slots: dict[str, StageSlot],
        wake: Callable[[], None],
    ) -> None:
        self.bundle = assignment.bundle
        self.stage_names = tuple(stage.name for stage in self.bundle.stages)
        self._variants = assignment.variants
        self._calibrated = certified(self.bundle, self._variants)
        self._counting = threading.Lock()
        self._bucket = TokenBucket()
        self._bucket.reset(plan.escalations_per_s, time.monotonic())
        self._answers = self._degraded = self._refused = self._failed = self._escalated = 0
        self._recent_ms: deque[float] = deque(maxlen=RECENT)
        self._admission = Admission(plan)
        first = rules(self.bundle, self._variants, plan, "assigned")
        self._residency = Residency([slots.get(n) for n in self.stage_names], first, wake)
        self._route = Route(self.bundle, self._residency)
        self._confidence = [0] * CONFIDENCE_BINS

    # --- what requests see

    @property
    def certified(self) -> bool:
        """Whether an answer that is not degraded stands under a certificate."""
        return self._calibrated and self._residency.rules.plan.certified

    def unready(self) -> str | None:
        """Say why requests would be refused now; None: they are answered."""
        now = self._residency.rules
        if now.plan.paused is not None:
            return now.plan.paused
        if not course(self._route.steps, self._residency.usable(now)):
            return f"no stage that could answer may be in memory ({now.cause})"
        return None

    def answer(self, batch: NDArray[Any]) -> list[Answer]:
        """Answer samples one by one.

        Args:
            batch: [n, *sample shape], in the bundle's input dtype, or float32 for real values of a
                quantized one.

        Raises:
            RefusedError: paused, full, or no stage that can answer is allowed in memory.
            TensorError: a sample's values do not fit the model's input.
            InferenceError: the interpreter gave up.
        """
        began = time.perf_counter()
        try:
            with self._admission.admitted():
                answers = self._walked(batch)
        except TensorError:  # the client's fault
            raise
        except RefusedError:
            with self._counting:
                self._refused += 1
            raise
        except Exception:
            with self._counting:
                self._failed += 1
            raise
        self._count(answers, (time.perf_counter() - began) * 1e3)
        return answers

    def hurry(self) -> None:
        """Let spaced requests go at once: the runner drains."""
        self._admission.hurry()

    # --- what the supervisor orders

    def set_plan(self, plan: CascadePlan, cause: str) -> None:
        """Decide by another plan from now on; `free`, `shrink` and `grow` then move the stages.

        It waits for no move that is under way.
        """
        with self._counting:
            self._bucket.reset(plan.escalations_per_s, time.monotonic())
        self._residency.decide(rules(self.bundle, self._variants, plan, cause))
        self._admission.set_plan(plan)

    def free(self) -> None:
        """Unload what has to go, whatever else is being moved."""
        self._residency.free()

    def shrink(self) -> None:
        """Unload what the plan keeps out, and all but one where only one may stay."""
        self._residency.shrink()

    def grow(self) -> None:
        """Give loaded stages their threads, and load what should be resident."""
        self._residency.grow()

    def tidy(self, now_s: float) -> float | None:
        """Unload stages that have been idle too long; return when to look again."""
        return self._residency.tidy(now_s)

    def stats(self) -> CascadeStats:
        """Return what it did since the runner started; samples, except `refused` and `failed`."""
        with self._counting:
            p50, p95 = percentiles(list(self._recent_ms))
            return CascadeStats(
                name=self.bundle.name,
                version=self.bundle.version,
                stages=tuple(self._stage_stats()),
                answers=self._answers,
                degraded=self._degraded,
                refused=self._refused,
                failed=self._failed,
                escalated=self._escalated,
                p50_ms=p50,
                p95_ms=p95,
            )

    # --- a request

    def _walked(self, batch: NDArray[Any]) -> list[Answer]:
        """Walk by the rules of now; again, if they left no way and others have come meanwhile."""
        while True:
            now = self._residency.rules
            try:
                return Walk(self._route, now, batch, self._pay, self._heed).go()
            except RefusedError:
                if self._residency.rules is now:
                    raise

    def _pay(self, wanted: int) -> int:
        with self._counting:
            granted = self._bucket.take(wanted, time.monotonic())
            self._escalated += granted
        return granted

    def _heed(self, confidence: float) -> None:
        at = confidence_bin(confidence)
        if at is not None:
            with self._counting:
                self._confidence[at] += 1

    def _stage_stats(self) -> Iterator[StageStats]:
        """Yield what every stage did; the first gate also how sure it was."""
        for at, slot in enumerate(self._residency.slots):
            if slot is not None:
                counts = tuple(self._confidence) if at == self._route.first_gate else None
                yield slot.stats().model_copy(update={"confidence": counts})

    def _count(self, answers: Sequence[Answer], took_ms: float) -> None:
        with self._counting:
            self._answers += len(answers)
            self._recent_ms.append(took_ms)
            for answer in answers:
                self._degraded += answer.degraded
                slot = self._residency.slots[answer.stage]
                if slot is not None:
                    slot.answers += 1
