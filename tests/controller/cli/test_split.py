import shlex
from pathlib import Path

import numpy as np
import pytest

import controller.demo
from agent.runner.control import Ready
from controller.catalog import Catalog
from controller.compress.errors import CompressError
from controller.samples import read_samples
from protocols.inference.runtime import open_model
from protocols.inference.tensors import conform
from tests import models
from tests.agent.runner.cascades import Built
from tests.agent.runner.harness import running
from tests.controller.cli.toolkit import Toolkit
from tests.controller.conftest import new_home

ASSETS = Path(controller.demo.__file__).parent / "assets"
LARGE = ASSETS / "large-int8.tflite"


@pytest.fixture
def ctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toolkit:
    monkeypatch.chdir(tmp_path)
    return Toolkit(new_home(tmp_path / "home"))


def test_the_parts_are_a_cascade_that_answers_as_the_whole(ctl: Toolkit, tmp_path: Path) -> None:
    split = ctl.json("split", LARGE, "--parts", "3", "--out", tmp_path)
    assert [Path(part["file"]).name for part in split["parts"]] == [
        f"large-int8-part{number}.tflite" for number in (1, 2, 3)
    ]
    assert split["bytes_before"] == LARGE.stat().st_size
    build = shlex.split(split["build"])[2:]
    assert build[:2] == ["build", "large-int8"]
    ctl.run(*build)
    bundle = Catalog(ctl.home).find_bundle("large-int8", ctl.home.trust()).bundle
    assert [stage.reads for stage in bundle.stages] == ["request", "stage:part1", "stage:part2"]
    assert [stage.metric for stage in bundle.stages] == [None, None, None]

    x = read_samples(ASSETS / "digits.npz", "x_test", "y_test").x[:12]
    whole = open_model(LARGE)
    (spec,), (out,) = whole.inputs, whole.outputs
    x = np.stack(
        [conform(one, spec)[0] for one in x]
    )  # as int8: the parts take what the whole does
    expected = [whole.run([one[None]])[0] for one in x]
    folder = ctl.home.artifact_path("0" * 64).parent
    built = Built(bundle, folder, x)
    with running() as runner:
        runner.assign((built.assignment(), built.plan()))
        runner.expect(Ready)
        runner.take()
        client = runner.client()
        for one, scores in zip(x, expected, strict=True):
            status, answer = client.infer("large-int8", one, "INT8")
            assert status == 200, answer
            (output,) = answer["outputs"]
            assert (output["name"], output["datatype"]) == (out.name, "INT8")
            assert output["data"] == scores.ravel().tolist()


def test_the_list_of_cuts(ctl: Toolkit, tmp_path: Path) -> None:
    cuts = ctl.json("split", LARGE, "--list", "--tensors", "2")
    assert len(cuts) == 21
    assert [len(cut["tensors"]) for cut in cuts].count(2) == 4
    assert cuts[0]["macs_before"] + cuts[0]["macs_after"] == 192_198_656
    listed = ctl.run("split", LARGE, "--list")
    assert listed.stdout.count("\n") == 1 + 17
    assert "17 legal cuts of 21 places" in listed.stderr
    assert "Not behind operator 2: 2 tensors are handed over, at most 1 allowed." in listed.stderr
    assert not list(tmp_path.glob("*.tflite"))


def test_files_that_are_there_stay_unless_forced(ctl: Toolkit, tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(models.classifier(models.random_layers(8, 6, 4)))
    there = tmp_path / "m-part2.tflite"
    there.write_bytes(b"mine")
    failed = ctl.run("split", model, "--at", "dense0", fails=True)
    assert isinstance(failed.exception, CompressError)
    assert "m-part2.tflite: it is there already; --force" in str(failed.exception)
    assert there.read_bytes() == b"mine"
    assert not (tmp_path / "m-part1.tflite").exists()
    before = model.read_bytes()
    ctl.run("split", model, "--at", "dense0", "--force")
    assert there.read_bytes() != b"mine"
    assert model.read_bytes() == before


@pytest.mark.parametrize(
    "options", [(), ("--parts", "2", "--list"), ("--parts", "2", "--max-mib", "1")]
)
def test_one_way_to_choose(ctl: Toolkit, options: tuple[str, ...]) -> None:
    assert ctl.run("split", LARGE, *options, fails=True).exit_code == 2
