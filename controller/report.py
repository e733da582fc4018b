"""What a build has to say of a cascade: ladders, expected cost, where it is not worth it. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from controller.calibrate import Calibration
from controller.judge import DEFAULT_EPS, Given, Judged
from controller.recipe import Recipe
from controller.resolve import Choice, StagePlan, chain, choices
from protocols.bundle import Bundle, BundleRef, CertifiedThreshold, TensorSpec

_LOOKED_AT = 256
_CLIPPED_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class LadderStep:
    """One certified step of a cascade.

    Attributes:
        eps: accuracy that may be lost, a fraction.
        gates: by stage; eps and delta in them are the gate's shares.
        accuracy: of the cascade on the samples.
        answer_ms: expected time of an answer, one thread, where the models were added.
    """

    eps: float
    gates: dict[str, CertifiedThreshold]
    accuracy: float
    answer_ms: float


@dataclass(frozen=True, slots=True)
class Ladder:
    """What was certified of one choice of variants.

    Attributes:
        variants: stage -> variant.
        base: the step that the schedule begins with.
        steps: by rising eps.
        accuracy: of each stage that can answer, alone.
        alone_ms: expected time of the last stage alone, with what it reads.
    """

    variants: Choice
    base: int
    steps: tuple[LadderStep, ...]
    accuracy: dict[str, float]
    alone_ms: float


@dataclass(frozen=True, slots=True)
class Built:
    """A cascade that was built."""

    ref: BundleRef
    bundle: Bundle
    ladders: tuple[Ladder, ...]
    accuracy: float | None
    """Of a cascade without gates, where labels were given."""
    warnings: tuple[str, ...]
    fitted: int = 0
    """Samples that fitted temperatures, and certify nothing."""


def ladder_of(plans: Sequence[StagePlan], choice: Choice, found: Calibration, base: int) -> Ladder:
    """Return what a person should know of one choice of variants."""
    last = plans[-1].name
    steps = tuple(
        LadderStep(
            eps=eps,
            gates={stage: ladder[index] for stage, ladder in found.gates.items()},
            accuracy=found.accuracy[index],
            answer_ms=_expected_ms(plans, choice, found, index),
        )
        for index, eps in enumerate(found.eps)
    )
    alone_ms = sum(_answer_ms(plans, choice, stage) for stage in chain(plans, last))
    return Ladder(choice, base, steps, found.stage_accuracy, alone_ms)


def warnings_of(
    recipe: Recipe,
    plans: Sequence[StagePlan],
    given: Given,
    judged: Judged,
    ladders: Sequence[Ladder],
) -> Iterator[str]:
    """Yield what is wrong with a cascade although it can be built."""
    yield from _clipping(plans, given)
    if not recipe.gated:
        return
    left_out = len(choices(plans)) - len(ladders)
    if left_out:
        yield (
            f"{left_out} choices of variants are left out: no threshold of theirs is certified, so "
            "no device gets them"
        )
    base = ladders[0].steps[judged.base]
    if recipe.eps is None and base.eps != DEFAULT_EPS:
        n = next(iter(base.gates.values())).n
        yield (
            f"begins at eps {base.eps:.1%}: {n} samples are too few to certify {DEFAULT_EPS:.0%}"
        )
    for ladder in ladders:
        yield from _worth(ladder)


def _worth(ladder: Ladder) -> Iterator[str]:
    """Say where a cascade saves nothing, or its last stage adds nothing."""
    names = ", ".join(f"{stage}={variant}" for stage, variant in ladder.variants.items())
    base = ladder.steps[ladder.base]
    *early, last = ladder.accuracy
    if all(gate.escalated == 1 for gate in base.gates.values()):
        wider = [
            step.eps for step in ladder.steps if any(g.escalated < 1 for g in step.gates.values())
        ]
        hint = f"; at eps {wider[0]:.1%} some do" if wider else ""
        yield f"{names}: at eps {base.eps:.1%} no answer leaves before the last stage{hint}"
    elif base.answer_ms >= ladder.alone_ms:
        yield (
            f"{names}: saves nothing: {base.answer_ms:.3g} ms an answer are expected, "
            f"{last} alone takes {ladder.alone_ms:.3g}; deploy that, or put a smaller model first"
        )
    for stage in early:
        if ladder.accuracy[stage] >= ladder.accuracy[last]:
            yield (
                f"{names}: {stage} alone is right for {ladder.accuracy[stage]:.1%}, {last} for "
                f"{ladder.accuracy[last]:.1%} of the samples: {last} adds nothing"
            )


def _expected_ms(
    plans: Sequence[StagePlan], choice: Choice, found: Calibration, step: int
) -> float:
    """Return the sum of the stages' times, each by the share of answers that gets so far."""
    share, total = 1.0, 0.0
    for plan in plans:
        total += share * _answer_ms(plans, choice, plan.name)
        if plan.name in found.gates:
            share = found.gates[plan.name][step].escalated
    return total


def _answer_ms(plans: Sequence[StagePlan], choice: Choice, stage: str) -> float:
    plan = next(plan for plan in plans if plan.name == stage)
    return plan.candidate(choice[stage]).needs.answer_ms


def _clipping(plans: Sequence[StagePlan], given: Given) -> Iterator[str]:
    """Say where samples lie outside of what a quantized input can hold."""
    for plan in plans:
        for one in plan.candidates:
            if plan.recipe.source is not None:
                continue
            clipped = _clipped_share(given, one.inputs[0])
            if clipped > _CLIPPED_SHARE:
                low, high = _range(one.inputs[0])
                x = given.samples.x[:_LOOKED_AT]
                yield (
                    f"{clipped:.0%} of the values of x ({x.min():g} to {x.max():g}) lie outside of "
                    f"{low:.3g} to {high:.3g}, what {plan.name}/{one.name} can hold: is x scaled "
                    "as in training?"
                )


def _clipped_share(given: Given, spec: TensorSpec) -> float:
    if spec.quantization is None or given.spec.quantization is not None:
        return 0.0
    low, high = _range(spec)
    x = given.samples.x[:_LOOKED_AT].astype(np.float64)
    slack = spec.quantization.scale
    return float(((x < low - slack) | (x > high + slack)).mean())


def _range(spec: TensorSpec) -> tuple[float, float]:
    """Return the real values that a quantized tensor can hold."""
    if spec.quantization is None:
        return -np.inf, np.inf
    limits, zero = np.iinfo(spec.dtype), spec.quantization.zero_point
    scale = spec.quantization.scale
    return (int(limits.min) - zero) * scale, (int(limits.max) - zero) * scale
