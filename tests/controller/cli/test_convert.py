"""`ctl model convert`: what is refused before any framework is asked."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from controller.cli.exits import ExitCode, code_of
from controller.cli.model_convert import convert
from controller.compress.errors import CompressError

app = typer.Typer()
app.command()(convert)


def ctl(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refusal(done: Result) -> str:
    assert isinstance(done.exception, CompressError)
    assert code_of(done.exception) is ExitCode.INVALID
    return str(done.exception)


def test_a_file_that_is_no_source_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    source = tmp_path / "notes.txt"
    source.write_text("hello")

    assert "it is none that is known here" in refusal(ctl(source))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(b"mine")

    assert "--force takes its place" in refusal(ctl(tmp_path / "net.onnx"))
    assert (tmp_path / "net.tflite").read_bytes() == b"mine"


@pytest.mark.skipif(find_spec("onnx") is not None, reason="the extra `convert-onnx` is installed")
def test_the_extra_is_named_where_it_is_missing(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x08\x09\x12\x07pytorch")

    assert "pip install '.[convert-onnx]'" in refusal(ctl(tmp_path / "net.onnx"))


def test_a_shape_that_is_none_is_refused(tmp_path: Path) -> None:
    assert ctl(tmp_path / "net.onnx", "--shape", "a,b").exit_code == 2
