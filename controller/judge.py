"""What a cascade takes, and what the scores of its stages say: kinds, classes, certificates."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller import temperature
from controller.calibrate import Calibration, GateRecord, calibrate, where_left
from controller.errors import BuildError
from controller.golden import classes_of
from controller.recipe import AUTO, Recipe
from controller.resolve import Candidate, Choice, StagePlan, choices
from controller.samples import Samples, random_inputs
from controller.scores import Runs, check_scores, gate_record
from protocols.bundle import SampleSpec, ScoreKind, TensorSpec
from protocols.inference.gate import score_kind

RANDOM_SAMPLES = 32
"""Random inputs that golden samples are picked from where a person gives none."""

DEFAULT_EPS = 0.01
_FLOATS = frozenset({"float16", "float32", "float64"})


@dataclass(frozen=True, slots=True)
class Given:
    """What the cascade takes: the user's samples, or random ones of its first model."""

    spec: SampleSpec
    samples: Samples

    @property
    def y(self) -> NDArray[np.int64]:
        """The labels; there are none without a person's samples."""
        return self.samples.y if self.samples.y is not None else np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Judged:
    """What the scores of all stages say."""

    kinds: dict[tuple[str, str], ScoreKind]
    """By (stage, variant)."""
    classes: int | None
    calibrations: tuple[tuple[Choice, Calibration], ...]
    """Of the choices that are worth it; empty without gates."""
    base: int
    """Step of the ladders that the schedule begins with."""
    exits: NDArray[np.int64]
    """[n], where each sample leaves with the preferred choice."""
    accuracy: float | None = None
    """Of the preferred choice of a cascade without gates, where there are labels."""
    temperatures: Mapping[str, float] = field(default_factory=dict)
    """Of the stages that answer in a gated cascade."""
    fitted: int = 0
    """Samples that fitted temperatures, and certify nothing."""


def take_in(plans: Sequence[StagePlan], samples: Samples | None) -> Given:
    """Return what the cascade takes: the user's samples, or random ones of its first model.

    Raises:
        BuildError: a stage that reads the request cannot take such a sample.
    """
    readers = [plan for plan in plans if plan.recipe.source is None]
    first = readers[0].candidates[0].inputs[0]
    if samples is None:
        shape = first.shape[1:] if first.shape[:1] == (1,) else first.shape
        samples = Samples(_random_samples(first).reshape(-1, *shape), None, "", "random input")
    spec = SampleSpec(name=first.name, shape=samples.x.shape[1:], dtype=samples.dtype)
    for plan in readers:
        for candidate in plan.candidates:
            tensor = candidate.inputs[0]
            _check_sample(spec, tensor, f"{plan.name}/{candidate.name}")
            if spec.quantization is None and tensor.dtype == spec.dtype:
                spec = spec.with_(quantization=tensor.quantization)
    return Given(spec, samples)


def _random_samples(spec: TensorSpec) -> NDArray[Any]:
    """Return random inputs, [n, *spec.shape]; real ones of several amplitudes, for more classes."""
    rows = [random_inputs([spec], seed)[0] for seed in range(RANDOM_SAMPLES)]
    if spec.dtype in _FLOATS:
        rows = [row * row.dtype.type(4 ** (number % 4)) for number, row in enumerate(rows)]
    return np.stack(rows)


def _check_sample(spec: SampleSpec, tensor: TensorSpec, title: str) -> None:
    have, want = list(spec.shape), list(tensor.shape)
    if spec.elements != tensor.elements:
        raise BuildError(
            f"cannot use the samples for {title}: a sample has shape {have}, {spec.elements} "
            f"elements; its input {tensor.name!r} has {want}, {tensor.elements}"
        )
    axes, wanted = [n for n in have if n > 1], [n for n in want if n > 1]
    if axes != wanted and sorted(axes) == sorted(wanted):
        raise BuildError(
            f"cannot use the samples for {title}: a sample has shape {have}, its input "
            f"{tensor.name!r} has {want}, the same axes in another order; transpose x"
        )


def as_tensor(spec: SampleSpec) -> TensorSpec:
    """Return a sample as a tensor without a batch axis."""
    return TensorSpec(
        name=spec.name, shape=spec.shape, dtype=spec.dtype, quantization=spec.quantization
    )


def judge(recipe: Recipe, plans: Sequence[StagePlan], given: Given, runs: Runs) -> Judged:
    """Run every model over the samples and tell what they answer; calibrate the gates.

    Raises:
        BuildError: scores, labels and gates do not fit together, or nothing can be certified.
    """
    if recipe.gated:
        return _judge_gated(recipe, plans, given, runs)
    last = plans[-1]
    accuracy = None
    kinds: dict[tuple[str, str], ScoreKind] = {
        (last.name, candidate.name): _kind_alone(recipe, candidate, given, last.name, rows)
        for candidate, rows in _each(plans, last, runs)
    }
    if "raw" in kinds.values():
        kinds, classes = {}, None
        _check_alike(recipe, last)
    else:
        classes = _class_count([last], recipe)
        given.samples.check_classes(classes)
        accuracy = _accuracy(given, runs.scores(last.name, choices(plans)[0]), kinds, last)
    for choice in choices(plans):  # a model that fails on a sample is refused here
        runs.scores(last.name, choice)
    return Judged(kinds, classes, (), 0, np.zeros(len(given.samples.x), np.int64), accuracy)


@dataclass(frozen=True, slots=True)
class _Scored:
    """What the stages that answer say of the labelled samples."""

    answering: Sequence[StagePlan]
    runs: Runs
    kinds: Mapping[tuple[str, str], ScoreKind]
    y: NDArray[np.int64]

    def temperatures(self, choice: Choice, fits: NDArray[np.int64]) -> dict[str, float]:
        """Return the stages' temperatures: what is asked for, or what these samples fit."""
        found = {}
        for plan in self.answering:
            asked = plan.recipe.temperature
            if asked == AUTO:
                rows = self.runs.scores(plan.name, choice)[fits]
                z = temperature.logits(rows, self.kinds[plan.name, choice[plan.name]])
                asked = temperature.fit(z, self.y[fits])
            found[plan.name] = asked
        return found

    def records(self, choice: Choice, temperatures: Mapping[str, float]) -> dict[str, GateRecord]:
        """Return what every stage did, in order."""
        return {
            plan.name: gate_record(
                self.runs.scores(plan.name, choice),
                self.kinds[plan.name, choice[plan.name]],
                plan.metric or "max_prob",
                self.y,
                temperatures[plan.name],
            )
            for plan in self.answering
        }


def _judge_gated(recipe: Recipe, plans: Sequence[StagePlan], given: Given, runs: Runs) -> Judged:
    answering = [plan for plan in plans if plan.answers]
    classes = _class_count(answering, recipe)
    given.samples.check_classes(classes)
    fits, proves = _parts(recipe, len(given.y), len(answering) - 1)
    kinds: dict[tuple[str, str], ScoreKind] = {}
    for plan in answering:
        for candidate, rows in _each(plans, plan, runs):
            check_scores(rows, plan.name, candidate)
            kinds[plan.name, candidate.name] = score_kind(rows)
    scored, every = _Scored(answering, runs, kinds, given.y), choices(plans)
    temperatures = scored.temperatures(every[0], fits)
    tried = [(one, _calibrate(scored.records(one, temperatures), proves)) for one in every]
    useful = tuple((choice, found) for choice, found in tried if found.saves)
    if not useful:
        raise BuildError(_never(recipe, tried[0][1]))
    choice, first = useful[0]
    base = begins_at(recipe, first.eps)
    exits = _exits(scored.records(choice, temperatures), first, base)
    return Judged(kinds, classes, useful, base, exits, temperatures=temperatures, fitted=len(fits))


def _parts(recipe: Recipe, n: int, gates: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the samples that fit temperatures, and those that certify."""
    if recipe.fits:
        return temperature.halves(n, gates)
    return np.zeros(0, np.int64), np.arange(n)


def _calibrate(records: Mapping[str, GateRecord], proves: NDArray[np.int64]) -> Calibration:
    *gates, last = records
    proved = {
        stage: GateRecord(records[stage].confidence[proves], records[stage].right[proves])
        for stage in gates
    }
    return calibrate(proved, last, records[last].right[proves])


def _exits(records: Mapping[str, GateRecord], found: Calibration, step: int) -> NDArray[np.int64]:
    """Return where every sample leaves at a step, [n], those that fitted temperatures too."""
    confidence = [records[stage].confidence for stage in found.gates]
    thresholds = [[ladder[step].threshold] for ladder in found.gates.values()]
    (exits,) = where_left(confidence, np.array(thresholds))
    return np.asarray(exits, np.int64)


def _each(
    plans: Sequence[StagePlan], plan: StagePlan, runs: Runs
) -> Iterator[tuple[Candidate, NDArray[np.float32]]]:
    """Yield every variant of a stage with its scores, behind the preferred variants of others."""
    preferred = choices(plans)[0]
    for one in plan.candidates:
        yield one, runs.scores(plan.name, {**preferred, plan.name: one.name})


def _class_count(answering: Sequence[StagePlan], recipe: Recipe) -> int:
    """Return how many classes all of these stages tell apart.

    Raises:
        BuildError: they differ, one gives no scores, or the labels are more or fewer.
    """
    given = {
        f"{plan.name}/{one.name}": one.outputs[one.scores]
        for plan in answering
        for one in plan.candidates
    }
    for title, spec in given.items():
        if spec.quantization is None and not spec.dtype.startswith("float"):
            raise BuildError(
                f"cannot use {title} as a classifier: output {spec.name!r} holds whole numbers "
                f"({spec.dtype}{list(spec.shape)}), as an argmax gives; export the scores before it"
            )
    counts = {title: max(2, spec.elements) for title, spec in given.items()}
    (first, classes), *others = counts.items()
    for title, count in others:
        if count != classes:
            raise BuildError(
                f"cannot build {recipe.name}: {first} gives {classes} classes, {title} {count}; "
                "an output of features needs no gate: --gate STAGE=none"
            )
    if recipe.labels and len(recipe.labels) != classes:
        raise BuildError(
            f"cannot build {recipe.name}: {len(recipe.labels)} labels for {classes} classes"
        )
    return classes


def _accuracy(
    given: Given,
    rows: NDArray[np.float32],
    kinds: Mapping[tuple[str, str], ScoreKind],
    last: StagePlan,
) -> float | None:
    if given.samples.y is None:
        return None
    kind = kinds[last.name, last.candidates[0].name]
    return float((classes_of(rows, kind) == given.y).mean())


def _check_alike(recipe: Recipe, last: StagePlan) -> None:
    sizes = {one.name: one.outputs[one.scores].elements for one in last.candidates}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise BuildError(
            f"cannot build {recipe.name}: variants of {last.name} give outputs of different "
            f"sizes: {shown}"
        )


def _kind_alone(
    recipe: Recipe,
    candidate: Candidate,
    given: Given,
    stage: str,
    rows: NDArray[np.float32],
) -> ScoreKind:
    """Tell what an ungated cascade answers: class scores, or something else (`raw`)."""
    spec = candidate.outputs[candidate.scores]
    if recipe.labels or given.samples.y is not None:
        check_scores(rows, stage, candidate)
        return score_kind(rows)
    counts = spec.dtype not in _FLOATS and spec.quantization is None
    shaped = sum(size > 1 for size in spec.shape) > 1 or spec.elements == given.spec.elements
    if counts or shaped or not np.isfinite(rows).all():
        return "raw"
    kind = score_kind(rows)
    return "raw" if spec.elements == 1 and kind == "logits" else kind


def begins_at(recipe: Recipe, steps: Sequence[float]) -> int:
    """Return the step of the ladder that a cascade begins with.

    Args:
        recipe: what is asked for.
        steps: eps of all gates together, rising.

    Raises:
        BuildError: the eps that a person wants is none of the ladder's steps.
    """
    if recipe.eps is None:
        return next((i for i, eps in enumerate(steps) if eps >= DEFAULT_EPS), len(steps) - 1)
    for index, eps in enumerate(steps):
        if math.isclose(eps, recipe.eps, rel_tol=1e-6):
            return index
    raise BuildError(
        f"cannot build {recipe.name} at eps {recipe.eps:.3g}: certified with these samples are "
        f"{', '.join(f'{eps:.1%}' for eps in steps)}; choose one, or give more samples"
    )


def _never(recipe: Recipe, found: Calibration) -> str:
    shares = ", ".join(f"{stage} {share:.1%}" for stage, share in found.stage_accuracy.items())
    return (
        f"cannot build {recipe.name}: at no eps up to {max(found.eps):.1%} may an answer leave "
        "early, because even the surest ones of the gated stages are wrong too often where the "
        f"last stage is right (accuracy: {shares}); are the samples scaled as in training?"
    )
