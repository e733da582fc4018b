"""The comparison of a file with its source, on a file that was not converted but built."""

from pathlib import Path

import numpy as np
import pytest

from controller.compress.convert.conversion import checked
from controller.compress.convert.messages import MODEL, Converted, End
from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from protocols.inference.runtime import open_model
from tests.controller import classifiers
from tests.models import classifier


@pytest.fixture(name="made")
def _made(tmp_path: Path) -> Converted:
    """A file, inputs, and the answers that its source would give."""
    graph = Graph.read(classifier(classifiers.layers()), "dense")
    graph.complete()
    (tmp_path / MODEL).write_bytes(graph.write())
    model = open_model(tmp_path / MODEL)
    x = np.random.default_rng(0).random((5, *model.inputs[0].shape), np.float32)
    answers = np.stack([model.run([row])[0] for row in x])
    np.save(tmp_path / "in_0.npy", x)
    np.save(tmp_path / "out_0.npy", answers)
    (taken,), (gives,) = graph.named_ends()
    ends = [
        End(name=name, shape=each.shape, dtype="float32", is_open=False, moved=False, key=key)
        for name, each, key in (
            ("x", model.inputs[0], taken),
            ("scores", model.outputs[0], gives),
        )
    ]
    model.close()
    return Converted(inputs=(ends[0],), outputs=(ends[1],), sample_rows=0, tools="none")


def test_a_file_that_answers_as_its_source_passes(made: Converted, tmp_path: Path) -> None:
    found = checked(made, tmp_path, "dense", 1e-6)

    assert found.rows == 5
    assert (found.worst.difference, found.worst.agreement) == (0.0, 1.0)


def test_a_file_that_answers_otherwise_is_refused(made: Converted, tmp_path: Path) -> None:
    answers = np.load(tmp_path / "out_0.npy")
    answers[3, ..., 0] += 0.5
    np.save(tmp_path / "out_0.npy", answers)

    with pytest.raises(CompressError, match=r"'scores'.*differs.*by up to 0\.5.*--tolerance"):
        checked(made, tmp_path, "dense", 1e-3)


def test_a_file_without_one_of_the_inputs_is_refused(made: Converted, tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="left out an input"):
        checked(made.with_(inputs=()), tmp_path, "dense", 1e-3)


def test_a_file_that_does_not_run_is_refused(made: Converted, tmp_path: Path) -> None:
    np.save(tmp_path / "in_0.npy", np.zeros((5, 1), np.float32))

    with pytest.raises(CompressError, match="cannot convert dense: the file does not run"):
        checked(made, tmp_path, "dense", 1e-3)
