import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.catalog import Catalog
from controller.errors import BuildError
from protocols.bundle import Bundle
from tests import models
from tests.controller.classifiers import dataset, layers, pair, save
from tests.controller.cli.toolkit import Toolkit
from tests.controller.conftest import new_home

N = 1500
Document = dict[str, Any]


@pytest.fixture(scope="module")
def ctl(tmp_path_factory: pytest.TempPathFactory) -> Toolkit:
    return Toolkit(new_home(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small, a middle and a large model, and samples."""
    made = tmp_path_factory.mktemp("pool")
    pair(made, N, noise=0.3)
    (made / "middle.tflite").write_bytes(models.classifier(layers(0.1), form="int8"))
    (made / "costs.json").write_text(
        '{"small": {"latency_ms": 1}, "middle": {"latency_ms": 8}, "large": {"latency_ms": 50}}'
    )
    x, y = dataset(500, seed=33)
    save(made / "held-out.npz", x=x, y=y)
    return made


@pytest.fixture(scope="module")
def found(ctl: Toolkit, folder: Path) -> Document:
    document: Document = ctl.json(
        "search",
        *("--models", ",".join(str(folder / f"{n}.tflite") for n in ("small", "middle", "large"))),
        *("--samples", folder / "samples.npz", "--profile", folder / "costs.json"),
        *("--name", "found"),
    )
    return document


def test_the_printed_command_builds_what_was_printed(ctl: Toolkit, found: Document) -> None:
    rows = [row for row in found["rows"] if row["cascade_wins"]]
    assert rows
    row = rows[-1]
    cascade = row["cascade"]
    ctl.run(*shlex.split(row["build"])[2:])
    bundle = Catalog(ctl.home).find_bundle("found", ctl.home.trust()).bundle
    assert [stage.name for stage in bundle.stages] == cascade["stages"]
    assert [stage.metric for stage in bundle.stages[:-1]] == cascade["metrics"]
    (certificate,) = bundle.certificates
    base = bundle.schedule.base_threshold
    gates = {name: ladder[base].model_dump() for name, ladder in certificate.gates.items()}
    assert gates == cascade["gates"]
    assert certificate.accuracy == cascade["accuracy"]
    assert sum(gate["eps"] for gate in gates.values()) == pytest.approx(cascade["certificate_eps"])
    shares = [1.0, *(gate["escalated"] for gate in gates.values())]
    costs = {"small": 1, "middle": 8, "large": 50}
    expected = sum(costs[s] * n for s, n in zip(cascade["stages"], shares, strict=True))
    assert cascade["cost"] == pytest.approx(expected)


def test_what_chose_does_not_certify(found: Document, folder: Path) -> None:
    with np.load(folder / "samples-certify.npz") as kept, np.load(folder / "samples.npz") as every:
        assert len(kept["x"]) == N - N // 3
        whole = {row.tobytes() for row in every["x"]}
        assert all(row.tobytes() in whole for row in kept["x"])
    gate = next(iter(found["rows"][-1]["cascade"]["gates"].values()))
    assert gate["n"] == N - N // 3


def test_the_table(ctl: Toolkit, folder: Path) -> None:
    kept = folder / "samples-certify.npz"
    before = kept.read_bytes() if kept.exists() else None
    small, large = folder / "small.tflite", folder / "large.tflite"
    words = ("search", "--models", f"{small},{large}", "--certify", folder / "held-out.npz")
    done = ctl.run(*words, "--samples", folder / "samples.npz", "--cost", "bytes", "--eps", "5%")
    assert "Costs: sizes of the files." in done.stderr
    assert "deploy the single model" in done.stderr
    assert "large*" in done.stdout
    assert done.stdout.count("single model") == 1
    if before is not None:
        assert kept.read_bytes() == before


def test_costs_are_measured_in_turns(ctl: Toolkit, folder: Path) -> None:
    small, large = folder / "small.tflite", folder / "large.tflite"
    words = ("search", "--models", f"{small},{large}", "--certify", folder / "held-out.npz")
    more = ("--samples", folder / "samples.npz", "--eps", "5%", "--cost", "energy")
    done = ctl.json(*words, *more, "--watts", "2")
    assert "runs in turns, one thread, here, times 2 W: an estimate" in done["costs_from"]
    assert done["energy_method"] == "model"
    assert all(single["cost"] > 0 for single in done["singles"])
    failed = ctl.run(*words, *more, fails=True)
    assert "cannot estimate energy: give --watts" in str(failed.exception)
    assert ctl.run(*words, *more[:4], "--watts", "2", fails=True).exit_code == 2


def test_a_pool_that_cannot_be_searched(ctl: Toolkit, folder: Path) -> None:
    small = folder / "small.tflite"
    for words, why in (
        (f"{small}", "cannot search 1 models"),
        (f"{small},{small}", "are the same file"),
        (f"{small},none", "cannot find model 'none'"),
    ):
        failed = ctl.run(
            "search", "--models", words, "--samples", folder / "held-out.npz", fails=True
        )
        assert why in str(failed.exception)
    assert not (folder / "held-out-certify.npz").exists()


@pytest.fixture(scope="module")
def judged(ctl: Toolkit, folder: Path) -> Bundle:
    """A cascade that was built from the small and the large model, with all samples."""
    stages = [f"{name}={folder / name}.tflite" for name in ("small", "large")]
    words = ("--stage", stages[0], "--stage", stages[1], "--samples", folder / "samples.npz")
    ctl.run("build", "judged", *words)
    return Catalog(ctl.home).find_bundle("judged", ctl.home.trust()).bundle


def test_eval_of_what_was_built(ctl: Toolkit, folder: Path, judged: Bundle) -> None:
    bundle = judged
    done = ctl.json("eval", "judged", "--samples", folder / "held-out.npz")["evaluation"]
    small, large = done["stages"]
    assert small["asked"] == 1.0
    assert small["answered"] + large["answered"] == pytest.approx(1.0)
    assert large["asked"] == large["answered"]
    against = done["against"]
    assert against["held"]
    assert not against["beyond_chance"]
    assert against["eps"] == 0.01
    assert against["loss"] == pytest.approx(against["last_accuracy"] - done["accuracy"])
    assert done["interval"]["low"] < done["accuracy"] < done["interval"]["high"]
    needs = [stage.variants[0].needs.answer_ms for stage in bundle.stages]
    assert done["answer_ms"] == pytest.approx(needs[0] + large["asked"] * needs[1])

    again = ctl.json("eval", "judged@1", "--samples", folder / "samples.npz")["evaluation"]
    (certificate,) = bundle.certificates
    assert again["accuracy"] == certificate.accuracy
    step = certificate.gates["small"][bundle.schedule.base_threshold]
    assert again["stages"][1]["asked"] == step.escalated
    assert again["against"]["harms"] == step.harms
    assert again["same_file"]
    shown = ctl.run("eval", "judged", "--samples", folder / "samples.npz", "--eps", "5%")
    assert "calibrated with samples of this very file" in shown.stderr
    assert re.search(r"Eps +5\.0%: held", shown.stdout)


@pytest.mark.usefixtures("judged")
def test_eval_where_the_world_has_changed(ctl: Toolkit, tmp_path: Path) -> None:
    x, _ = dataset(500, seed=5)
    ((weights, _),) = layers()
    x = x * 40  # everything is sure now, the wrong answers too
    changed = save(tmp_path / "changed.npz", x=x, y=(x @ weights.T).argmax(axis=1))
    shown = ctl.run("eval", "judged", "--samples", changed)
    assert "broken, and not by chance" in shown.stdout
    for more, why in (
        (("--eps", "3%"), "its ladder has 0.5%, 1.0%, 2.0%, 5.0%"),
        (("--variant", "small=none"), "cannot evaluate with small=none"),
        (("--y-key", "none"), "no array 'none'"),
    ):
        failed = ctl.run("eval", "judged", "--samples", changed, *more, fails=True)
        assert why in str(failed.exception)


def test_the_dry_run(ctl: Toolkit, folder: Path) -> None:
    stages = [f"{name}={folder / name}.tflite" for name in ("small", "large")]
    words = ("calibrate", "--stage", stages[0], "--stage", stages[1])
    found = ctl.json(*words, "--samples", folder / "samples.npz")
    assert (found["fitted"], found["certified"]) == (N // 2, N // 2)
    assert len(found["trials"]) == 6
    scaling = found["scalings"]["small"]
    assert scaling["nll_after"] <= scaling["nll_before"]
    assert 0 < scaling["reordered"]["max_prob"] < 0.5
    shown = ctl.run(*words, "--samples", folder / "samples.npz").stdout
    assert shown.count("yes") == 3 * len(found["trials"][0]["eps"])
    x, y = dataset(100)
    few = save(folder / "few.npz", x=x, y=y)
    failed = ctl.run(*words, "--samples", few, fails=True)
    assert isinstance(failed.exception, BuildError)
    assert "with 100 samples: one half fits them" in str(failed.exception)
    assert not Catalog(ctl.home).versions("the-cascade")
