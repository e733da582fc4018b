"""Silence for tools that talk a lot: torch's exporter, the converter and the quantizer."""

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Drop what is written to both streams, by Python or by C++, and all warnings and logs.

    What goes wrong comes as an exception; nothing else that these tools say helps a person.
    """
    sys.stderr.flush()
    before, off = os.dup(2), logging.root.manager.disable
    try:
        with (
            open(os.devnull, "wb") as sink,  # noqa: PTH123 - os.devnull is no path to work on
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            logging.disable()
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        logging.disable(off)
