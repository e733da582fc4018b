"""A temperature from `ctl cascade calibrate` to the answers of a runner."""

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.runner import blackbox
from agent.runner.blackbox import BlackBox
from agent.runner.control import Residence
from agent.runner.prepare import prepare
from agent.runner.room import Room
from agent.runner.walk import Answer
from controller.catalog import Catalog
from controller.cli.cascade_calibrate import build_command
from controller.errors import BuildError
from controller.evaluate import evaluate
from controller.models import NewModel, add_models
from controller.recipe import Recipe, read_stages
from controller.samples import read_samples
from controller.temperature import halves
from protocols.bundle import Bundle, Stage
from protocols.inference.runtime import open_model
from protocols.inference.tensors import conform, real
from tests.agent.runner.cascades import Built
from tests.controller.classifiers import dataset, pair, save
from tests.controller.cli.toolkit import Toolkit
from tests.controller.conftest import new_home

N = 900
STAGES = ("--stage", "small=small", "--stage", "large=large")
OUT: Residence = "out"
Document = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """What `calibrate` said of a small and a large model, and what was built after it."""

    ctl: Toolkit
    folder: Path
    found: Document
    trial: Document
    """With temperatures, by the margin."""
    built: Document
    bundle: Bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("warm")
    ctl = Toolkit(new_home(folder / "home"))
    pair(folder, N, noise=0.3)
    x, y = dataset(500, seed=33)
    save(folder / "held-out.npz", x=x, y=y)
    files = [folder / "small.tflite", folder / "large.tflite"]
    add_models(Catalog(ctl.home), [NewModel(path, path.stem) for path in files])
    found = ctl.json("calibrate", *STAGES, *samples(folder), "--name", "best")
    trial = next(t for t in found["trials"] if t["scaled"] and t["metric"] == "margin")
    how = ("--gate", "margin", "--temperature", "auto", "--eps", "2%")
    built = ctl.json("build", "warm", *STAGES, *samples(folder), *how)
    bundle = Catalog(ctl.home).find_bundle("warm", ctl.home.trust()).bundle
    return Made(ctl, folder, found, trial, built, bundle)


def samples(folder: Path) -> tuple[str, Path]:
    return "--samples", folder / "samples.npz"


def test_what_is_built_is_what_calibrate_found(made: Made) -> None:
    scalings, (certificate,) = made.found["scalings"], made.bundle.certificates
    fitted = {stage: scaling["temperature"] for stage, scaling in scalings.items()}
    assert list(fitted) == ["small", "large"]
    assert {stage.name: stage.temperature for stage in made.bundle.stages} == fitted
    assert all(0.01 < degrees < 0.99 for degrees in fitted.values())
    gates = [step.model_dump() for step in certificate.gates["small"]]
    assert gates == made.trial["gates"]["small"]
    assert gates[0]["n"] == made.built["fitted"] == N // 2
    base = made.bundle.schedule.base_threshold
    assert certificate.accuracy == made.trial["accuracy"][base]
    assert made.built["temperatures"] == fitted
    for scaling in scalings.values():
        assert scaling["error_after"] < scaling["error_before"]


def test_the_command_that_calibrate_prints_builds(made: Made) -> None:
    best = made.found["recommended"]
    ctl, words = made.ctl, shlex.split(best["build"])
    assert words[:4] == ["ctl", "cascade", "build", "best"]
    ctl.run(*words[2:])
    bundle = Catalog(ctl.home).find_bundle("best", ctl.home.trust()).bundle
    assert bundle.stages[0].metric == best["metric"]
    assert (bundle.stages[0].temperature != 1) == best["scaled"]
    step = bundle.certificates[0].gates["small"][bundle.schedule.base_threshold]
    assert (step.eps, step.n) == (best["eps"], N // 2 if best["scaled"] else N)
    shown = ctl.run("calibrate", *STAGES, *samples(made.folder), "--eps", "5%")
    assert "\n  ctl cascade build cascade --stage small=small " in shown.stderr
    assert " --eps 0.05\n" in shown.stderr
    assert shown.stdout.count("*") == len(made.trial["eps"])


def test_the_command_has_all_that_was_said() -> None:
    words = ["head=h.tflite", "small=a b.tflite,c", "large=d"]
    how = {"reads": {"small": "stage:head"}, "gates": ["head=none"], "scores": {"large": "1"}}
    recipe = Recipe("x", read_stages(words, **how), Path("d.npz"), "a", "b", 0.005)  # type: ignore[arg-type]
    command = build_command(recipe, words, "entropy", scaled=True)
    assert command == (
        "ctl cascade build x --stage head=h.tflite --stage 'small=a b.tflite,c' --stage large=d "
        "--gate head=none --gate small=entropy --reads small=stage:head --scores large=1 "
        "--temperature auto --samples d.npz --x-key a --y-key b --eps 0.005"
    )
    assert "--temperature" not in build_command(recipe, words, "entropy", scaled=False)


def test_show_ls_and_build_print_it(made: Made) -> None:
    small, large = (f"{stage.temperature:.4g}" for stage in made.bundle.stages)
    shown = made.ctl.run("show", "warm").stdout
    assert "TEMPERATURE" in shown
    assert small in shown
    assert large in shown
    listed = made.ctl.run("ls").stdout
    assert f"small (margin, T {small}) > large (T {large})" in listed
    how = ("--temperature", "0.5", "--temperature", "large=1")
    told = made.ctl.run("build", "cold", *STAGES, *samples(made.folder), *how)
    assert re.search(r"Temperature +small 0\.5 *\n", told.stdout)
    assert f"certified on {N} samples" in told.stderr


def test_eval_uses_it(made: Made) -> None:
    held = made.folder / "held-out.npz"
    shown = made.ctl.run("eval", "warm", "--samples", held).stdout
    assert f"at temperatures small {made.bundle.stages[0].temperature:.4g}, large " in shown
    given, answers = read_samples(held), walked(made, np.load(held)["x"])
    shares = np.bincount([answer.stage for answer in answers], minlength=2) / len(answers)
    for stage, answered, asked in zip(("small", "large"), shares, (1, shares[1]), strict=True):
        assert re.search(rf"{stage} +{stage} +{asked:.1%} +{answered:.1%}", shown)
    right = np.array([answer.values.argmax() for answer in answers]) == given.y
    assert f"{right.mean():.2%} (95%: " in shown
    plain = made.bundle.with_(stages=[s.with_(temperature=1.0) for s in made.bundle.stages])
    errors = [
        evaluate(Catalog(made.ctl.home), bundle, given).calibration_error
        for bundle in (made.bundle, plain)
    ]
    assert f"{errors[0]:.2%} (at temperatures" in shown
    assert errors[0] < errors[1]


def test_a_runner_gates_and_answers_by_it(made: Made) -> None:
    """By the bare interpreter and softmax(z / T), on the very samples that certified."""
    x = np.load(made.folder / "samples.npz")["x"][halves(N, 1)[1]]
    base = made.bundle.schedule.base_threshold
    step = made.bundle.certificates[0].gates["small"][base]
    answers = walked(made, x)
    assert np.mean([answer.stage == 1 for answer in answers]) == pytest.approx(step.escalated)
    assert 0 < step.escalated < 1
    first, last = (chances(made, stage, x) for stage in made.bundle.stages)
    for answer, small, large in zip(answers, first, last, strict=True):
        second, best = np.sort(small)[-2:]
        margin = best - second
        if abs(margin - step.threshold) > 1e-6:
            assert answer.stage == int(margin < step.threshold)
        expected = large if answer.stage else small
        np.testing.assert_allclose(answer.values, expected, atol=1e-6)


def test_without_a_gate_the_answer_is_what_the_model_gives(made: Made) -> None:
    made.ctl.run("build", "alone", "--stage", "large=large", *samples(made.folder))
    bundle = Catalog(made.ctl.home).find_bundle("alone", made.ctl.home.trust()).bundle
    (stage,) = bundle.stages
    x = np.load(made.folder / "held-out.npz")["x"][:8]
    plain = walked(made, x, bundle)
    warm = walked(made, x, bundle.with_(stages=(stage.with_(temperature=3.0),)))
    assert [a.values.tobytes() for a in plain] == [a.values.tobytes() for a in warm]


def test_too_few_samples(made: Made, tmp_path: Path) -> None:
    x, y = dataset(171)
    few = ("--samples", save(tmp_path / "few.npz", x=x, y=y))
    for command, more in (("calibrate", ()), ("build", ("few", "--temperature", "auto"))):
        failed = made.ctl.run(command, *more, *STAGES, *few, fails=True)
        assert isinstance(failed.exception, BuildError)
        assert "cannot fit temperatures with 171 samples" in str(failed.exception)
    assert not Catalog(made.ctl.home).versions("few")


def walked(made: Made, x: NDArray[np.float32], bundle: Bundle | None = None) -> list[Answer]:
    """Return what the runner answers, with everything in memory and the base threshold."""
    bundle = bundle or made.bundle
    built = Built(bundle, made.ctl.home.artifact_path("0" * 64).parent, x)
    fd = blackbox.create()
    plan = built.plan(threshold_index=bundle.schedule.base_threshold)
    cascade = prepare(built.assignment(), plan, BlackBox(fd), Room(), lambda _: None, lambda: None)
    os.close(fd)
    answers = cascade.answer(x)
    cascade.set_plan(built.plan(*(OUT for _ in bundle.stages)), "test")
    cascade.shrink()
    return answers


def chances(made: Made, stage: Stage, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return softmax(z / T) of a stage's scores, [n, classes], in the plainest way."""
    model = open_model(Catalog(made.ctl.home).artifact_path(stage.variants[0].artifact))
    rows = [model.run([conform(row, model.inputs[0])])[0] for row in x]
    z = np.stack([real(row, model.outputs[0]).ravel() for row in rows]).astype(np.float64)
    if stage.variants[0].score_kind == "probabilities":
        z = np.log(np.maximum(z, 1e-7))
    grown = np.exp(z / stage.temperature)
    shares: NDArray[np.float64] = grown / grown.sum(axis=1, keepdims=True)
    return shares
