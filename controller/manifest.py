"""The manifest of a built cascade, and what its golden samples expect. Pure but for the runs."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from controller.golden import agreed, settled_classes
from controller.judge import Given, Judged
from controller.recipe import Recipe
from controller.resolve import Candidate, StagePlan, choices
from controller.scores import Runs
from protocols.bundle import (
    Bundle,
    Certificate,
    Golden,
    SampleSpec,
    ScoreKind,
    Stage,
    Variant,
)
from protocols.schedule import default_cascade_schedule

_THREADS = 1
"""Of the bundle's own schedule; the planner gives every device its own."""


def expected_classes(
    plans: Sequence[StagePlan], judged: Judged, runs: Runs
) -> dict[str, NDArray[np.int64]]:
    """Return the class that every variant of a stage gives, [n], -1 where they differ."""
    expected = {}
    for plan in plans:
        votes = [
            settled_classes(runs.scores(plan.name, choice), kind, one.outputs[one.scores])
            for choice in choices(plans)
            for one in [plan.candidate(choice[plan.name])]
            if (kind := judged.kinds.get((plan.name, one.name), "raw")) != "raw"
        ]
        if votes:
            expected[plan.name] = agreed(votes)
    return expected


def make_bundle(
    recipe: Recipe,
    plans: Sequence[StagePlan],
    given: Given,
    judged: Judged,
    golden: Golden,
) -> Bundle:
    """Return the bundle, but for its version and the time of its making."""
    names = tuple(plan.name for plan in plans)
    return Bundle(
        name=recipe.name,
        version=1,
        created_ts=0.0,
        input=given.spec,
        output=_output(recipe, plans[-1].candidates[0], judged.classes),
        classes=judged.classes,
        labels=recipe.labels,
        stages=tuple(
            Stage(
                name=plan.name,
                reads=plan.recipe.reads,
                variants=tuple(_variant(plan, one, judged.kinds) for one in plan.candidates),
                metric=plan.metric,
                temperature=judged.temperatures.get(plan.name, 1.0),
            )
            for plan in plans
        ),
        certificates=tuple(
            Certificate(
                variants=choice,
                gates=found.gates,
                data_sha256=given.samples.sha256,
                accuracy=found.accuracy[judged.base],
                last_stage_accuracy=found.stage_accuracy[names[-1]],
                confidence=found.confidence,
            )
            for choice, found in judged.calibrations
        ),
        golden=golden,
        schedule=default_cascade_schedule(
            names, _THREADS, base_threshold=judged.base, first=_first_answer(plans)
        ),
    )


def _first_answer(plans: Sequence[StagePlan]) -> int:
    """Return how many stages the first answer takes: up to the first gate, with what it reads."""
    return next((number for number, plan in enumerate(plans, 1) if plan.metric), 1)


def _output(recipe: Recipe, last: Candidate, classes: int | None) -> SampleSpec:
    spec = last.outputs[last.scores]
    if recipe.gated and classes is not None:
        return SampleSpec(name=spec.name or "scores", shape=(classes,), dtype="float32")
    return SampleSpec(
        name=spec.name,
        shape=spec.shape[1:] if spec.shape[:1] == (1,) else spec.shape,
        dtype=spec.dtype,
        quantization=spec.quantization,
    )


def _variant(
    plan: StagePlan, one: Candidate, kinds: Mapping[tuple[str, str], ScoreKind]
) -> Variant:
    return Variant(
        name=one.name,
        artifact=one.artifact,
        inputs=one.inputs,
        outputs=one.outputs,
        scores=one.scores,
        score_kind=kinds.get((plan.name, one.name), "raw"),
        needs=one.needs,
        runtimes=one.runtimes,
    )
