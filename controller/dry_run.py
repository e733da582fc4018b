"""What a certificate would say: the three metrics, with and without temperature scaling.

The samples are halved: one half fits the temperatures and chooses among the six ways, the other one
certifies all six alike. So what is recommended is certified by samples that have not chosen it, and
`ctl cascade build` with `--temperature auto`, which halves in the same way, finds the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller import temperature
from controller.calibrate import Calibration, GateRecord, calibrate
from controller.catalog import Catalog
from controller.compress.metrics import calibration_error
from controller.errors import BuildError
from controller.judge import as_tensor, take_in
from controller.recipe import Recipe
from controller.resolve import Choice, OnModel, StagePlan, choices, resolve
from controller.samples import Samples, read_samples
from controller.scores import OnAnswers, Runs, check_scores, gate_record
from controller.search import METRICS, expected_cost
from protocols.bundle import Metric, ScoreKind
from protocols.inference.gate import score_kind

_WORTH_SCALING = 0.05
"""A cascade whose probabilities are calibrated may take so much longer: costs are estimates."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a temperature does to one stage that answers, on the half that certifies.

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
        chosen_ms: the same, expected by the half that fits.
    """

    metric: Metric
    scaled: bool
    calibration: Calibration
    answer_ms: tuple[float, ...]
    chosen_ms: tuple[float, ...]


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
        """Return what is recommended at a step of the ladder, by the half that fits.

        It is the way of the least expected time; one with temperatures may take a little more, for
        its answers say how sure they may be.
        """
        plain, scaled = (
            min((t for t in self.trials if t.scaled is way), key=lambda t: t.chosen_ms[step])
            for way in (False, True)
        )
        worth = scaled.chosen_ms[step] <= plain.chosen_ms[step] * (1 + _WORTH_SCALING)
        return scaled if worth else plain


@dataclass(frozen=True, slots=True)
class _Answers:
    """The scores of one stage that can answer, and what it is to be judged by."""

    rows: NDArray[np.float32]
    kind: ScoreKind
    logits: NDArray[np.float64]
    y: NDArray[np.int64]

    def records(self, degrees: float) -> dict[Metric, GateRecord]:
        """Return how sure it is at a temperature, by metric, as the runner judges."""
        return {
            metric: gate_record(self.rows, self.kind, metric, self.y, degrees) for metric in METRICS
        }


_Records = Mapping[str, Mapping[Metric, GateRecord]]
"""By stage that can answer, in order, and by metric."""


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
    gates = sum(stage.metric is not None for stage in recipe.stages[:-1])
    fitted, certified = temperature.halves(len(samples.x), gates)
    plans = resolve(catalog, recipe, samples.x.shape[1:], on_model)
    given, every = take_in(plans, samples), choices(plans)
    choice = every[0]
    with Runs(plans, as_tensor(given.spec), samples.x, on_answers) as runs:
        found = {p.name: _answers(runs, p, choice, given.y) for p in plans if p.answers}
    temperatures = {
        name: temperature.fit(one.logits[fitted], one.y[fitted]) for name, one in found.items()
    }
    plain = {name: one.records(1.0) for name, one in found.items()}
    scaled = {name: one.records(temperatures[name]) for name, one in found.items()}
    trials = []
    for metric in METRICS:
        for is_scaled, records in ((False, plain), (True, scaled)):
            proved = _calibrate(records, metric, certified)
            chosen = _calibrate(records, metric, fitted)
            costs = _costs(plans, choice, chosen, [chosen.eps.index(eps) for eps in proved.eps])
            steps = range(len(proved.eps))
            trials.append(
                Trial(metric, is_scaled, proved, _costs(plans, choice, proved, steps), costs)
            )
    return DryRun(
        variants=choice,
        fitted=len(fitted),
        certified=len(certified),
        scalings={
            name: _scaling(one, plain[name], scaled[name], certified, temperatures[name])
            for name, one in found.items()
        },
        trials=tuple(trials),
        left_out=len(every) - 1,
    )


def _calibrate(records: _Records, metric: Metric, part: NDArray[np.int64]) -> Calibration:
    """Certify all gates with one metric on some of the samples."""
    *gates, last = records
    judged = {name: records[name][metric] for name in records}
    return calibrate(
        {
            name: GateRecord(judged[name].confidence[part], judged[name].right[part])
            for name in gates
        },
        last,
        judged[last].right[part],
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


def _answers(runs: Runs, plan: StagePlan, choice: Choice, y: NDArray[np.int64]) -> _Answers:
    rows, candidate = runs.scores(plan.name, choice), plan.candidate(choice[plan.name])
    check_scores(rows, plan.name, candidate)
    kind = score_kind(rows)
    z = temperature.logits(rows, kind)
    if len(y) and int(y.max()) >= z.shape[1]:
        raise BuildError(
            f"cannot calibrate: {plan.name} tells {z.shape[1]} classes apart, a label is {y.max()}"
        )
    return _Answers(rows, kind, z, y)


def _scaling(
    answers: _Answers,
    plain: Mapping[Metric, GateRecord],
    scaled: Mapping[Metric, GateRecord],
    certified: NDArray[np.int64],
    degrees: float,
) -> Scaling:
    z, labels = answers.logits[certified], answers.y[certified]
    before, after = (temperature.softmax(z, at).astype(np.float32) for at in (1.0, degrees))
    return Scaling(
        temperature=degrees,
        error_before=calibration_error(before, labels),
        error_after=calibration_error(after, labels),
        nll_before=temperature.likelihood_loss(z, labels, 1.0),
        nll_after=temperature.likelihood_loss(z, labels, degrees),
        reordered={
            metric: temperature.reordered(
                plain[metric].confidence[certified], scaled[metric].confidence[certified]
            )
            for metric in METRICS
        },
    )


def _costs(
    plans: Sequence[StagePlan], choice: Choice, found: Calibration, steps: Iterable[int]
) -> tuple[float, ...]:
    """Return the expected time of an answer at some steps; stages that are read count as read."""
    asked, costs = [plan for plan in plans if plan.answers], []
    behind = 0.0
    for plan in plans:
        behind += plan.candidate(choice[plan.name]).needs.answer_ms
        if plan in asked:
            costs.append(behind)
            behind = 0.0
    return tuple(expected_cost(costs, found, step) for step in steps)
