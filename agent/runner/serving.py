"""A cascade that answers: admission, the walk through its stages, their coming and going."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from agent.runner.cascade import certified, course, steps, threshold
from agent.runner.control import Assignment, CascadePlan, StageTarget
from agent.runner.pacing import Spacing, TokenBucket
from agent.runner.stages import Setting, StageError, StageSlot, Tensors, Worker, percentiles
from protocols.device import CascadeStats
from protocols.errors import SluiceError
from protocols.inference.gate import confidence, probabilities
from protocols.inference.runtime import ModelError
from protocols.inference.tensors import from_sample, hand_on, real

MAX_INSIDE = 128
MAX_SPACED = 64
MAX_SPACED_S = 10.0
_RECENT = 512


class RefusedError(SluiceError):
    """No answer now, on purpose: paused, unloaded or full. Ask again later."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class InferenceError(SluiceError):
    """No answer: the interpreter gave up on this request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a cascade says of one sample."""

    values: NDArray[Any]
    """In the bundle's output shape and dtype."""
    stage: int
    degraded: bool = False
    """A later stage should have looked at it, and could not."""


@dataclass(slots=True)
class _Walk:
    """One request on its way: samples that still want an answer, and what is known of them."""

    batch: NDArray[Any]
    pending: list[int]
    answers: dict[int, Answer] = field(default_factory=dict)
    outputs: dict[tuple[int, int], Tensors] = field(default_factory=dict)
    """By (stage, sample), of stages that a later one reads."""
    admitted: set[int] = field(default_factory=set)
    """Samples whose escalation has been paid for, until the next answer."""
    error: SluiceError | None = None


@dataclass(frozen=True, slots=True)
class _Rules:
    """A plan, and what follows from it. A request keeps to the rules that it came in under."""

    plan: CascadePlan
    cause: str
    thresholds: tuple[float, ...]
    """By stage: the confidence from which an answer leaves there."""
    targets: tuple[StageTarget, ...]
    """By stage; one that the plan does not name is out."""


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
        self.name = self.bundle.name
        self._variants = assignment.variants
        self._walk = steps(self.bundle.stages)
        self._slots = [slots.get(step.name) for step in self._walk]
        self._gated = any(step.metric for step in self._walk)
        self._certified = certified(self.bundle, self._variants)
        self._output = self.bundle.output
        self._read = {step.source for step in self._walk}
        self._wake = wake
        self._moving = threading.RLock()
        self._counting = threading.Lock()
        self._hurry = threading.Event()
        self._inside = self._waiting = 0
        self._spacing, self._bucket = Spacing(), TokenBucket()
        self._answers = self._degraded = self._refused = self._failed = self._escalated = 0
        self._recent_ms: deque[float] = deque(maxlen=_RECENT)
        self._rules = self._ruled(plan, "assigned")

    # --- what requests see

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stages, in order; an `Answer.stage` is an index into them."""
        return tuple(step.name for step in self._walk)

    @property
    def certified(self) -> bool:
        """Whether an answer that is not degraded stands under a certificate."""
        return self._certified and self._rules.plan.certified

    def unready(self) -> str | None:
        """Say why requests would be refused now; None: they are answered."""
        rules = self._rules
        if rules.plan.paused is not None:
            return rules.plan.paused
        if not course(self._walk, self._usable(rules)):
            return f"no stage that could answer may be in memory ({rules.cause})"
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
            with self._admitted():
                walk = self._visit(batch)
        except RefusedError:
            with self._counting:
                self._refused += 1
            raise
        except InferenceError:
            with self._counting:
                self._failed += 1
            raise
        answers = [walk.answers[index] for index in range(len(batch))]
        self._count(answers, (time.perf_counter() - began) * 1e3)
        return answers

    def hurry(self) -> None:
        """Let spaced requests go at once: the runner drains."""
        self._hurry.set()

    # --- what the supervisor orders

    def set_plan(self, plan: CascadePlan, cause: str) -> None:
        """Decide by another plan from now on; `shrink` and `grow` then move the stages."""
        with self._counting:
            self._rules = self._ruled(plan, cause)

    def shrink(self) -> None:
        """Unload what the plan keeps out, and all but one where only one may stay."""
        with self._moving:
            rules, kept = self._rules, False
            for slot, target in self._present():
                if not slot.loaded:
                    continue
                if target.residence == "out" or (rules.plan.one_at_a_time and kept):
                    slot.unload(rules.cause)
                else:
                    kept = True

    def grow(self) -> None:
        """Give loaded stages their threads, and load what should be resident."""
        with self._moving:
            rules = self._rules
            for slot, target in self._present():
                try:
                    if slot.loaded:
                        self._retune(slot, target, rules)
                    elif target.residence == "resident" and self._has_room(rules):
                        slot.load(Setting.of(target), rules.cause)
                except StageError as error:
                    slot.report_failure(error, rules.cause)

    def tidy(self, now_s: float) -> float | None:
        """Unload stages that have been idle too long; return when to look again."""
        with self._moving:
            rules, due = self._rules, []
            idle_s = rules.plan.idle_unload_s
            if idle_s is None:
                return None
            for slot, target in self._present():
                if not slot.loaded or target.residence != "on_demand":
                    continue
                if now_s - slot.used_s >= idle_s:
                    slot.unload(f"unused for {idle_s:g} s; {rules.cause}")
                else:
                    due.append(slot.used_s + idle_s)
            return min(due, default=None)

    def slot(self, stage: str) -> StageSlot | None:
        """Return a stage's slot; None: the stage is dropped on this device."""
        return self._slots[self.stage_names.index(stage)]

    def stats(self) -> CascadeStats:
        """Return what it did since the runner started; samples, except `refused` and `failed`."""
        with self._counting:
            p50, p95 = percentiles(list(self._recent_ms))
            return CascadeStats(
                name=self.name,
                version=self.bundle.version,
                stages=tuple(slot.stats() for slot in self._slots if slot is not None),
                answers=self._answers,
                degraded=self._degraded,
                refused=self._refused,
                failed=self._failed,
                escalated=self._escalated,
                p50_ms=p50,
                p95_ms=p95,
            )

    # --- admission

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[None]:
        with self._counting:
            plan = self._rules.plan
            if plan.paused is not None:
                raise self._refusal(plan.paused)
            if self._inside >= MAX_INSIDE:
                raise self._refusal(f"{MAX_INSIDE} requests are under way")
            self._inside += 1
        try:
            self._take_turn(plan)
            yield
        finally:
            with self._counting:
                self._inside -= 1

    def _take_turn(self, plan: CascadePlan) -> None:
        """Wait for this request's turn where requests are spaced."""
        if not plan.request_interval_s or self._hurry.is_set():
            return
        with self._counting:
            wait_s = None
            if self._waiting < MAX_SPACED:
                wait_s = self._spacing.wait_s(
                    plan.request_interval_s, time.monotonic(), MAX_SPACED_S
                )
            if wait_s is None:
                raise self._refusal(
                    f"requests are {plan.request_interval_s:g} s apart and too many wait"
                )
            self._waiting += 1
        self._hurry.wait(wait_s)
        with self._counting:
            self._waiting -= 1
        paused = self._rules.plan.paused
        if paused is not None:
            raise self._refusal(paused)

    def _refusal(self, why: str) -> RefusedError:
        return RefusedError(f"cannot infer: {self.name}: {why}", self._rules.plan.retry_after_s)

    # --- the walk

    def _visit(self, batch: NDArray[Any]) -> _Walk:
        rules = self._rules
        usable = self._usable(rules)
        walk = _Walk(batch, list(range(len(batch))))
        at = -1
        while walk.pending:
            following = [index for index in course(self._walk, usable) if index > at]
            if not following:
                break
            at = following[0]
            samples = self._escalating(walk)
            if not samples:
                continue
            try:
                self._ask(walk, at, samples, rules)
            except (StageError, ModelError) as error:
                walk.error = error
                usable.discard(at)
        return self._settled(walk)

    def _ask(self, walk: _Walk, at: int, samples: list[int], rules: _Rules) -> None:
        """Let one stage look at samples; those that it answers surely are no longer pending."""
        slot = self._slots[at]
        if slot is None:
            raise StageError(f"cannot use {self.name}/{self._walk[at].name}: dropped")
        with self._using(at, slot) as worker:
            inputs = [self._inputs(walk, at, sample, slot) for sample in samples]
            outputs = worker.answer(inputs)
        for sample, tensors in zip(samples, outputs, strict=True):
            if at in self._read:
                walk.outputs[at, sample] = tensors
            if self._walk[at].answers:
                self._judge(walk, at, sample, tensors, rules)

    def _inputs(self, walk: _Walk, at: int, sample: int, slot: StageSlot) -> Tensors:
        specs = slot.variant.inputs
        source = self._walk[at].source
        if source is None:
            return [from_sample(walk.batch[sample], self.bundle.input, specs[0])]
        before = self._slots[source]
        if before is None:
            raise StageError(f"cannot use {self.name}/{slot.name}: it reads a dropped stage")
        outputs = walk.outputs[source, sample]
        return [
            hand_on(values, have, want)
            for values, have, want in zip(outputs, before.variant.outputs, specs, strict=True)
        ]

    def _judge(self, walk: _Walk, at: int, sample: int, tensors: Tensors, rules: _Rules) -> None:
        """Keep a stage's answer; the sample leaves if the gate is sure or there is no other."""
        step, slot = self._walk[at], self._slots[at]
        if slot is None:
            return
        variant = slot.variant
        spec, scores = variant.outputs[variant.scores], tensors[variant.scores]
        if not self._gated:
            values = hand_on(scores, spec, self._output)
            sure = True
        else:
            values = probabilities(real(scores, spec), variant.score_kind)
            sure = step.metric is None or (confidence(values, step.metric) >= rules.thresholds[at])
            values = values.reshape(self.bundle.output.shape)
        walk.answers[sample] = Answer(values, at)
        walk.admitted.discard(sample)
        if sure:
            walk.pending.remove(sample)

    def _escalating(self, walk: _Walk) -> list[int]:
        """Return the pending samples that may go on; the others keep the answer they have."""
        unpaid = [s for s in walk.pending if s in walk.answers and s not in walk.admitted]
        with self._counting:
            granted = self._bucket.take(len(unpaid), time.monotonic()) if unpaid else 0
            self._escalated += granted
        walk.admitted.update(unpaid[:granted])
        for sample in unpaid[granted:]:
            self._degrade(walk, sample)
            walk.pending.remove(sample)
        return list(walk.pending)

    def _settled(self, walk: _Walk) -> _Walk:
        """Give the samples that no stage is left for the answer they have, marked degraded."""
        for sample in walk.pending:
            if sample not in walk.answers:
                if isinstance(walk.error, ModelError):
                    raise InferenceError(f"cannot infer: {walk.error}")
                raise self._refusal(str(walk.error or self.unready()))
            self._degrade(walk, sample)
        walk.pending.clear()
        return walk

    def _degrade(self, walk: _Walk, sample: int) -> None:
        answer = walk.answers[sample]
        walk.answers[sample] = Answer(answer.values, answer.stage, degraded=True)

    # --- stages coming and going

    @contextlib.contextmanager
    def _using(self, at: int, slot: StageSlot) -> Iterator[Worker]:
        worker = slot.enter() or self._summon(at, slot)
        try:
            yield worker
        finally:
            slot.leave(worker)

    def _summon(self, at: int, slot: StageSlot) -> Worker:
        """Load a stage because a request needs it.

        Raises:
            StageError: it may not be loaded now, or does not load.
        """
        with self._moving:
            worker = slot.enter()
            if worker is not None:
                return worker
            rules = self._rules
            if at not in self._usable(rules):
                raise StageError(f"cannot use {slot.title}: {rules.cause}")
            self._make_room(slot, rules)
            try:
                slot.load(Setting.of(rules.targets[at]), f"a request needs it; {rules.cause}")
            except StageError as error:
                slot.report_failure(error, rules.cause)
                raise
            worker = slot.enter()
        self._wake()
        if worker is None:
            raise StageError(f"cannot use {slot.title}: it has been unloaded")
        return worker

    def _make_room(self, newcomer: StageSlot, rules: _Rules) -> None:
        if rules.plan.one_at_a_time:
            for slot, _target in self._present():
                slot.unload(f"makes room for {newcomer.name}; {rules.cause}")

    def _has_room(self, rules: _Rules) -> bool:
        return not rules.plan.one_at_a_time or not any(s.loaded for s, _t in self._present())

    def _retune(self, slot: StageSlot, target: StageTarget, rules: _Rules) -> None:
        """Change threads; where only one stage may be in memory, two workers may not either."""
        setting = Setting.of(target)
        if rules.plan.one_at_a_time and slot.differs(setting):
            slot.unload(f"comes back with {setting.threads} threads; {rules.cause}")
        else:
            slot.retune(setting, rules.cause)

    def _present(self) -> list[tuple[StageSlot, StageTarget]]:
        """Return the stages that are not dropped, with what the plan says of them."""
        pairs = zip(self._slots, self._rules.targets, strict=True)
        return [(slot, target) for slot, target in pairs if slot is not None]

    def _usable(self, rules: _Rules) -> set[int]:
        pairs = enumerate(zip(self._slots, rules.targets, strict=True))
        return {
            index
            for index, (slot, target) in pairs
            if slot is not None
            and target.residence != "out"
            and (slot.loaded or not slot.failing())
        }

    def _ruled(self, plan: CascadePlan, cause: str) -> _Rules:
        self._bucket.reset(plan.escalations_per_s, time.monotonic())
        named = {target.name: target for target in plan.stages}
        return _Rules(
            plan=plan,
            cause=cause,
            thresholds=tuple(
                threshold(self.bundle, self._variants, step.name, plan.threshold_index)
                for step in self._walk
            ),
            targets=tuple(
                named.get(step.name, StageTarget(name=step.name, residence="out"))
                for step in self._walk
            ),
        )

    # --- counting

    def _count(self, answers: Sequence[Answer], took_ms: float) -> None:
        with self._counting:
            self._answers += len(answers)
            self._recent_ms.append(took_ms)
            for answer in answers:
                self._degraded += answer.degraded
                slot = self._slots[answer.stage]
                if slot is not None:
                    slot.answers += 1
