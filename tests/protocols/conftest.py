"""Real brokers for the tests of the session: mosquitto where it is installed, and amqtt."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.broker import Kind, find_mosquitto
from tests.brokers import running_broker


@pytest.fixture(params=["mosquitto", "amqtt"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Which broker to run."""
    wanted: Kind = request.param
    if wanted == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    return wanted


@pytest.fixture
def broker(tmp_path: Path, kind: Kind) -> Iterator[str]:
    """Run a broker; return its URL."""
    with running_broker(tmp_path, kind=kind) as url:
        yield url
