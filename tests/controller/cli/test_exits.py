import pytest

from controller.cli.exits import ExitCode, code_of, explain, report
from protocols.errors import (
    ArtifactError,
    LinkError,
    MessageError,
    SluiceError,
    TopicError,
    TrustError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SluiceError("cannot"), ExitCode.ERROR),
        (LinkError("cannot"), ExitCode.ERROR),
        (RuntimeError("?"), ExitCode.ERROR),
        (TrustError("cannot"), ExitCode.INVALID),
        (ArtifactError("cannot"), ExitCode.INVALID),
        (MessageError("cannot"), ExitCode.INVALID),
        (TopicError("cannot"), ExitCode.INVALID),
        (TimeoutError("cannot"), ExitCode.PENDING),
    ],
)
def test_the_code_of_an_error(error: Exception, code: ExitCode) -> None:
    assert code_of(error) is code


def test_an_error_is_one_line() -> None:
    assert explain(TrustError("cannot trust x:\n  nobody signed")) == (
        "cannot trust x: nobody signed"
    )
    assert explain(FileNotFoundError(2, "No such file", "a.tflite")) == (
        "cannot go on: No such file: a.tflite"
    )
    assert "KeyError" in explain(KeyError("x"))
    assert "--debug" in explain(KeyError("x"))


def test_a_traceback_only_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LinkError) as raised:
        raise LinkError("cannot reach mqtt://x:1")
    assert report(raised.value, debug=False) is ExitCode.ERROR
    assert capsys.readouterr().err == "cannot reach mqtt://x:1\n"
    report(raised.value, debug=True)
    assert "Traceback" in capsys.readouterr().err
