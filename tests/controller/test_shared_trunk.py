"""A cascade of trunk, exit and rest: built, certified, evaluated and fitted to a device."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from controller.build import build
from controller.catalog import Catalog
from controller.compress.split import cuts_at, make_parts, read_flow
from controller.dry_run import dry_run
from controller.errors import BuildError
from controller.evaluate import evaluate
from controller.fit import forms, row_of
from controller.fleet import Device
from controller.home import Home
from controller.recipe import Recipe, StageRecipe, read_stages
from controller.report import Built
from controller.samples import read_samples
from protocols.desired import Deployment
from protocols.inference.gate import confidence, probabilities
from protocols.inference.runtime import open_model
from protocols.inference.tensors import conform, hand_on, real
from tests import models
from tests.controller.classifiers import CLASSES, FEATURES, dataset, layers, save
from tests.controller.conftest import new_home
from tests.models import Form, Layers

READS = {"exit": "stage:trunk", "rest": "stage:trunk"}


def whole() -> Layers:
    """Return the layer that decides the classes as two: relu(Wx) - relu(-Wx) = Wx."""
    ((weights, bias),) = layers()
    both = np.concatenate([weights, -weights])
    return [(both, np.concatenate([bias, -bias])), (difference(), bias)]


def difference(noise: float = 0.0) -> NDArray[np.float32]:
    eye = np.eye(CLASSES)
    draw = np.random.default_rng(5)
    taken = np.concatenate([eye, -eye], axis=1)
    return (taken + noise * draw.normal(0, 1, taken.shape)).astype(np.float32)


@dataclass(frozen=True)
class Parts:
    """The files of a network with an exit, and what the bare interpreters say."""

    folder: Path
    samples: Path

    def stages(self) -> tuple[StageRecipe, ...]:
        return self.read("trunk=none")

    def read(self, *gates: str) -> tuple[StageRecipe, ...]:
        named = [f"{part}={self.folder / part}.tflite" for part in ("trunk", "exit", "rest")]
        return read_stages(named, reads=READS, gates=gates, scores={})

    def classes(self, part: str, x: NDArray[np.float32]) -> tuple[NDArray[np.int64], list[float]]:
        """Return what trunk and a part answer, and how sure they are."""
        trunk, head = (open_model(self.folder / f"{name}.tflite") for name in ("trunk", part))
        classes, sure = [], []
        for sample in x:
            (features,) = trunk.run([conform(sample, trunk.inputs[0])])
            (scores,) = head.run([hand_on(features, trunk.outputs[0], head.inputs[0])])
            chances = probabilities(real(scores, head.outputs[0]), "logits")
            classes.append(int(chances.argmax()))
            sure.append(confidence(chances, "max_prob"))
        return np.array(classes), sure


def write(folder: Path, form: Form) -> Parts:
    content = models.classifier(whole(), form=form, head="logits")
    flow = read_flow(content, "whole")
    trunk, rest = make_parts(flow, cuts_at(flow, "dense0"))
    head: Layers = [(difference(0.1), np.zeros(CLASSES, np.float32))]
    early = models.classifier(head, form=form, head="logits", input_range=(0.0, 5.0))
    for name, data in (("trunk", trunk.content), ("exit", early), ("rest", rest.content)):
        (folder / f"{name}.tflite").write_bytes(data)
    x, y = dataset(1000)
    return Parts(folder, save(folder / "samples.npz", x=x, y=y))


@dataclass(frozen=True)
class Made:
    home: Home
    parts: Parts
    built: Built


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("trunk")
    home, parts = new_home(folder / "home"), write(folder, "int8")
    recipe = Recipe("shared", parts.stages(), samples=parts.samples, eps=0.02)
    return Made(home, parts, build(home, recipe))


def test_only_the_exit_is_gated_and_only_scores_are_checked(made: Made) -> None:
    bundle = made.built.bundle
    assert [(s.name, s.reads, s.metric) for s in bundle.stages] == [
        ("trunk", "request", None),
        ("exit", "stage:trunk", "max_prob"),
        ("rest", "stage:trunk", None),
    ]
    assert [s.variants[0].score_kind for s in bundle.stages] == ["raw", "logits", "logits"]
    (certificate,) = bundle.certificates
    assert list(certificate.gates) == ["exit"]
    assert bundle.input.shape == (FEATURES,)
    content = Catalog(made.home).read(bundle.golden.artifact)
    path = made.parts.folder / "golden.npz"
    path.write_bytes(content)
    with np.load(path) as arrays:
        assert set(arrays.files) == {"x", "top1_exit", "top1_rest"}


def test_the_certificate_is_of_the_exit_against_the_rest(made: Made) -> None:
    x, y = dataset(1000)
    (early, sure), (rest, _) = (made.parts.classes(part, x) for part in ("exit", "rest"))
    (certificate,) = made.built.bundle.certificates
    for step in certificate.gates["exit"]:
        leaves = np.array(sure) >= step.threshold
        assert step.harms == int((leaves & (early != y) & (rest == y)).sum())
        assert step.escalated == pytest.approx(1 - leaves.mean())
    assert certificate.last_stage_accuracy == pytest.approx((rest == y).mean())
    assert 0 < certificate.gates["exit"][2].escalated < 0.9


def test_the_trunk_is_paid_once_and_the_rest_by_its_share(made: Made) -> None:
    trunk, early, rest = (s.variants[0].needs.answer_ms for s in made.built.bundle.stages)
    (ladder,) = made.built.ladders
    for step in ladder.steps:
        share = step.gates["exit"].escalated
        assert step.answer_ms == pytest.approx(trunk + early + share * rest)
    assert ladder.alone_ms == pytest.approx(trunk + rest)


def test_the_schedule_keeps_trunk_and_exit_together(made: Made) -> None:
    rows = made.built.bundle.schedule.residency
    assert rows[1].resident == rows[3].resident == ("trunk", "exit")
    assert rows[1].on_demand == ("rest",)


def test_it_is_evaluated_as_it_will_run(made: Made) -> None:
    x, y = dataset(600, seed=9)
    path = save(made.parts.folder / "other.npz", x=x, y=y)
    bundle = made.built.bundle
    found = evaluate(Catalog(made.home), bundle, read_samples(path))
    (early, sure), (rest, _) = (made.parts.classes(part, x) for part in ("exit", "rest"))
    at = bundle.certificates[0].gates["exit"][bundle.schedule.base_threshold].threshold
    leaves = np.array(sure) >= at
    assert found.accuracy == pytest.approx((np.where(leaves, early, rest) == y).mean())
    assert [s.asked for s in found.stages] == pytest.approx([1, 1, (~leaves).mean()])
    assert [s.answered for s in found.stages] == pytest.approx([0, leaves.mean(), (~leaves).mean()])
    assert found.stages[0].accuracy is None
    trunk, early_ms, rest_ms = (s.variants[0].needs.answer_ms for s in bundle.stages)
    assert found.answer_ms == pytest.approx(trunk + early_ms + (~leaves).mean() * rest_ms)
    assert found.last_ms == pytest.approx(trunk + rest_ms)


def test_metrics_are_compared_before_it_is_built(made: Made) -> None:
    recipe = Recipe("shared", made.parts.stages(), samples=made.parts.samples)
    found = dry_run(Catalog(made.home), recipe)
    assert "trunk" not in found.scalings
    assert {tuple(trial.calibration.gates) for trial in found.trials} == {("exit",)}


def test_only_the_rest_may_stay_away(made: Made) -> None:
    bundle = made.built.bundle
    deployment = Deployment(id="one", fleet="home", bundle=made.built.ref, order=1, created_ts=1.0)
    found = forms(deployment, bundle, Device("pi"), None)
    assert [form.dropped for form in found] == [(), ("rest",)]
    assert row_of(deployment, bundle) == bundle.schedule


def test_a_trunk_that_is_taken_for_a_gate_is_refused(made: Made) -> None:
    recipe = Recipe("shared", made.parts.read(), samples=made.parts.samples)
    with pytest.raises(BuildError, match="an output of features needs no gate: --gate STAGE=none"):
        build(made.home, recipe)


def test_what_nobody_reads_needs_a_gate(made: Made) -> None:
    named = [f"{part}={made.parts.folder / part}.tflite" for part in ("trunk", "exit", "rest")]
    with pytest.raises(BuildError, match="stage 'trunk' has no gate and no stage reads it"):
        read_stages(named, reads={}, gates=["trunk=none"], scores={})
