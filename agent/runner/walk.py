"""One request on its way through a cascade: from stage to stage until every sample is answered."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from agent.runner.admission import RefusedError
from agent.runner.cascade import Rules, Step, course, steps
from agent.runner.jobs import StageError, Tensors
from agent.runner.residency import Residency
from agent.runner.stages import StageSlot
from protocols.bundle import Bundle, SampleSpec, TensorSpec
from protocols.errors import SluiceError
from protocols.inference.gate import confidence, probabilities
from protocols.inference.runtime import ModelError
from protocols.inference.tensors import TensorError, from_sample, hand_on, real

Pay = Callable[[int], int]
"""Takes how many samples want to go on and returns how many may."""

Heed = Callable[[float], None]
"""Takes how sure the first gate was of a sample."""


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


class Route:
    """What every walk through a cascade goes by; it does not change while the cascade is served."""

    def __init__(self, bundle: Bundle, residency: Residency) -> None:
        self.bundle, self.residency = bundle, residency
        self.steps: tuple[Step, ...] = steps(bundle.stages)
        self.gated = any(step.metric for step in self.steps)
        self.read = {step.source for step in self.steps}
        self.first_gate = next((at for at, step in enumerate(self.steps) if step.metric), None)


class Walk:
    """One request.

    Args:
        route: the cascade.
        rules: those that the request came in under.
        batch: [n, *sample shape]; see `serving.Cascade.answer`.
        pay: asked for every escalation.
        heed: told how sure the first gate was, which sees every sample: later gates see a choice
            that the thresholds have made.
    """

    def __init__(
        self, route: Route, rules: Rules, batch: NDArray[Any], pay: Pay, heed: Heed
    ) -> None:
        self._route, self._rules, self._batch = route, rules, batch
        self._pay, self._heed = pay, heed
        self._pending = list(range(len(batch)))
        self._answers: dict[int, Answer] = {}
        self._outputs: dict[tuple[int, int], Tensors] = {}  # (stage, sample); what others read
        self._paid: set[int] = set()  # samples that may go on until their next answer
        self._error: SluiceError | None = None

    def go(self) -> list[Answer]:
        """Return the answers, in the order of the samples.

        Raises:
            RefusedError: no stage that can answer is allowed in memory, or loads.
            TensorError: a sample's values do not fit the model's input.
            InferenceError: the interpreter gave up.
        """
        usable = self._route.residency.usable(self._rules)
        at = -1
        while self._pending:
            later = [stage for stage in course(self._route.steps, usable) if stage > at]
            if not later:
                break
            at = later[0]
            self._let_go_on()
            if not self._pending:
                break
            try:
                self._ask(at)
            except (StageError, ModelError) as error:
                self._error = error
                usable.discard(at)
        self._settle()
        return [self._answers[sample] for sample in range(len(self._batch))]

    def _ask(self, at: int) -> None:
        """Let one stage look at the samples; those that it answers surely are no longer pending."""
        samples = list(self._pending)
        with self._route.residency.using(at) as worker:
            outputs = worker.answer([self._inputs(at, sample) for sample in samples])
        for sample, tensors in zip(samples, outputs, strict=True):
            if at in self._route.read:
                self._outputs[at, sample] = tensors
            if self._route.steps[at].answers:
                self._judge(at, sample, tensors)

    def _inputs(self, at: int, sample: int) -> Tensors:
        wanted, source = self._slot(at).variant.inputs, self._route.steps[at].source
        if source is None:
            return [from_sample(self._batch[sample], self._route.bundle.input, wanted[0])]
        before = self._slot(source)
        given = zip(self._outputs[source, sample], before.variant.outputs, wanted, strict=True)
        return [_handed_on(before, values, have, want) for values, have, want in given]

    def _judge(self, at: int, sample: int, tensors: Tensors) -> None:
        """Keep a stage's answer; the sample leaves if the gate is sure or there is no other."""
        slot, step, output = self._slot(at), self._route.steps[at], self._route.bundle.output
        variant = slot.variant
        spec, scores = variant.outputs[variant.scores], tensors[variant.scores]
        if self._route.gated:
            values = probabilities(real(scores, spec), variant.score_kind, step.temperature)
            sure = step.metric is None or self._is_sure(at, confidence(values, step.metric))
            values = values.reshape(output.shape)
        else:
            values, sure = _handed_on(slot, scores, spec, output), True
        self._answers[sample] = Answer(values, at)
        self._paid.discard(sample)
        if sure:
            self._pending.remove(sample)

    def _is_sure(self, at: int, confidence: float) -> bool:
        if at == self._route.first_gate:
            self._heed(confidence)
        return confidence >= self._rules.thresholds[at]

    def _let_go_on(self) -> None:
        """Pay for the escalations; samples that are not paid for keep the answer they have."""
        unpaid = [s for s in self._pending if s in self._answers and s not in self._paid]
        granted = self._pay(len(unpaid)) if unpaid else 0
        self._paid.update(unpaid[:granted])
        for sample in unpaid[granted:]:
            self._degrade(sample)
            self._pending.remove(sample)

    def _settle(self) -> None:
        """Give the samples that no stage is left for the answer they have, marked degraded."""
        for sample in self._pending:
            if sample not in self._answers:
                raise self._failure()
            self._degrade(sample)

    def _failure(self) -> SluiceError:
        if isinstance(self._error, ModelError):
            return InferenceError(f"cannot infer: {self._error}")
        why = self._error or f"no stage that could answer may be in memory ({self._rules.cause})"
        return RefusedError(self._route.bundle.name, str(why), self._rules.plan.retry_after_s)

    def _degrade(self, sample: int) -> None:
        answer = self._answers[sample]
        self._answers[sample] = Answer(answer.values, answer.stage, degraded=True)

    def _slot(self, at: int) -> StageSlot:
        slot = self._route.residency.slots[at]
        if slot is None:  # not in the course of any walk
            raise StageError(f"cannot use {self._route.steps[at].name}: it is dropped here")
        return slot


def _handed_on(
    slot: StageSlot, values: NDArray[Any], have: TensorSpec, want: TensorSpec | SampleSpec
) -> NDArray[Any]:
    """Hand on what a stage gave; if that cannot be done it is the model's fault, not the client's.

    Raises:
        ModelError: values that are not finite, or another number of them than the model promised.
    """
    try:
        return hand_on(values, have, want)
    except TensorError as error:
        raise ModelError(slot.title, str(error), "use what came from") from error
