"""A home with keys, and real brokers of both kinds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.broker import Kind, embedded_broker, find_mosquitto
from controller.home import Home
from controller.signing import generate_keys

FLEET = "test"


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a broker of its own for this test."""
    kind: Kind = request.param
    if kind == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with embedded_broker(data_dir=tmp_path / "broker", kind=kind) as url:
        yield url


@pytest.fixture
def one_home(tmp_path: Path) -> Iterator[Home]:
    """A home of a new fleet on the best broker that is installed."""
    with embedded_broker(data_dir=tmp_path / "broker") as url:
        yield new_home(tmp_path / "home", url)


@pytest.fixture
def home(tmp_path: Path, broker_url: str) -> Home:
    """A home of a new fleet on the broker, with keys."""
    return new_home(tmp_path / "home", broker_url)


def new_home(folder: Path, broker_url: str = "mqtt://127.0.0.1:1") -> Home:
    """Make a home with keys."""
    made = Home.open(folder, broker=broker_url, fleet=FLEET, environ={})
    generate_keys(made)
    return made
