"""What a certificate would say: the three metrics, with and without temperature scaling.

The samples are halved: the first half fits the temperatures, the other one certifies, for all
alike. The runner has no temperature: what scaling would gain is shown, and cannot be deployed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller import temperature
from controller.calibrate import (
    DELTA,
    EPS_LADDER,
    Calibration,
    GateRecord,
    calibrate,
    samples_needed,
)
from controller.catalog import Catalog
from controller.compress.metrics import calibration_error
from controller.errors import BuildError
from controller.golden import classes_of
from controller.judge import as_tensor, take_in
from controller.recipe import Recipe
from controller.resolve import Choice, OnModel, StagePlan, choices, resolve
from controller.samples import Samples, read_samples
from controller.scores import OnAnswers, Runs, check_scores, gate_record
from controller.search import METRICS, expected_cost
from protocols.bundle import Metric
from protocols.inference.gate import confidence, probabilities, score_kind

_SEED = 0


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a temperature does to one gated stage, on the half that certifies.

    Attributes:
        temperature: that was fitted on the other half.
        error_before: expected calibration error at temperature 1; `error_after`: scaled.
        nll_before: mean negative log likelihood at temperature 1, in nats; `nll_after`: scaled.
        reordered: by metric, the share of pairs of samples that scaling puts in another order.
    """

    temperature: float
    error_before: float
    error_after: float
    nll_before: float
    nll_after: float
    reordered: Mapping[Metric, float]


@dataclass(frozen=True, slots=True)
class Trial:
    """One metric, at all gates, with or without scaling.

    Attributes:
        metric: of the gates.
        scaled: with the temperatures.
        calibration: what the half that certifies proves.
        answer_ms: expected for one answer at every step, by the needs of the models.
    """

    metric: Metric
    scaled: bool
    calibration: Calibration
    answer_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class DryRun:
    """What calibration would find, for the preferred choice of variants."""

    variants: Choice
    fitted: int
    certified: int
    scalings: Mapping[str, Scaling]
    trials: tuple[Trial, ...]
    left_out: int
    """Choices of variants that were not looked at."""

    def best(self, step: int) -> Trial:
        """Return the deployable trial with the least expected time at a step of the ladder."""
        return min((t for t in self.trials if not t.scaled), key=lambda t: t.answer_ms[step])


@dataclass(frozen=True, slots=True)
class _Answers:
    """The scores of one stage that can answer: as they are, and as logits."""

    rows: NDArray[np.float32]
    logits: NDArray[np.float64]
    right: NDArray[np.bool_]
    plain: Mapping[Metric, NDArray[np.float64]]


def dry_run(
    catalog: Catalog,
    recipe: Recipe,
    on_model: OnModel = lambda _: None,
    on_answers: OnAnswers = lambda *_: None,
) -> DryRun:
    """Calibrate a cascade every way, and keep nothing.

    Raises:
        BuildError: models, samples or gates do not make a cascade, or the samples are too few.
        CatalogError, ArtifactError: a model is not in the catalog, or damaged there.
    """
    samples = _read(recipe)
    fitted, certified = _halves(recipe, samples)
    plans = resolve(catalog, recipe, samples.x.shape[1:], on_model)
    given, every = take_in(plans, samples), choices(plans)
    choice = every[0]
    with Runs(plans, as_tensor(given.spec), samples.x, on_answers) as runs:
        found = {p.name: _answers(runs, p, choice, given.y) for p in plans if p.answers}
    last = plans[-1].name
    gates = [name for name in found if name != last]
    temperatures = {
        name: temperature.fit(found[name].logits[fitted], given.y[fitted]) for name in gates
    }
    scaled = {name: _scaled(found[name], temperatures[name]) for name in gates}
    trials = []
    for metric in METRICS:
        plain = {name: found[name].plain for name in gates}
        for is_scaled, confidences in ((False, plain), (True, scaled)):
            records = {
                name: GateRecord(confidences[name][metric][certified], found[name].right[certified])
                for name in gates
            }
            calibration = calibrate(records, last, found[last].right[certified])
            costs = _costs(plans, choice, calibration)
            trials.append(Trial(metric, is_scaled, calibration, costs))
    return DryRun(
        variants=choice,
        fitted=len(fitted),
        certified=len(certified),
        scalings={
            name: _scaling(found[name], scaled[name], given.y, certified, temperatures[name])
            for name in gates
        },
        trials=tuple(trials),
        left_out=len(every) - 1,
    )


def _read(recipe: Recipe) -> Samples:
    if not recipe.gated:
        raise BuildError(f"cannot calibrate {recipe.name}: it has no gates")
    if recipe.samples is None:
        raise BuildError(f"cannot calibrate {recipe.name}: give --samples FILE.npz with x and y")
    samples = read_samples(recipe.samples, recipe.x_key, recipe.y_key)
    if samples.y is None:
        raise BuildError(
            f"cannot calibrate {recipe.name}: {recipe.samples} has no array {recipe.y_key!r}; name "
            "the labels with --y-key"
        )
    return samples


def _halves(recipe: Recipe, samples: Samples) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide the samples by a seeded draw.

    Raises:
        BuildError: one half is too small to certify the widest step.
    """
    gates, n = sum(stage.metric is not None for stage in recipe.stages[:-1]), len(samples.x)
    needed = samples_needed(EPS_LADDER[-1] / gates, DELTA / len(EPS_LADDER) / gates)
    if n // 2 < needed:
        raise BuildError(
            f"cannot calibrate {recipe.name} with {n} samples: one half fits temperatures, the "
            f"other certifies, and {EPS_LADDER[-1]:.0%} alone takes {needed}; give at least "
            f"{2 * needed} (2,000 are a good number)"
        )
    order = np.random.default_rng(_SEED).permutation(n)
    return np.sort(order[n // 2 :]), np.sort(order[: n // 2])


def _answers(runs: Runs, plan: StagePlan, choice: Choice, y: NDArray[np.int64]) -> _Answers:
    rows, candidate = runs.scores(plan.name, choice), plan.candidate(choice[plan.name])
    check_scores(rows, plan.name, candidate)
    kind = score_kind(rows)
    z = temperature.logits(rows, kind)
    if len(y) and int(y.max()) >= z.shape[1]:
        raise BuildError(
            f"cannot calibrate: {plan.name} tells {z.shape[1]} classes apart, a label is {y.max()}"
        )
    plain = {
        metric: np.asarray(gate_record(rows, kind, metric, y).confidence, np.float64)
        for metric in METRICS
    }
    return _Answers(rows, z, classes_of(rows, kind) == y, plain)


def _scaled(answers: _Answers, degrees: float) -> dict[Metric, NDArray[np.float64]]:
    """Return how sure a stage is at a temperature, by the runner's own arithmetic."""
    chances = [
        probabilities(row, "logits") for row in (answers.logits / degrees).astype(np.float32)
    ]
    return {
        metric: np.array([confidence(row, metric) for row in chances], np.float64)
        for metric in METRICS
    }


def _scaling(
    answers: _Answers,
    scaled: Mapping[Metric, NDArray[np.float64]],
    y: NDArray[np.int64],
    certified: NDArray[np.int64],
    degrees: float,
) -> Scaling:
    z, labels = answers.logits[certified], y[certified]
    before, after = (temperature.softmax(z, at).astype(np.float32) for at in (1.0, degrees))
    return Scaling(
        temperature=degrees,
        error_before=calibration_error(before, labels),
        error_after=calibration_error(after, labels),
        nll_before=temperature.likelihood_loss(z, labels, 1.0),
        nll_after=temperature.likelihood_loss(z, labels, degrees),
        reordered={
            metric: temperature.reordered(
                answers.plain[metric][certified], scaled[metric][certified]
            )
            for metric in METRICS
        },
    )


def _costs(plans: Sequence[StagePlan], choice: Choice, found: Calibration) -> tuple[float, ...]:
    """Return the expected time of an answer at every step; stages that are read count as read."""
    asked, costs = [plan for plan in plans if plan.answers], []
    behind = 0.0
    for plan in plans:
        behind += plan.candidate(choice[plan.name]).needs.answer_ms
        if plan in asked:
            costs.append(behind)
            behind = 0.0
    return tuple(expected_cost(costs, found, step) for step in range(len(found.eps)))
