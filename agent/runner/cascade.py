"""The walk of a request through a cascade: which stages, which threshold, who may answer. Pure."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from agent.runner.control import CascadePlan, StageTarget
from protocols.bundle import Bundle, Metric, Stage


@dataclass(frozen=True, slots=True)
class Step:
    """One stage, as the walk sees it.

    `source` is the index of the stage whose outputs it reads; None: it reads the request.
    `answers`: its scores are an answer of the cascade (it is gated, or the last one).
    `temperature`: of the probabilities that its gate judges and that are answered, the last
    stage's too; without a gate the answer is what the model gives, and it is not used.
    """

    name: str
    source: int | None
    metric: Metric | None
    answers: bool
    last: bool
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class Rules:
    """A plan, and what follows from it. A request keeps to the rules that it came in under."""

    plan: CascadePlan
    cause: str
    thresholds: tuple[float, ...]
    """By stage: the confidence from which an answer leaves there."""
    targets: tuple[StageTarget, ...]
    """By stage; one that the plan does not name is out."""


def rules(bundle: Bundle, variants: Mapping[str, str], plan: CascadePlan, cause: str) -> Rules:
    """Return what a plan means for every stage of a bundle, in order."""
    named = {target.name: target for target in plan.stages}
    names = [stage.name for stage in bundle.stages]
    return Rules(
        plan=plan,
        cause=cause,
        thresholds=tuple(threshold(bundle, variants, n, plan.threshold_index) for n in names),
        targets=tuple(named.get(n, StageTarget(name=n, residence="out")) for n in names),
    )


def steps(stages: Sequence[Stage]) -> tuple[Step, ...]:
    """Return the steps of a bundle's stages, in order."""
    order = {stage.name: index for index, stage in enumerate(stages)}
    end = len(stages) - 1
    return tuple(
        Step(
            name=stage.name,
            source=order.get(stage.reads.removeprefix("stage:")) if _chained(stage) else None,
            metric=None if index == end else stage.metric,
            answers=index == end or stage.metric is not None,
            last=index == end,
            temperature=stage.temperature,
        )
        for index, stage in enumerate(stages)
    )


def course(walk: Sequence[Step], usable: Collection[int]) -> tuple[int, ...]:
    """Return the stages that a request visits unless it leaves early, by index.

    A stage is visited if it can answer, or if one that can answer reads it; and only if everything
    that it reads, directly or not, is usable too.
    """
    reachable = [_reachable(walk, usable, index) for index in range(len(walk))]
    wanted: set[int] = set()
    for index, step in enumerate(walk):
        if step.answers and reachable[index]:
            wanted |= _needed(walk, index)
    return tuple(sorted(wanted))


def threshold(bundle: Bundle, variants: Mapping[str, str], stage: str, ladder_index: int) -> float:
    """Return the confidence from which an answer may leave at a gated stage.

    The ladder's last step stands for any index beyond it. Without a certificate for this choice of
    variants nothing leaves early: infinity.
    """
    certificate = bundle.certificate(dict(variants))
    ladder = certificate.gates.get(stage, ()) if certificate else ()
    return ladder[min(ladder_index, len(ladder) - 1)].threshold if ladder else math.inf


def is_gated(bundle: Bundle) -> bool:
    """Whether an answer may leave the cascade early."""
    return any(step.metric for step in steps(bundle.stages))


def certified(bundle: Bundle, variants: Mapping[str, str]) -> bool:
    """Whether this choice of variants is calibrated; a cascade without gates needs no proof."""
    return not is_gated(bundle) or bundle.certificate(dict(variants)) is not None


def _chained(stage: Stage) -> bool:
    return stage.reads != "request"


def _reachable(walk: Sequence[Step], usable: Collection[int], index: int) -> bool:
    return all(needed in usable for needed in _needed(walk, index))


def _needed(walk: Sequence[Step], index: int) -> set[int]:
    """Return a stage and everything that it reads."""
    needed, at = {index}, walk[index].source
    while at is not None:
        needed.add(at)
        at = walk[at].source
    return needed
