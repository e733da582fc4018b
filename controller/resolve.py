"""From the models that a recipe names to stages whose tensors are known and fit together."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from controller.catalog import Catalog, valid_name
from controller.errors import BuildError
from controller.inspect import describe_outputs, inspect_model, scores_index
from controller.recipe import Recipe, StageRecipe
from controller.runtimes import runtimes_for
from controller.trial import Facts, TrialError
from protocols.bundle import ArtifactRef, Metric, Needs, TensorSpec
from protocols.chunks import listed_ref

MAX_CHOICES = 16
"""Choices of variants that are calibrated; each has a certificate of its own."""

Choice = dict[str, str]
"""Stage -> variant."""

OnModel = Callable[[str], None]
"""Takes the name of the model that is looked at now."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One variant of a stage."""

    name: str
    path: Path
    artifact: ArtifactRef
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    scores: int
    needs: Needs
    runtime: str
    runtimes: tuple[str, ...]
    """Interpreters that answer right with it; none: any does."""
    is_file: bool
    """It came as a file and not by its name in the catalog."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage and its variants, best first."""

    recipe: StageRecipe
    candidates: tuple[Candidate, ...]
    answers: bool
    """It is gated, or the last one."""

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.recipe.name

    @property
    def metric(self) -> Metric | None:
        """The metric of its gate."""
        return self.recipe.metric

    def candidate(self, variant: str) -> Candidate:
        """Return a variant by name."""
        return next(one for one in self.candidates if one.name == variant)


def resolve(
    catalog: Catalog,
    recipe: Recipe,
    sample_shape: tuple[int, ...] | None,
    on_model: OnModel = lambda _: None,
) -> tuple[StagePlan, ...]:
    """Find every model of a recipe, look at it where it is not known, and check that all fit.

    Args:
        catalog: where models have names.
        recipe: what is asked for.
        sample_shape: of one sample of the user; None: there are none.
        on_model: told before each model.

    Raises:
        BuildError: a model cannot be used, or does not fit its place.
        CatalogError, ArtifactError: a name is not in the catalog, or its file is damaged there.
    """
    _check_count(recipe)
    plans: dict[str, StagePlan] = {}
    for stage in recipe.stages:
        before = plans[stage.source].candidates[0] if stage.source else None
        shape = sample_shape if before is None else _unbatched(before.outputs[0].shape)
        answers = stage.metric is not None or stage is recipe.stages[-1]
        found: list[Candidate] = []
        for model in stage.models:
            on_model(model)
            candidate = _candidate(catalog, stage, model, shape, answers=answers)
            found.append(_distinct(stage, candidate, found))
        plans[stage.name] = StagePlan(stage, tuple(found), answers)
    for plan in plans.values():
        _check_inputs(plan, plans)
    return tuple(plans.values())


def choices(plans: Sequence[StagePlan]) -> list[Choice]:
    """Return every choice of variants; the first is the preferred one."""
    names = [[candidate.name for candidate in plan.candidates] for plan in plans]
    return [
        dict(zip((plan.name for plan in plans), chosen, strict=True))
        for chosen in itertools.product(*names)
    ]


def chain(plans: Sequence[StagePlan], stage: str) -> tuple[str, ...]:
    """Return a stage and all that it reads, directly or not, the first one first."""
    sources = {plan.name: plan.recipe.source for plan in plans}
    found = [stage]
    while (source := sources[found[0]]) is not None:
        found.insert(0, source)
    return tuple(found)


def _check_count(recipe: Recipe) -> None:
    sizes = [len(stage.models) for stage in recipe.stages]
    if math.prod(sizes) > MAX_CHOICES:
        raise BuildError(
            f"cannot build {recipe.name}: {' x '.join(map(str, sizes))} = {math.prod(sizes)} "
            f"choices of variants, at most {MAX_CHOICES} are calibrated; give fewer variants"
        )


def _candidate(
    catalog: Catalog,
    stage: StageRecipe,
    model: str,
    sample_shape: tuple[int, ...] | None,
    *,
    answers: bool,
) -> Candidate:
    known = None if _is_path(model) else catalog.model(model)
    path = Path(model) if known is None else catalog.artifact_path(known.artifact)
    facts = None if known is None else known.facts
    try:
        if facts is None or _is_other(facts, sample_shape):
            facts = inspect_model(path, sample_shape)
    except TrialError as error:
        raise BuildError(f"cannot use {model} as stage {stage.name}: {error.why}") from error
    content = path.read_bytes()
    return Candidate(
        name=valid_name(path.stem) if known is None else known.name,
        path=path,
        artifact=listed_ref(content),
        inputs=facts.inputs,
        outputs=facts.outputs,
        scores=_scores(stage, model, facts, known.scores if known else None, answers=answers),
        needs=facts.needs,
        runtime=facts.runtime,
        runtimes=runtimes_for(content),
        is_file=known is None,
    )


def _is_path(model: str) -> bool:
    return model.endswith(".tflite") or "/" in model


def _is_other(facts: Facts, sample_shape: tuple[int, ...] | None) -> bool:
    """Whether a model was looked at for samples of another size than these."""
    return sample_shape is not None and facts.inputs[0].elements != math.prod(sample_shape)


def _scores(
    stage: StageRecipe, model: str, facts: Facts, known: int | None, *, answers: bool
) -> int:
    if stage.scores is None and known is not None:
        return known
    try:
        found = scores_index(facts.outputs, stage.scores)
    except ValueError as error:
        raise BuildError(f"cannot use {model} as stage {stage.name}: {error}") from error
    if found is None and answers:
        raise BuildError(
            f"cannot use {model} as stage {stage.name}: it has {len(facts.outputs)} outputs "
            f"({describe_outputs(facts.outputs)}); say which one holds the class scores: "
            f"--scores {stage.name}=NUMBER"
        )
    return found or 0


def _distinct(stage: StageRecipe, new: Candidate, before: Sequence[Candidate]) -> Candidate:
    """Give a variant a name that no other of its stage has.

    Raises:
        BuildError: one of them is the same file.
    """
    for other in before:
        if other.artifact == new.artifact:
            raise BuildError(
                f"cannot build: variants {other.name} and {new.name} of stage {stage.name} are "
                "the same file"
            )
    taken = {other.name for other in before}
    names = itertools.chain([new.name], (f"{new.name[:59]}-{n}" for n in itertools.count(2)))
    name = next(name for name in names if name not in taken)
    return replace(new, name=name)


def _check_inputs(plan: StagePlan, plans: dict[str, StagePlan]) -> None:
    source = plan.recipe.source
    for candidate in plan.candidates:
        if source is None and len(candidate.inputs) != 1:
            named = ", ".join(repr(spec.name) for spec in candidate.inputs)
            raise BuildError(
                f"cannot use {candidate.name} as stage {plan.name}: it has "
                f"{len(candidate.inputs)} inputs ({named}); the request is one tensor, only a "
                f"stage that reads another one (--reads {plan.name}=stage:NAME) may have several"
            )
        for before in plans[source].candidates if source else ():
            gives = [spec.elements for spec in before.outputs]
            takes = [spec.elements for spec in candidate.inputs]
            if gives != takes:
                raise BuildError(
                    f"cannot use {candidate.name} as stage {plan.name}: its inputs hold {takes} "
                    f"elements, {before.name} of stage {source} gives {gives}"
                )


def _unbatched(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:] if shape[:1] == (1,) else shape
