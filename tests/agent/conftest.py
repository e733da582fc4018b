"""What tests of real agents share."""

from collections.abc import Iterator

import pytest

from tests.brokers import running_broker


@pytest.fixture(scope="module")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker for the tests of one module."""
    with running_broker(tmp_path_factory.mktemp("broker")) as url:
        yield url
