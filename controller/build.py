"""Building a cascade: from a recipe to a signed bundle in the catalog.

Nothing is written before everything has been found good: then the models, the golden samples, the
bundle's envelope and its record, in that order.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from controller.catalog import Catalog, ModelRecord, valid_name
from controller.errors import BuildError
from controller.golden import encode, pick
from controller.home import Home
from controller.judge import Given, as_tensor, judge, take_in
from controller.manifest import expected_classes, make_bundle
from controller.recipe import Recipe
from controller.report import Built, ladder_of, warnings_of
from controller.resolve import Candidate, OnModel, StagePlan, resolve
from controller.samples import Samples, read_samples
from controller.scores import OnAnswers, Runs
from controller.signing import load_signer
from protocols.bundle import Bundle, Golden
from protocols.chunks import listed_ref
from protocols.envelope import Envelope
from protocols.topics import check_name


def build(
    home: Home,
    recipe: Recipe,
    on_model: OnModel = lambda _: None,
    on_answers: OnAnswers = lambda *_: None,
    clock: Callable[[], float] = time.time,
) -> Built:
    """Build a cascade, sign it with the release key and keep it in the catalog.

    Args:
        home: keys and catalog.
        recipe: what is asked for.
        on_model: told before each model is looked at.
        on_answers: told how far the models are with the samples.
        clock: Unix time in seconds.

    Returns:
        The bundle, where it is, and what calibration found.

    Raises:
        HomeError: the release key cannot be used.
        BuildError: models, samples or gates are not such that they make this cascade.
        CatalogError, ArtifactError: a model is not in the catalog, or damaged there.
        TopicError: the cascade's name is none.
    """
    check_name(recipe.name, "cascade")
    catalog, signer = Catalog(home), load_signer(home, "release")
    _check_version(catalog, recipe)
    samples = _read(recipe)
    plans = resolve(catalog, recipe, samples.x.shape[1:] if samples else None, on_model)
    given = take_in(plans, samples)
    with Runs(plans, as_tensor(given.spec), given.samples.x, on_answers) as runs:
        judged = judge(recipe, plans, given, runs)
        expected = expected_classes(plans, judged, runs)
    golden, count = _golden(given, judged.exits, expected)
    draft = make_bundle(
        recipe, plans, given, judged, Golden(artifact=listed_ref(golden), count=count)
    )
    with catalog.locked():
        version = recipe.version or max(catalog.versions(recipe.name), default=0) + 1
        bundle = draft.with_(version=version, created_ts=clock())
        envelope = _signed(bundle, signer.sign_bundle)
        _keep_models(catalog, plans, clock())
        catalog.add_artifact(golden)
        for artifact in bundle.artifacts:
            catalog.add_chunk_list(artifact)
        ref = catalog.save_bundle(bundle, envelope)
    ladders = tuple(
        ladder_of(plans, choice, found, judged.base) for choice, found in judged.calibrations
    )
    warnings = tuple(warnings_of(recipe, plans, given, judged, ladders))
    return Built(ref, bundle, ladders, judged.accuracy, warnings, judged.fitted)


def _read(recipe: Recipe) -> Samples | None:
    if recipe.samples is None:
        if recipe.gated:
            raise BuildError(
                f"cannot build {recipe.name}: a gate is calibrated on labelled samples; give "
                "--samples FILE.npz with x and y, or --no-gate for the parts of a split model"
            )
        return None
    samples = read_samples(recipe.samples, recipe.x_key, recipe.y_key)
    if recipe.gated and samples.y is None:
        raise BuildError(
            f"cannot build {recipe.name}: a gate is calibrated on labelled samples, and "
            f"{recipe.samples} has no array {recipe.y_key!r}; name the labels with --y-key"
        )
    return samples


def _check_version(catalog: Catalog, recipe: Recipe) -> None:
    versions = catalog.versions(recipe.name)
    if recipe.version in versions:
        raise BuildError(
            f"cannot build {recipe.name}@{recipe.version}: that version is there already, and "
            f"versions never change; the next is {versions[-1] + 1}"
        )


def _golden(
    given: Given, exits: NDArray[np.int64], expected: dict[str, NDArray[np.int64]]
) -> tuple[bytes, int]:
    """Return the file of golden samples and how many there are."""
    x = given.samples.x
    chosen = pick(expected, exits, x[0].nbytes)
    classes = {stage: row[chosen] for stage, row in expected.items()}
    return encode(x[chosen], classes), len(chosen)


def _signed(bundle: Bundle, sign: Callable[[Bundle], bytes]) -> bytes:
    envelope = sign(bundle)
    if len(envelope) > Envelope.MAX_BYTES:
        raise BuildError(
            f"cannot build {bundle.name}: its manifest has {len(envelope)} bytes, at most "
            f"{Envelope.MAX_BYTES} are allowed; shorten the labels or give fewer variants"
        )
    return envelope


def _keep_models(catalog: Catalog, plans: Sequence[StagePlan], now_s: float) -> None:
    """Keep the models that came as files; those whose name is free can be used by name later."""
    for plan in plans:
        for one in plan.candidates:
            if not one.is_file:
                continue
            if catalog.add_file(one.path).sha256 != one.artifact.sha256:
                raise BuildError(f"cannot build: {one.path} has changed meanwhile; build again")
            name = valid_name(one.path.stem)
            if catalog.find_model(name) is None:
                catalog.save_model(_record(name, one, now_s))


def _record(name: str, one: Candidate, now_s: float) -> ModelRecord:
    return ModelRecord(
        name=name,
        artifact=one.artifact,
        inputs=one.inputs,
        outputs=one.outputs,
        scores=one.scores,
        needs=one.needs,
        runtime=one.runtime,
        source=one.path.name,
        added_ts=now_s,
    )
