"""A cascade as it will run, on samples that its certificate has not seen."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.calibrate import GateRecord, binomial_tail
from controller.catalog import Catalog
from controller.compress.evaluate import Interval, wilson
from controller.compress.metrics import calibration_error
from controller.errors import BuildError
from controller.judge import as_tensor
from controller.recipe import StageRecipe
from controller.resolve import Candidate, Choice, StagePlan, chain
from controller.samples import Samples
from controller.scores import OnAnswers, Runs, check_scores, gate_record
from controller.search import upper_bound
from protocols.bundle import Bundle, Certificate, Stage
from protocols.inference.gate import probabilities

_SURE = 0.05


@dataclass(frozen=True, slots=True)
class StageShare:
    """What one stage did.

    Attributes:
        asked: share of the samples that reach it.
        answered: share that it answers.
        accuracy: of its answers; None: it gave none.
    """

    name: str
    variant: str
    asked: float
    answered: float
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Loss:
    """A cascade against its last stage alone.

    Attributes:
        eps: what the certificate allows, all gates together.
        last_accuracy: of the last stage alone.
        loss: accuracy that it has more than the cascade.
        harms: samples that the cascade has wrong and the last stage right; `gains`: the reverse.
        harm_bound: upper bound of the probability of harm, with 95%.
        held: whether the loss is at most eps here.
        beyond_chance: so many harms would come in at most 5% of all such sets of samples, were the
            probability of harm eps: the certificate does not hold for samples like these.
    """

    eps: float
    last_accuracy: float
    loss: float
    harms: int
    gains: int
    harm_bound: float
    held: bool
    beyond_chance: bool


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a cascade is worth on samples.

    Attributes:
        samples: how many.
        accuracy: of the cascade; `interval`: Wilson's, 95%.
        calibration_error: of the probabilities that it answers, at the stages' temperatures.
        stages: in order.
        answer_ms: expected for one answer, one thread, where the models were added.
        last_ms: of the last stage alone, with what it reads.
        against: the last stage; None: no gate, every answer is the last stage's.
        same_file: the certificate was made from this very file.
    """

    samples: int
    accuracy: float
    interval: Interval
    calibration_error: float
    stages: tuple[StageShare, ...]
    answer_ms: float
    last_ms: float
    against: Loss | None
    same_file: bool


def evaluate(
    catalog: Catalog,
    bundle: Bundle,
    samples: Samples,
    variants: Mapping[str, str] | None = None,
    eps: float | None = None,
    on_answers: OnAnswers = lambda *_: None,
) -> Evaluation:
    """Run a cascade over labelled samples.

    Args:
        catalog: has the models.
        bundle: the cascade.
        samples: x and y.
        variants: stage -> variant; the others as in the first certificate, or the best ones.
        eps: step of the ladders, all gates together; None: the one that the schedule begins with.
        on_answers: told how far it is.

    Raises:
        BuildError: the samples have no labels or do not fit, the cascade gives no classes, or there
            is no such variant or step.
        CatalogError, ArtifactError: a model is missing or damaged.
    """
    y = _labels(bundle, samples)
    choice = _choice(bundle, variants or {})
    certificate = bundle.certificate(choice)
    step = _step(bundle, certificate, eps)
    plans = tuple(
        _plan(catalog, stage, choice, last=stage is bundle.stages[-1]) for stage in bundle.stages
    )
    x = samples.x.reshape(len(y), *bundle.input.shape)
    with Runs(plans, as_tensor(bundle.input), x, on_answers) as runs:
        answers = [
            _answers(runs, plan, stage, choice, y)
            for plan, stage in zip(plans, bundle.stages, strict=True)
            if plan.answers
        ]
    exits = _exits(answers, certificate, step)
    right = np.stack([answer.record.right for answer in answers])
    hits = right[exits, np.arange(len(y))]
    stages = _shares(plans, exits, hits)
    asked = {one.name: one.asked for one in stages}
    last = chain(plans, plans[-1].name)
    loss = None
    if len(answers) > 1 and certificate is not None:
        allowed = sum(ladder[step].eps for ladder in certificate.gates.values())
        loss = _loss(hits, right[-1], allowed)
    return Evaluation(
        samples=len(y),
        accuracy=float(hits.mean()),
        interval=wilson(int(hits.sum()), len(y)),
        calibration_error=_calibration_error(answers, exits, y),
        stages=stages,
        answer_ms=sum(asked[p.name] * p.candidates[0].needs.answer_ms for p in plans),
        last_ms=sum(p.candidates[0].needs.answer_ms for p in plans if p.name in last),
        against=loss,
        same_file=certificate is not None and certificate.data_sha256 == samples.sha256,
    )


def _labels(bundle: Bundle, samples: Samples) -> NDArray[np.int64]:
    title = f"{bundle.name}@{bundle.version}"
    if bundle.classes is None:
        raise BuildError(f"cannot evaluate {title}: it gives no class scores")
    if samples.y is None:
        raise BuildError(
            f"cannot evaluate {title}: {samples.source} has no labels; name them with --y-key"
        )
    have, want = list(samples.x.shape[1:]), list(bundle.input.shape)
    if math.prod(have) != bundle.input.elements:
        raise BuildError(
            f"cannot evaluate {title}: it takes samples of shape {want}, {samples.source} has "
            f"{have}"
        )
    samples.check_classes(bundle.classes)
    return samples.y


def _choice(bundle: Bundle, wanted: Mapping[str, str]) -> Choice:
    """Return a variant for every stage: those that are wanted, then what was calibrated with them.

    Raises:
        BuildError: there is no such stage or variant.
    """
    known = {stage.name: [v.name for v in stage.variants] for stage in bundle.stages}
    for stage, variant in wanted.items():
        if variant not in known.get(stage, ()):
            there = "; ".join(f"{s}: {', '.join(v)}" for s, v in known.items())
            raise BuildError(f"cannot evaluate with {stage}={variant}: there are {there}")
    best = {stage: variants[0] for stage, variants in known.items()}
    calibrated = [
        one.variants
        for one in bundle.certificates
        if all(one.variants.get(stage, variant) == variant for stage, variant in wanted.items())
    ]
    return {**best, **(calibrated[0] if calibrated else {}), **wanted}


def _step(bundle: Bundle, certificate: Certificate | None, eps: float | None) -> int:
    if certificate is None:
        if any(stage.metric for stage in bundle.stages[:-1]):
            raise BuildError(
                f"cannot evaluate {bundle.name}@{bundle.version}: its gates are not calibrated for "
                "these variants, so nothing would leave early"
            )
        return 0
    steps = [
        sum(one.eps for one in gates) for gates in zip(*certificate.gates.values(), strict=True)
    ]
    if eps is None:
        return min(bundle.schedule.base_threshold, len(steps) - 1)
    for index, one in enumerate(steps):
        if math.isclose(one, eps, rel_tol=1e-6):
            return index
    shown = ", ".join(f"{one:.1%}" for one in steps)
    raise BuildError(f"cannot evaluate at eps {eps:.3g}: its ladder has {shown}")


def _plan(catalog: Catalog, stage: Stage, choice: Choice, *, last: bool) -> StagePlan:
    variant = next(v for v in stage.variants if v.name == choice[stage.name])
    candidate = Candidate(
        name=variant.name,
        path=catalog.artifact_path(variant.artifact),
        artifact=variant.artifact,
        inputs=variant.inputs,
        outputs=variant.outputs,
        scores=variant.scores,
        needs=variant.needs,
        runtime="",
        runtimes=variant.runtimes,
        is_file=False,
    )
    metric = None if last else stage.metric
    recipe = StageRecipe(stage.name, (variant.name,), stage.reads, metric)
    return StagePlan(recipe, (candidate,), answers=last or metric is not None)


@dataclass(frozen=True, slots=True)
class _Answers:
    """What a stage that can answer did with every sample."""

    stage: str
    record: GateRecord
    chances: NDArray[np.float32]


def _answers(
    runs: Runs, plan: StagePlan, stage: Stage, choice: Choice, y: NDArray[np.int64]
) -> _Answers:
    rows = runs.scores(plan.name, choice)
    check_scores(rows, plan.name, plan.candidates[0])
    kind = next(v.score_kind for v in stage.variants if v.name == choice[stage.name])
    record = gate_record(rows, kind, plan.metric or "max_prob", y, stage.temperature)
    chances = np.stack([probabilities(row, kind, stage.temperature) for row in rows])
    return _Answers(plan.name, record, chances)


def _exits(
    answers: Sequence[_Answers], certificate: Certificate | None, step: int
) -> NDArray[np.int64]:
    """Return which of the stages that can answer does, [n]."""
    leaves = []
    for answer in answers[:-1]:
        gate = certificate.gates.get(answer.stage, ()) if certificate is not None else ()
        threshold = gate[step].threshold if gate else math.inf
        leaves.append(answer.record.confidence >= threshold)
    leaves.append(np.ones(len(answers[-1].record.right), np.bool_))
    where: NDArray[np.int64] = np.stack(leaves).argmax(axis=0)
    return where


def _calibration_error(
    answers: Sequence[_Answers], exits: NDArray[np.int64], y: NDArray[np.int64]
) -> float:
    answered = np.stack([one.chances for one in answers])[exits, np.arange(len(y))]
    return calibration_error(answered, y)


def _shares(
    plans: Sequence[StagePlan], exits: NDArray[np.int64], hits: NDArray[np.bool_]
) -> tuple[StageShare, ...]:
    """Return what every stage did; one without a gate is asked where one that reads it is."""
    answering = [plan.name for plan in plans if plan.answers]
    asked: dict[str, float] = {}
    for place, answers in enumerate(answering):
        for read in chain(plans, answers):  # earlier ones are asked more often
            asked.setdefault(read, float((exits >= place).mean()))
    found = []
    for plan in plans:
        here = exits == answering.index(plan.name) if plan.answers else np.zeros(len(exits), bool)
        found.append(
            StageShare(
                name=plan.name,
                variant=plan.candidates[0].name,
                asked=asked.get(plan.name, 0.0),
                answered=float(here.mean()),
                accuracy=float(hits[here].mean()) if here.any() else None,
            )
        )
    return tuple(found)


def _loss(hits: NDArray[np.bool_], last: NDArray[np.bool_], eps: float) -> Loss:
    n, harms = len(hits), int((~hits & last).sum())
    loss = float(last.mean() - hits.mean())
    chance = 1.0 - binomial_tail(harms - 1, n, eps) if harms else 1.0
    return Loss(
        eps=eps,
        last_accuracy=float(last.mean()),
        loss=loss,
        harms=harms,
        gains=int((hits & ~last).sum()),
        harm_bound=upper_bound(harms, n, _SURE),
        held=loss <= eps,
        beyond_chance=chance <= _SURE,
    )
