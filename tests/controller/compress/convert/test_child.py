from pathlib import Path

import pytest

from controller.compress.convert.child import run_converter
from controller.compress.convert.kinds import Kind
from controller.compress.convert.messages import Job
from controller.compress.errors import CompressError

CHILD = "tests.controller.compress.convert.children"


def job(name: str, folder: Path, kind: Kind = Kind.ONNX, source: str = "no-such-file") -> Job:
    return Job(kind=kind, source=source, name=name, folder=str(folder), random_rows=1, seed=0)


def test_steps_are_told_and_the_answer_comes_back(tmp_path: Path) -> None:
    heard: list[str] = []

    found = run_converter(job("well", tmp_path), heard.append, CHILD)

    assert (found.tools, heard) == ("none", ["Reading"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("killed", "cannot convert killed: the converter was killed by SIGKILL; is there enough"),
        ("crashed", "cannot convert crashed: the converter ended: last words"),
        ("refused", "cannot convert refused: ValueError: not so"),
        ("bad samples", "cannot use samples s.npz: no array 'x'"),
    ],
)
def test_a_child_that_fails_is_one_sentence(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(CompressError) as raised:
        run_converter(job(name, tmp_path), module=CHILD)

    assert str(raised.value).startswith(message)


def test_the_real_child_refuses_in_a_sentence(tmp_path: Path) -> None:
    """With or without the packages: a missing file, or a missing package."""
    with pytest.raises(CompressError, match=r"^cannot convert it: \w+"):
        run_converter(job("it", tmp_path, Kind.TORCH))
