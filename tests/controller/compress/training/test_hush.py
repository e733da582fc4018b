import logging
import os
import sys
import warnings

import pytest

from controller.compress.training.hush import hushed


def test_nothing_gets_out_and_everything_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    with hushed():
        sys.stdout.write("print")
        os.write(2, b"from C++")
        warnings.warn("warning", stacklevel=1)
        logging.getLogger("torch").critical("log")
    os.write(2, b"back")
    sys.stdout.write("here")
    sys.stdout.flush()

    assert capfd.readouterr() == ("here", "back")
    assert logging.getLogger("torch").isEnabledFor(logging.CRITICAL)


def test_an_error_gets_out_and_everything_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no"), hushed():
        raise ValueError("no")
    os.write(2, b"back")

    assert capfd.readouterr().err == "back"
