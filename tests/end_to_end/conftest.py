"""Fixtures of the end-to-end tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.stack import Stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A broker, keys, an observer; agents and controllers are the test's to start."""
    stack = Stack(tmp_path)
    try:
        stack.ctl("keygen")
        yield stack
    finally:
        stack.stop()
